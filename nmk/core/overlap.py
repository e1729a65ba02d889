"""Whether a network's ranges and what the machine reaches otherwise get into each other's way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Literal


@dataclass(frozen=True, slots=True)
class Place:
    """A range that this machine reaches by an interface that is not the network's."""

    cidr: str
    interface: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """A place that shares addresses with a network.

    taken: it takes packets that are meant for nodes. hidden: the network hides a part of it.
    beside: it takes addresses of the network that no node has yet.
    """

    place: Place
    kind: Literal["taken", "hidden", "beside"]
    nodes: tuple[str, ...] = ()  # the addresses it takes


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
