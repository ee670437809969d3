"""Datasets from strangers: nothing in them names a file to write or a command to run."""

import hashlib
import shutil
import tarfile

import pytest
import torch

from ltrsys.cli.main import main
from ltrsys.config.reading import load_config
from ltrsys.data.config import DataConfig
from ltrsys.data.index.dataset import Dataset
from ltrsys.data.loading.loader import EvaluationLoader
from ltrsys.data.location import folder_or_url
from ltrsys.data.reading.opening import open_dataset
from ltrsys.data.reading.verify import verify
from ltrsys.errors import UsageError
from ltrsys.world import World
from tests.data.servers import serving


@pytest.fixture
def climbing(tiny_shards, tmp_path):
    """The tiny dataset, whose first test image is a member of a name that leads out; its places and bytes stay."""
    shards = shutil.copytree(tiny_shards, tmp_path / "stranger" / "deep" / "shards")
    split = Dataset.open(shards).split("test")
    header = tarfile.TarInfo("../../../escaped.jpg")
    header.size = int(split.size[0])
    with open(split.shard_path(0), "r+b") as shard:
        shard.seek(int(split.offset[0]) - 512)
        shard.write(header.tobuf(tarfile.USTAR_FORMAT))
    with tarfile.open(split.shard_path(0)) as archive:  # the plant is one: others would follow it
        assert archive.getnames()[1] == "../../../escaped.jpg"
    return shards


def images_of(config):
    loader = EvaluationLoader(
        open_dataset(config).split("test"), config, batch_size=50, world=World(), device=torch.device("cpu")
    )
    try:
        return torch.cat([batch.images for batch in loader])
    finally:
        loader.close()


def test_a_member_that_climbs_out_of_its_folder_writes_nothing(climbing, tiny_shards, tmp_path):
    sizes = {"image_size": 28, "resize": 32, "threads": 1}
    assert torch.equal(
        images_of(DataConfig(shards=climbing, **sizes)), images_of(DataConfig(shards=tiny_shards, **sizes))
    )
    (problem,) = verify(Dataset.open(climbing))
    assert "(sample 0): the shard has `000000000.cls` and `../../../escaped.jpg` there" in problem
    assert not list(tmp_path.rglob("*escaped*"))


def test_a_served_member_that_climbs_out_of_the_cache_writes_nothing(climbing, tmp_path):
    """Its checksum is not the record's here; with the record's changed too, it is a shard like any other."""
    record = (climbing / "dataset.json").read_text()
    split = Dataset.open(climbing).split("test")
    now = hashlib.sha256(split.shard_path(0).read_bytes()).hexdigest()
    (climbing / "dataset.json").write_text(record.replace(split.record.shards[0].sha256, now))
    with serving(climbing) as server:
        config = DataConfig(shards=server.url, cache=tmp_path / "cache", image_size=28, resize=32, threads=1)
        assert len(images_of(config)) == 240
    assert not list(tmp_path.rglob("*escaped*"))


MARKER = "something-ran"
COMMANDS = [
    f"pipe:touch {MARKER}",
    f"PIPE:touch {MARKER}",
    f"pipe: touch {MARKER} #.tar",
    f"file:///tmp/x;touch {MARKER}",
    f"ext::sh -c touch% {MARKER}",
    f"gs://bucket/$(touch {MARKER})",
]


@pytest.mark.parametrize("location", COMMANDS)
def test_a_url_is_never_a_command(location, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("name: a\ndata: {shards: nowhere}\n")
    with pytest.raises(UsageError, match=r"is not a scheme for shards: give a folder .* or a URL of http, https, s3"):
        load_config(tmp_path / "config.yaml", [f"data.shards='{location}'"])
    for arguments in (["inspect", location], ["inspect", location, "--verify"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
        printed = capsys.readouterr().err
        assert printed.count("\n") == 1
        assert "is not a scheme for shards" in printed
    assert not (tmp_path / MARKER).exists()


def test_what_a_shell_would_run_inside_a_url_is_part_of_a_name(climbing, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with serving(climbing) as server:
        for folder in (f"$(touch {MARKER})", f"`touch {MARKER}`", f";touch {MARKER}", f"|touch {MARKER}"):
            with pytest.raises(SystemExit) as ended:
                main(["inspect", f"{server.url}/{folder}", "--cache", str(tmp_path / "cache")])
            assert ended.value.code == 1
            assert "there is no dataset index here" in capsys.readouterr().err
    assert not list(tmp_path.rglob(MARKER))


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("https://me:secret@host/shards", "a name and a password do not belong into a URL"),
        ("http://host/shards?X-Amz-Signature=1", "is the URL of a folder"),
        ("http:///shards", "HOST/FOLDER is the URL of a folder"),
        ("s3:bucket", "HOST/FOLDER is the URL of a folder"),
    ],
)
def test_what_is_not_the_url_of_a_folder_is_refused(location, message):
    with pytest.raises(ValueError, match=message):
        folder_or_url(location)


def test_a_folder_may_have_any_name(tiny_shards, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny_shards, tmp_path / "pipe:touch x")
    assert len(open_dataset(DataConfig(shards="./pipe:touch x")).split("test")) == 240
    assert folder_or_url("https://host/a/b/") == "https://host/a/b"
