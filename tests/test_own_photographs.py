"""The five commands of docs/own_photographs.md, on a stranger's folder."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from ltrsys.cli.main import main

pytestmark = pytest.mark.long
PAGE = (Path(__file__).parent.parent / "docs" / "own_photographs.md").read_text()
COMMANDS = re.findall(r"^ltrsys (.*)$", PAGE, re.MULTILINE)
SMALL = {
    "init": ["--backbone", "resnet10"],
    "train": [
        "train.epochs=1",
        "data.lanes=12",
        "data.resize=32",
        "data.image_size=32",
        "tracking.wandb=disabled",
        "train.engine=ddp",
    ],
}
"""What makes them quick."""


def ltrsys(command: str) -> int:
    arguments = shlex.split(command)
    with pytest.raises(SystemExit) as exit_:
        main([*arguments, *SMALL.get(arguments[0], [])])
    return int(exit_.value.code or 0)


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Three species of 24, 12 and 2 photographs in four formats, and what else lies in such a folder."""
    pillow_heif.register_heif_opener()
    random = np.random.default_rng(0)
    root = tmp_path / "photographs"
    for name, count in (("Quercus robur", 24), ("Acer campestre", 12), ("Ulmus laevis", 2)):
        (root / name).mkdir(parents=True)
        for number in range(count):
            image = Image.fromarray(random.integers(0, 256, (40, 48, 3), dtype=np.uint8))
            suffix, format_ = (("jpg", "JPEG"), ("PNG", "PNG"), ("heic", "HEIF"), ("webp", "WEBP"))[number % 4]
            image.save(root / name / f"IMG_{number:04d}.{suffix}", format=format_)
    (root / "Quercus robur" / "._IMG_0000.jpg").write_bytes(b"of another system")
    (root / "Quercus robur" / "notes.txt").write_text("in spring")
    (root / "Acer campestre" / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    return root


def test_five_commands_lead_to_the_table(
    photographs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [command.split()[0] for command in COMMANDS] == ["shards", "inspect", "init", "train", "balance"]
    monkeypatch.chdir(photographs.parent)
    shards = COMMANDS[0]
    assert ltrsys(shards) == 1
    assert "1 of 39 images cannot be used: Acer campestre/broken.jpg" in capsys.readouterr().err
    (photographs / "Acer campestre" / "broken.jpg").unlink()  # as the message says
    for command in COMMANDS:
        assert ltrsys(command) == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "mean, over the classes, is the fair column" in " ".join(printed.split())
    results = json.loads(Path("runs/mine/results.json").read_text())
    assert {line["classifier"] for line in results["results"]} == {"joint", "ncm", "crt", "tau", "lws"}
    assert Path("sheet.png").exists()
