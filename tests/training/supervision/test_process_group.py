"""How ranks meet, and what those that are there say where some do not come."""

import os
import socket

import pytest

from ltrsys.errors import LtrsysError
from ltrsys.training.supervision.process_group import free_port, process_group
from ltrsys.world import World

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
