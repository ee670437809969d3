"""How ranks meet, and what those that are there say where some do not come."""

import os
import socket

import pytest
import torch
import torch.distributed as dist

from ltrsys.errors import LtrsysError
from ltrsys.training.supervision import process_group as module
from ltrsys.training.supervision.heartbeat import Limits
from ltrsys.training.supervision.process_group import free_port, process_group
from ltrsys.world import World

pytestmark = pytest.mark.long

LAUNCHER = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


def test_a_process_alone_needs_no_launcher_and_leaves_the_environment_as_it_was(monkeypatch):
    for name in LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    with process_group(World(), 10.0):
        assert {name: os.environ[name] for name in LAUNCHER[:4]} == {
            "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1",
        }  # fmt: skip
        assert os.environ["MASTER_PORT"].isdecimal()
    assert not any(name in os.environ for name in LAUNCHER)


@pytest.fixture
def port(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    port = free_port()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return port


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_whose_partner_never_comes_says_where_it_waited(rank, port):
    with pytest.raises(LtrsysError) as caught, process_group(World(rank, 2), 1.0):
        pytest.fail("nobody else came")
    message = str(caught.value)
    assert message.startswith(
        f"rank {rank} on {socket.gethostname()}: the 2 ranks did not meet at 127.0.0.1:{port} within 1 s ("
    )
    assert message.endswith("with the same MASTER_ADDR and MASTER_PORT, on hosts that reach that address.")
    assert "\n" not in message


def test_an_address_that_is_not_one_is_told_in_a_line(port):
    os.environ["MASTER_ADDR"] = "no-such-host.invalid"
    message = r"did not meet at no-such-host\.invalid:\d+ within 1 s \("
    with pytest.raises(LtrsysError, match=message), process_group(World(1, 2), 1.0):
        pytest.fail("there is no such host")


WAIT, HEARTBEAT = "TORCH_NCCL_WAIT_TIMEOUT_DUMP_MILSEC", "TORCH_NCCL_HEARTBEAT_TIMEOUT_SEC"


@pytest.fixture
def torch_would_end_a_rank_after(monkeypatch):
    """Return how long torch's two threads sleep after a failure of NCCL, in seconds, by the variables they see."""
    seen = {}

    def look(*_, **__):
        seen.update(os.environ)

    monkeypatch.setattr(module, "choose_device", lambda wanted, world: torch.device("cuda", 0))
    monkeypatch.setattr(dist, "init_process_group", look)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    for name in (WAIT, HEARTBEAT):
        monkeypatch.delenv(name, raising=False)

    def seconds(timeout):
        with process_group(World(), timeout):
            return 4 * int(seen.get(WAIT, 15_000)) / 1000, int(seen.get(HEARTBEAT, 480))

    return seconds


@pytest.mark.parametrize("timeout", [1.5, 30.0, 600.0, 3600.0])
def test_torch_lets_the_watchdog_speak_first_under_nccl(timeout, torch_would_end_a_rank_after):
    watchdog, monitor = torch_would_end_a_rank_after(timeout)
    assert watchdog >= max(60, timeout)
    assert monitor >= max(480, timeout)
    limits = Limits.within(timeout)
    assert max(limits.silent, limits.stuck) < min(watchdog, monitor)
    assert not {WAIT, HEARTBEAT} & os.environ.keys()


def test_torch_can_count_the_longest_timeout(torch_would_end_a_rank_after):
    assert 1000 * max(torch_would_end_a_rank_after(1e12)) < 2**31


def test_what_is_set_for_torchs_watchdog_stays(monkeypatch, torch_would_end_a_rank_after):
    monkeypatch.setenv(WAIT, "2500")
    monkeypatch.setenv(HEARTBEAT, "20")
    assert torch_would_end_a_rank_after(600.0) == (10, 20)
    assert (os.environ[WAIT], os.environ[HEARTBEAT]) == ("2500", "20")
