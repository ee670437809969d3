"""What runs before a commit is what `make lint` runs."""

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def test_hooks_before_a_commit_are_the_commands_of_make_lint():
    (recipe,) = re.findall(r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in repo["hooks"]] == commands
    assert all(hook["language"] == "system" and not hook["pass_filenames"] for hook in repo["hooks"])
