"""Whether a network's ranges and what the machine reaches otherwise get into each other's way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Literal

from nmk.core.parse import overlap


@dataclass(frozen=True, slots=True)
class Place:
    """A range that this machine reaches by an interface that is not the network's.

    `remove`: the command that ends it.
    """

    cidr: str
    interface: str
    remove: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Overlap:
    """A place that shares addresses with a network.

    taken: it takes packets that are meant for nodes. hidden: the network hides a part of it.
    beside: it takes addresses of the network that no node has yet.
    """

    place: Place
    kind: Literal["taken", "hidden", "beside"]
    nodes: tuple[str, ...] = ()  # the addresses it takes


def samples_in(
    parts: Iterable[str], cidrs: Sequence[str], nodes: Sequence[str] | None = None
) -> dict[str, str]:
    """An address to ask the kernel about in each part that lies in one of the ranges.

    With what it stands for: the part or, where `nodes` are given, the first of them in it; parts
    without any are left out then.
    """
    ranges = [ip_network(cidr) for cidr in cidrs]
    found = {}
    for cidr, part in ((p, ip_network(p)) for p in parts):
        if not any(overlap(part, r) and part.prefixlen >= r.prefixlen for r in ranges):
            continue
        inside = [n for n in nodes or () if ip_address(n) in part]
        if inside:
            found[inside[0]] = inside[0]
        elif nodes is None:
            found[str(part[1 if part.num_addresses > 1 else 0])] = cidr
    return found


def find_overlaps(
    cidrs: Sequence[str], places: Iterable[Place], nodes: Sequence[str]
) -> list[Overlap]:
    """The overlaps of a network's ranges, those that take addresses of nodes first.

    `nodes`: the addresses that are in use. The longer prefix wins a packet; of two equal ones
    nobody knows.
    """
    found = []
    for place in places:
        there = ip_network(place.cidr)
        for cidr in map(ip_network, cidrs):
            if cidr.version != there.version or not cidr.overlaps(there):
                continue
            if there.prefixlen < cidr.prefixlen:
                found.append(Overlap(place, "hidden"))
                continue
            taken = tuple(n for n in nodes if ip_address(n) in there)
            found.append(Overlap(place, "taken" if taken else "beside", taken))
    return sorted(found, key=lambda o: (o.kind != "taken", o.kind, o.place.cidr))
