"""The cache by itself: what stays and what goes. With a server behind it: `test_remote.py`."""

import hashlib
import os

from ltrsys.data.reading.remote.cache import ShardCache


def test_what_was_used_longest_ago_goes_first_and_what_is_open_never(tmp_path):
    cache = ShardCache(tmp_path, 250)
    content = {name: name.encode() * 100 for name in "abcd"}

    def path(name):
        return tmp_path / "dataset" / "train" / "shards" / name

    def fetch(name):
        sha256 = hashlib.sha256(content[name]).hexdigest()
        cache.fetch(path(name), 100, sha256, lambda: [content[name]])

    def there():
        return {name for name in "abcd" if path(name).exists()}

    for time, name in enumerate("ab"):
        fetch(name)
        os.utime(path(name), (time, time))
    cache.open(path("a"))  # and given back at once: used later than b
    fetch("c")
    assert there() == {"a", "c"}
    held = cache.open(path("a"))
    os.utime(path("a"), (0, 0))
    fetch("d")
    assert there() == {"a", "d"}
    fetch("c")
    assert there() == {"a", "c"}
    assert held.read(0, 100) == content["a"]


def test_more_than_the_size_is_kept_only_where_it_is_in_use(tmp_path, caplog):
    cache = ShardCache(tmp_path, 150)
    held = []
    for name in "ab":
        path = tmp_path / "dataset" / "train" / "shards" / name
        cache.fetch(path, 100, hashlib.sha256(bytes(100)).hexdigest(), lambda: [bytes(100)])
        held.append(cache.open(path))
    assert "more than data.cache_gb is in use at once" in caplog.text
    assert all(file is not None for file in held)
