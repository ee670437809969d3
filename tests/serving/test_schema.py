"""The OpenAPI document says what the server does: schemathesis sends what it allows, and much that it does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving.conftest import Running

pytestmark = pytest.mark.long

HOOKS = """
import io

import schemathesis
from hypothesis import strategies
from PIL import Image


def picture(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (24, 32), "grey").save(buffer, kind)
    return buffer.getvalue()


pictures = strategies.sampled_from([picture("JPEG"), picture("PNG")])
schemathesis.openapi.format("binary", pictures)
for kind in ("image/jpeg", "image/png", "application/octet-stream"):
    schemathesis.openapi.media_type(kind, pictures)
"""


def test_schemathesis_finds_nothing(server: Running, tmp_path: Path) -> None:
    (tmp_path / "pictures.py").write_text(HOOKS)
    command = [sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"]
    arguments = ["run", f"{server.url}openapi.json", "--max-examples", "15", "--seed", "0", "--no-color"]
    done = subprocess.run(
        [*command, *arguments],
        cwd=tmp_path,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "pictures", "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 selected / 4 total" in done.stdout
    assert "No issues found" in done.stdout, done.stdout
