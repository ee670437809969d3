"""The wheel, installed and used outside the checkout."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, files.split("\0")):
        if name.startswith(("ltrsys", "kernels", "configs", "setup.py", "pyproject.toml", "README.md", "LICENSE")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_symlink():
                (source / name).symlink_to(os.readlink(ROOT / name))
            else:
                (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", folder / "site", wheel], check=True)
    return folder


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed / "site"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from ltrsys.cli.main import main; main()", *arguments]
    return subprocess.run(command, cwd=installed, env=environment, capture_output=True, text=True, timeout=300)


def test_everything_is_in_it(installed):
    names = {path.relative_to(installed / "site").as_posix() for path in (installed / "site").rglob("*")}
    assert {
        "ltrsys/py.typed",
        "ltrsys/kernels/__init__.py",
        "ltrsys/kernels/cpu/class_sums.cpp",
        "ltrsys/kernels/gpu/cuda/class_sums.cu",
        "ltrsys/configs/glyphs/demo.yaml",
        "ltrsys/serving/static/page.js",
        "ltrsys/data/plan/samplers/powers.py",
        "ltrsys/pages/static/page.html.j2",
        "ltrsys/pages/static/page.css",
        "ltrsys/pages/static/start.js",
        "ltrsys/pages/panels/classes.js",
    } <= names


def test_a_run_is_trained_and_balanced_without_the_checkout(installed):
    small = ("--num-classes", "4", "--max-count", "20", "--workers", "1")
    done = run(installed, "shards", "glyphs", "--out", "data/glyphs", *small)
    assert done.returncode == 0, done.stderr
    changes = ("train.epochs=1", "train.batch_size=8", "data.lanes=12", "train.engine=ddp", "tracking.wandb=disabled")
    done = run(installed, "train", "--config", "glyphs/demo.yaml", *changes)
    assert done.returncode == 0, done.stderr
    assert "trained 1 epochs" in done.stdout
    done = run(installed, "balance", "runs/glyphs", "--classifiers", "joint,ncm,tau", "--json")
    assert done.returncode == 0, done.stderr
    assert (installed / "runs" / "glyphs" / "results.json").exists()
    done = run(installed, "report", "runs/glyphs")
    assert done.returncode == 0, done.stderr
    assert (installed / "runs" / "glyphs" / "report.html").exists()
