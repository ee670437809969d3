from collections.abc import Iterator

import pytest

from tests.cluster import hosts, slurm


@pytest.fixture
def two_hosts() -> Iterator[hosts.TwoHosts]:
    if reason := hosts.why_not():
        pytest.skip(reason)
    two = hosts.TwoHosts()
    yield two
    two.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[slurm.SlurmCluster]:
    if reason := slurm.why_not():
        pytest.skip(reason)
    cluster = slurm.SlurmCluster(tmp_path_factory.mktemp("slurm"))
    yield cluster
    cluster.close()
