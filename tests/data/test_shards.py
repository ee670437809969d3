from ltrsys.data.index import Dataset


def test_tiny(tiny_shards):
    d = Dataset.open(tiny_shards)
    assert len(d.split("train")) == 425
    s = d.split("train")
    for k in range(0, 425, 50):
        with open(s.shard_path(int(s.shard[k])), "rb") as f:
            f.seek(int(s.offset[k]))
            b = f.read(int(s.size[k]))
            assert b[:2] == b"\xff\xd8"
            assert b[-2:] == b"\xff\xd9"
