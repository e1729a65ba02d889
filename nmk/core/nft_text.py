"""What the chains of a network's nft table are written with (nft(8))."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import collapse_addresses, ip_network

from nmk.core.parse import Range
from nmk.core.peers import View

FAMILY = {4: "ip", 6: "ip6"}
Chains = Iterator[tuple[str, list[str]]]


@dataclass(frozen=True, slots=True)
class Own:
    """What only this machine knows: names of the table and the interface, the LANs that it is in.

    `subnets`: these LANs, each with the interface that it is at.
    `meshes`: the interfaces of its other networks; `closed`: those of them by which nothing may
    come to be forwarded; `forwards`: its kernel does, whether or not the network has it so;
    `inner`: the bridges that lead to containers and virtual machines alone, with their subnets;
    `rivals`: the interfaces of its other networks, with these networks' own ranges; `loopback`: its
    kernel lets 127.0.0.0/8 be reached from outside (kernel: ip-sysctl, route_localnet); `kept_in`:
    another network's kill switch lets nothing out; `lowest_port`: that its connections get.
    """

    table: str
    interface: str
    subnets: tuple[tuple[str, str], ...] = ()
    meshes: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()
    forwards: bool = False
    inner: tuple[tuple[str, str], ...] = ()
    rivals: tuple[tuple[str, str], ...] = ()
    loopback: bool = False
    kept_in: bool = False
    lowest_port: int = 32768  # as kernels have it (ip-sysctl, ip_local_port_range)

    @property
    def lans(self) -> tuple[str, ...]:
        """The ranges of the LANs that it is in."""
        return tuple(cidr for _, cidr in self.subnets)


def others(view: View) -> list[str]:
    """The ranges outside the network that others lead to, as the network sees them."""
    ranges = [cidr for peer in view.peers.values() for cidr in peer.gateway.ranges]
    return [*ranges, *(cidr for client in view.clients.values() for cidr in client.ranges)]


def names(*interfaces: str) -> str:
    """Interfaces as a set of nft's."""
    return "{ " + ", ".join(f'"{name}"' for name in interfaces) + " }"


def sources(places: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The conditions for what comes by one of the interfaces from the ranges that it has."""
    for name, family, ranges in _places(places):
        yield f'iifname "{name}" {family} saddr {ranges}'


def targets(places: Sequence[tuple[str, str]]) -> Iterator[str]:
    """The conditions for what goes by one of the interfaces to the ranges that it has."""
    for name, family, ranges in _places(places):
        yield f'oifname "{name}" {family} daddr {ranges}'


def _places(places: Sequence[tuple[str, str]]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys(name for name, _ in places):
        for family, ranges in by_family([cidr for there, cidr in places if there == name]):
            yield name, family, ranges


def by_family(cidrs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The families that occur, and their ranges as a set of nft's."""
    parsed = [ip_network(cidr, strict=False) for cidr in cidrs]
    for version, family in FAMILY.items():
        found = [cidr for cidr in parsed if cidr.version == version]
        if found:
            yield family, f"{{ {', '.join(map(str, _collapsed(found)))} }}"


def _collapsed(cidrs: list[Range]) -> Iterable[Range]:
    """Without overlaps, which nft refuses."""
    return collapse_addresses(cidrs)  # type: ignore[type-var]  # of one family, as the caller sees to
