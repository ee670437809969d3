from collections.abc import Iterator

import pytest

from tests.cluster.hosts import TwoHosts, why_not


@pytest.fixture
def two_hosts() -> Iterator[TwoHosts]:
    if reason := why_not():
        pytest.skip(reason)
    hosts = TwoHosts()
    yield hosts
    hosts.close()
