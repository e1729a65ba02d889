"""A network: a switch, with its subnets and its faults."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from itertools import count
from typing import TYPE_CHECKING

from .errors import LabError
from .lifeline import Lifeline
from .polling import patient
from .process import enter, run

if TYPE_CHECKING:
    from .host import Host, Link

BRIDGE = "br0"

# The switch has no address and no IPv6 of its own: it only forwards frames.
SWITCH = f"""\
if [ -d /proc/sys/net/ipv6 ]; then echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6; fi
ip link add {BRIDGE} type bridge mcast_snooping 0
ip link set {BRIDGE} up
"""


class Network:
    """One segment that hosts attach to; made by `Lab.internet` and `Lab.lan`.

    The first address of each subnet is the gateway's, when the network has a `router`.
    """

    def __init__(self, name: str, number: int, lifeline: Lifeline, subnets: Iterable[str]) -> None:
        self.name = name
        self.router: Host | None = None
        self.subnets = [ip_network(subnet) for subnet in subnets]
        self._number = number
        self._switch = lifeline.hold(["--net"], SWITCH)
        self._ports = count(1)
        self._macs = count(1)
        self._taken: set[IPv4Address | IPv6Address] = {
            _gateway_of(subnet) for subnet in self.subnets
        }
        self._cuts: list[tuple[Link, Link]] = []
        self._loss_percent = 0

    # Faults

    def cut(self, a: Host, b: Host) -> None:
        """Drop all IP packets between the addresses that two hosts have on this network."""
        self._cuts.append((a.link(self), b.link(self)))
        self.apply_faults()

    def lose(self, percent: int) -> None:
        """Drop this share of all frames, at random."""
        self._loss_percent = percent
        self.apply_faults()

    def heal(self) -> None:
        """Take back all cuts and losses."""
        self._cuts.clear()
        self.lose(0)

    # Addresses

    def subnet_of(self, address: str) -> IPv4Network | IPv6Network:
        """The subnet that holds an address. Raises LabError when there is none."""
        for subnet in self.subnets:
            if ip_address(address) in subnet:
                return subnet
        raise LabError(f"{address} is in no subnet of {self.name}")

    def gateway(self, subnet: IPv4Network | IPv6Network, host: Host) -> str | None:
        """The address that `host` sends through to leave; None when it cannot."""
        return str(_gateway_of(subnet)) if self.router not in (None, host) else None

    def take(self, address: str | None, address6: str | None) -> list[str]:
        """The given addresses, or free ones of the first subnets of their kind.

        Raises LabError when an address is in no subnet, or a subnet has none left.
        """
        taken = [
            wish or self._free(version)
            for version, wish in ((4, address), (6, address6))
            if wish or any(subnet.version == version for subnet in self.subnets)
        ]
        for one in taken:
            self.subnet_of(one)
            self._taken.add(ip_address(one))
        return taken

    def _free(self, version: int) -> str:
        subnet = next(subnet for subnet in self.subnets if subnet.version == version)
        for address in subnet.hosts():
            if address not in self._taken:
                return str(address)
        raise LabError(f"{self.name} has no free address in {subnet}")

    def put_router(self, router: Host) -> None:
        """Give the gateway's address of each subnet to a host, which forwards by itself.

        Hosts that are attached later have their default route through it.
        """
        router.connect(self, [str(_gateway_of(subnet)) for subnet in self.subnets])
        self.router = router

    # The switch

    def next_port(self) -> str:
        """A name for the switch's end of a new link."""
        return f"port{next(self._ports)}"

    def next_mac(self) -> str:
        """A hardware address that no other link of the lab has."""
        number = next(self._macs)
        return f"02:00:00:{self._number:02x}:{number >> 8:02x}:{number & 255:02x}"

    def connect(self, link: Link, pid: int) -> None:
        """Lay the cable from the switch to the namespace of a process."""
        self._ip(
            f"link add {link.port} type veth "
            f"peer name {link.interface} address {link.mac} netns {pid}",
            f"link set {link.port} master {BRIDGE} {_state(link)}",
        )

    def disconnect(self, link: Link) -> None:
        """Take the cable away; the kernel may have done so already."""
        self._in_switch("ip", "link", "delete", link.port, check=False)

    def set_port(self, link: Link) -> None:
        """Put the switch's end up or down, as the link says."""
        self._ip(f"link set {link.port} {_state(link)}")

    def apply_faults(self) -> None:
        """Make the switch drop what it should now; to be called when an address changes."""
        if self._cuts or self._loss_percent:
            rules = "\n".join(self._fault_rules())
            ruleset = f"flush ruleset\ntable bridge faults {{\nchain forward {{\n{rules}\n}}\n}}\n"
        else:
            ruleset = "flush ruleset\n"
        self._in_switch("nft", "-f", "-", stdin=ruleset)

    def _fault_rules(self) -> Iterator[str]:
        yield "type filter hook forward priority 0"
        for a, b in self._cuts:
            for one, other in ((a, b), (b, a)):
                yield f"ip saddr {one.address} ip daddr {other.address} drop"
                if one.address6 and other.address6:
                    yield f"ip6 saddr {one.address6} ip6 daddr {other.address6} drop"
        if self._loss_percent:
            yield f"numgen random mod 100 < {self._loss_percent} drop"

    def _ip(self, *batch: str) -> None:
        self._in_switch("ip", "-batch", "-", stdin="\n".join(batch))

    def _in_switch(
        self, *command: str, stdin: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return run(
            f"switch of {self.name}",
            enter(self._switch.pid, "net"),
            command,
            check=check,
            stdin=stdin,
            env=None,
            timeout=patient(10),
        )


def _gateway_of(subnet: IPv4Network | IPv6Network) -> IPv4Address | IPv6Address:
    return subnet.network_address + 1


def _state(link: Link) -> str:
    return "up" if link.plugged else "down"
