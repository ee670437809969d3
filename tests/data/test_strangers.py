"""What a dataset from strangers names is never used as a path, nor handed to a shell."""

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from ltrsys.data.index import Dataset
from ltrsys.data.reader import ShardReader
from ltrsys.data.tar import BLOCK, sample_key
from ltrsys.data.verify import verify
from ltrsys.errors import DataError


@pytest.fixture
def shards(tiny_shards: Path, tmp_path: Path) -> Path:
    """A copy to plant things in."""
    return Path(shutil.copytree(tiny_shards, tmp_path / "inner" / "shards"))


def files_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("name", ["../planted.jpg", "../../../../planted.jpg", "/tmp/ltrsys-planted.jpg"])
def test_a_members_name_that_leaves_the_folder_is_told_and_writes_nothing(
    shards: Path, tmp_path: Path, name: str
) -> None:
    split = Dataset.open(shards).split("val")
    header_at = int(split.offset[3]) - BLOCK
    path = split.shard_path(0)
    with open(path, "r+b") as shard:
        shard.seek(header_at)
        member = tarfile.TarInfo.frombuf(shard.read(BLOCK), "utf-8", "strict")
        member.name = name
        shard.seek(header_at)
        shard.write(member.tobuf(tarfile.USTAR_FORMAT))
    before, outside = files_in(tmp_path), Path(name).exists()
    whole = ShardReader(Dataset.open(shards).split("val")).read(np.arange(len(split)))
    (problem,) = verify(Dataset.open(shards))
    assert f"(sample 3): the shard has `{sample_key(3)}.cls` and `{name}` there" in problem
    assert [len(image) for image in whole] == split.size.tolist()
    assert files_in(tmp_path) == before
    assert Path(name).exists() == outside


@pytest.mark.parametrize("name", ["../../../outside.tar", "/etc/passwd", "..", "", "pipe:touch marker"])
def test_a_shards_name_that_is_a_path_is_refused(shards: Path, name: str) -> None:
    path = shards / "dataset.json"
    record = json.loads(path.read_text())
    record["splits"]["train"]["shards"][0]["name"] = name
    path.write_text(json.dumps(record))
    with pytest.raises(DataError, match=r"not a dataset index .*splits\.train\.shards\.0\.name"):
        Dataset.open(shards)


def test_a_pipe_url_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for url in ("pipe:touch marker", f"pipe:touch {tmp_path / 'marker'}", "pipe:touch marker |"):
        with pytest.raises(DataError, match="there is no dataset index"):
            Dataset.open(Path(url))
    assert not files_in(tmp_path)
