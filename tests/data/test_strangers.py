"""What a dataset from strangers names is never used as a path, nor handed to a shell."""

import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from ltrsys.config import DataConfig
from ltrsys.data.index import Dataset
from ltrsys.data.reader import ShardReader
from ltrsys.data.remote import open_dataset
from ltrsys.data.tar import BLOCK, sample_key
from ltrsys.data.verify import verify


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


@pytest.mark.parametrize("url", ["pipe:touch marker", "PIPE:touch marker", "file:///etc", "ssh://host/shards"])
def test_a_url_that_is_a_command_is_refused_by_its_scheme_and_runs_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValidationError, match=rf"`{url.split(':')[0]}:` is not a scheme for shards"):
        open_dataset(DataConfig.model_validate({"shards": url}))
    assert not files_in(tmp_path)
