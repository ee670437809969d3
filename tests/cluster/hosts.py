"""Two hosts on one machine: network namespaces with names of their own, joined by a switch that can be cut."""

import os
import shutil
import subprocess
import uuid

ADDRESSES = {"host-a": "10.77.0.1", "host-b": "10.77.0.2"}
INTERFACE = "eth0"


def why_not() -> str | None:
    """Return what this machine lacks to play two hosts, or None."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [program for program in ("ip", "unshare", "hostname") if shutil.which(program) is None]
    if missing:
        return f"missing: {', '.join(missing)} (Debian: iproute2, util-linux, hostname)"
    probe = f"ltrsys-probe-{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "netns", "add", probe], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        return f"no network namespace can be made: {made.stderr.strip()}"
    bridge = _ip("-n", probe, "link", "add", "name", "switch", "type", "bridge", check=False)
    _ip("netns", "del", probe)
    return f"no bridge can be made: {bridge.stderr.strip()}" if bridge.returncode != 0 else None


class TwoHosts:
    """`host-a` and `host-b`. A cut is silent: neither host's own interface goes down."""

    def __init__(self) -> None:
        tag = uuid.uuid4().hex[:8]
        self._switch = f"ltrsys-{tag}-switch"
        self._namespaces = {host: f"ltrsys-{tag}-{host}" for host in ADDRESSES}
        for namespace in (self._switch, *self._namespaces.values()):
            _ip("netns", "add", namespace)
        _ip("-n", self._switch, "link", "add", "name", "switch", "type", "bridge")
        for host, namespace in self._namespaces.items():
            end = ("name", INTERFACE, "netns", namespace)
            _ip("link", "add", *end, "type", "veth", "peer", "name", host, "netns", self._switch)
            _ip("-n", self._switch, "link", "set", "dev", host, "master", "switch", "up")
            _ip("-n", namespace, "addr", "add", f"{ADDRESSES[host]}/24", "dev", INTERFACE)
            for interface in ("lo", INTERFACE):
                _ip("-n", namespace, "link", "set", "dev", interface, "up")
        self.mend()

    def on(self, host: str, command: list[str]) -> list[str]:
        """Return the command that runs `command` on `host`, in the place of this one."""
        named = 'hostname "$0" && exec "$@"'
        return ["ip", "netns", "exec", self._namespaces[host], "unshare", "--uts", "sh", "-c", named, host, *command]

    def cut(self) -> None:
        """Let nothing through between the hosts."""
        _ip("-n", self._switch, "link", "set", "dev", "switch", "down")

    def mend(self) -> None:
        """Let everything through."""
        _ip("-n", self._switch, "link", "set", "dev", "switch", "up")

    def close(self) -> None:
        """Remove the namespaces, and with them what is in them."""
        for namespace in (*self._namespaces.values(), self._switch):
            _ip("netns", "del", namespace)


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=check)
