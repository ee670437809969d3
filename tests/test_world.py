import os

import pytest

from ltrsys.errors import UsageError
from ltrsys.world import World


@pytest.fixture
def environment(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "LOCAL_SIZE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def test_without_a_launcher_a_process_is_alone(environment):
    assert World.detect() == World(rank=0, world_size=1, local_rank=0, local_world_size=1)
    assert World.detect().is_main


def test_the_launchers_environment_is_read(environment):
    for name, value in {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}.items():
        environment.setenv(name, value)
    assert World.detect() == World(rank=5, world_size=8, local_rank=1, local_world_size=4)
    assert not World.detect().is_main


@pytest.mark.parametrize(
    ("visible", "gpu"),
    [
        (None, 1),
        ("", 1),
        ("0,1", 1),
        ("GPU-5f0c8e0a-1111,GPU-5f0c8e0a-2222", 1),
        ("1", 0),
        ("GPU-5f0c8e0a-2222", 0),
        ("MIG-1b5d3a51-8d3c", 0),
    ],
)
def test_a_rank_that_sees_one_gpu_has_number_0_for_deepspeed_too(environment, visible, gpu):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        environment.setenv(name, value)
    if visible is not None:
        environment.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert World.detect() == World(rank=1, world_size=2, local_rank=gpu, local_world_size=2)
    assert os.environ["LOCAL_RANK"] == str(gpu)


@pytest.mark.parametrize(("name", "value", "message"), [("RANK", "x", "whole numbers"), ("RANK", "1", "rank 1")])
def test_a_wrong_environment_is_told(environment, name, value, message):
    environment.setenv(name, value)
    with pytest.raises(UsageError, match=message):
        World.detect()
