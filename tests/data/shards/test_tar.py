"""The tar files are those of webdataset's own writer."""

import hashlib
import io

import pytest
import webdataset

from ltrsys.data.shards.tar import write_tar


@pytest.mark.parametrize("sizes", [[], [1], [511, 512, 513], [10_240, 25_000, 7, 8_000]], ids=str)
@pytest.mark.parametrize("first", [0, 999_999_998], ids=str)
def test_the_bytes_are_those_of_webdatasets_writer(sizes: list[int], first: int) -> None:
    jpegs = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    labels = [8141 * number for number in range(len(sizes))]
    ours, theirs = io.BytesIO(), io.BytesIO()
    sha256 = write_tar(ours, first, labels, jpegs)
    with webdataset.TarWriter(theirs, mtime=0, user="", group="", encoder=False) as writer:
        for sample, (label, jpeg) in enumerate(zip(labels, jpegs, strict=True), start=first):
            writer.write({"__key__": f"{sample:09d}", "cls": str(label).encode(), "jpg": jpeg})
    assert ours.getvalue() == theirs.getvalue()
    assert sha256 == hashlib.sha256(theirs.getvalue()).hexdigest()
