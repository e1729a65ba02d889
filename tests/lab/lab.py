"""The lab: what makes hosts and networks, and ends them all."""

from __future__ import annotations

import atexit
import functools
import os
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from .disk import Disk
from .errors import LabError
from .host import Host
from .lifeline import Lifeline
from .nat import FORWARD, Nat, router_script
from .network import Network

if TYPE_CHECKING:
    from typing_extensions import Self

# Hosts see their own /dev/shm and /run instead, so neither the lab's files nor others' disks.
# Memory is the faster one, where there is enough.
MEMORY, ELSE = Path("/dev/shm"), Path("/run")
ENOUGH_BYTES = 2 << 30

PUBLIC_SUBNETS = ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "2001:db8::/64")


class Lab:
    """Hosts and networks made of anonymous namespaces, with no way to the machine's network.

    A context manager; all that it made is gone when it ends, and also when this process ends
    without ending it, by whatever signal. Raises LabError unless root asks.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise LabError("the lab makes namespaces, and so needs root")
        self.directory = Path(tempfile.mkdtemp(prefix="lab-", dir=_base()))
        self.hosts: dict[str, Host] = {}
        self.shared = self.directory / "shared"
        self._logs = self.directory / "logs"
        for directory in (self.shared, self._logs):
            directory.mkdir()
        self._lifeline = Lifeline(self.directory)
        self._network_numbers = count(1)
        atexit.register(self.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End every host and network, and wait until nothing of them is left. Repeat-safe."""
        atexit.unregister(self.close)
        self._lifeline.cut()
        for host in self.hosts.values():
            host.reap()

    def internet(self, name: str = "internet") -> Network:
        """A segment with the public ranges for documentation, and a gateway between them.

        Addresses are handed out from 203.0.113.0/24 and 2001:db8::/64; those of 198.51.100.0/24
        and 192.0.2.0/24 may be asked for.
        """
        network = self._network(name, *PUBLIC_SUBNETS)
        gateway = self._host(f"{name}-gateway", startup=FORWARD)
        network.put_router(gateway)
        return network

    def lan(
        self,
        name: str,
        cidr: str,
        *,
        cidr6: str | None = None,
        nat: Nat | None = None,
        behind: Network | None = None,
        address: str | None = None,
    ) -> Network:
        """A private segment; `behind` another network it has a router, at its first address.

        With `nat` the router translates IPv4 and drops what nobody inside asked for; without, it
        forwards all, and the network outside knows the way in. `address` is the router's outside.
        """
        if nat and not behind:
            raise LabError(f"{name}: address translation needs a network to be behind of")
        network = self._network(name, cidr, *filter(None, [cidr6]))
        if behind:
            router = self._host(f"{name}-router", startup=router_script(nat))
            outside = router.attach(behind, address)
            network.put_router(router)
            if behind.router:
                for subnet in network.subnets:
                    via = outside.address if subnet.version == 4 else outside.address6
                    if via and (nat is None or subnet.version == 6):
                        behind.router.route(str(subnet), via)
        return network

    def host(
        self,
        name: str,
        on: Network | None = None,
        address: str | None = None,
        address6: str | None = None,
        *,
        bare_python: bool = False,
        linked: Mapping[str, Path] | None = None,
    ) -> Host:
        """A running host, attached to a network if one is given.

        With `bare_python` the system's Python has nothing but the standard library. `linked` are
        directories, by their place on its disk, that it gets by hard links: nobody may write
        into their files, and they must lie on another host's disk.
        """
        host = self._host(name, bare_python=bare_python, linked=linked or {})
        if on:
            host.attach(on, address, address6)
        return host

    def logs(self) -> dict[str, str]:
        """What background commands wrote so far, by the name of the log file."""
        return {log.name: log.read_text("utf-8", "replace") for log in sorted(self._logs.iterdir())}

    def _network(self, name: str, *subnets: str) -> Network:
        return Network(name, next(self._network_numbers), self._lifeline, subnets)

    def _host(
        self,
        name: str,
        *,
        bare_python: bool = False,
        startup: str = "",
        linked: Mapping[str, Path] = MappingProxyType({}),
    ) -> Host:
        if name in self.hosts:
            raise LabError(f"there is a host {name} already")
        disk = Disk(self.directory / "disks" / name, self.shared, name, bare_python)
        for place, tree in linked.items():
            disk.link(place, tree)
        host = self.hosts[name] = Host(name, self._lifeline, disk, self._logs, startup)
        return host


@functools.cache
def _base() -> Path:
    try:
        status = os.statvfs(MEMORY)
    except FileNotFoundError:
        return ELSE
    return MEMORY if status.f_bavail * status.f_frsize >= ENOUGH_BYTES else ELSE
