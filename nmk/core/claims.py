"""Addresses of a network that this machine leaves to somebody else.

Where a network's range and a subnet of the machine overlap, one holds the other. A subnet inside
the range has the longer prefix, so the kernel sends its addresses there by itself; a subnet that
holds the range holds every address of the network. So it is enough to leave out the addresses
that somebody else has: no route of ours can then take anything from him.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from nmk.core.gateways import Gateway
from nmk.core.links import CLOUDS
from nmk.core.parse import Address, Range, overlap, parse_address
from nmk.core.peers import View

_MOST_NAMED = 5  # of the nodes that a line tells of


@dataclass(frozen=True, slots=True)
class Claim:
    """A range that goes before ours: `owner` is an interface, a network joined earlier, a cloud."""

    range: str
    owner: str


SERVICES = tuple(Claim(cidr, "this machine's cloud provider") for cidr in CLOUDS)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """An address that the mesh does not lead to from here, as `owner` has the range around it.

    `node` has it in the network.
    """

    node: str
    address: str
    range: str
    owner: str


def find_left_out(view: View, claims: Sequence[Claim]) -> tuple[LeftOut, ...]:
    """The addresses of the view that lie in a claimed range, this node's own first."""
    ours = [ip_network(c) for c in view.cidrs]
    rivals = [
        (found, claim)
        for claim, found in ((c, ip_network(c.range, strict=False)) for c in claims)
        if any(overlap(found, cidr) for cidr in ours)
    ]
    if not rivals:
        return ()
    nodes = [(view.name, view.addresses)]
    nodes += sorted((other.name, other.addresses) for other in view.others)
    return tuple(
        LeftOut(name, text, claim.range, claim.owner)
        for name, addresses in nodes
        for text in addresses
        for claim in _claims_to(parse_address(text), rivals)
    )


def holds(subnet: str, cidr: str) -> bool:
    """Whether a subnet of the machine's own takes a whole range away.

    A smaller one does not count: its packets find their way by its longer prefix.
    """
    outer, inner = ip_network(subnet), ip_network(cidr)
    return overlap(outer, inner) and outer.prefixlen <= inner.prefixlen


def find_inside(
    gateway: Gateway, claims: Sequence[Claim], lans: Sequence[str]
) -> list[tuple[str, Claim]]:
    """The ranges that a gateway routes, each with the first claim that shares addresses with it.

    Not those that a LAN of its machine holds: what goes there goes by that.
    """
    return [
        (cidr, found[0])
        for cidr, lan in zip(gateway.ranges, gateway.lans, strict=True)
        if not any(holds(own, lan) for own in lans)
        if (found := [c for c in claims if overlap(ip_network(c.range), ip_network(lan))])
    ]


class Holders:
    """Which claim takes a whole range away, as `holds` has it, without a look at each of them."""

    def __init__(self, claims: Iterable[Claim]) -> None:
        self._claims: dict[tuple[int, int, int], Claim] = {}  # by family, prefix length and prefix
        for claim in claims:
            subnet = ip_network(claim.range, strict=False)
            self._claims.setdefault(_prefix(subnet, subnet.prefixlen), claim)
        self._lengths = sorted({(family, length) for family, length, _ in self._claims})

    def find(self, cidr: Range) -> Claim | None:
        """The widest that holds the range."""
        for family, length in self._lengths:
            if family == cidr.version and length <= cidr.prefixlen:
                claim = self._claims.get(_prefix(cidr, length))
                if claim:
                    return claim
        return None


def _prefix(cidr: Range, length: int) -> tuple[int, int, int]:
    return cidr.version, length, int(cidr.network_address) >> (cidr.max_prefixlen - length)


def find_declined(
    cidrs: Iterable[str], lans: Iterable[tuple[str, Iterable[str]]]
) -> dict[str, list[tuple[str, str]]]:
    """Who does not follow a range, as a subnet of his own holds it: names and subnets, by range.

    `lans`: as of `each_declined`.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for cidr, name, subnet in each_declined(cidrs, lans):
        found.setdefault(cidr, []).append((name, subnet))
    return found


def each_declined(
    cidrs: Iterable[str], lans: Iterable[tuple[str, Iterable[str]]]
) -> Iterator[tuple[str, str, str]]:
    """The same one by one: ranges, names and subnets, in the order of `lans`.

    `lans`: names, and addresses with prefix lengths. Takes a look at each of these, not at each
    for every range.
    """
    held: dict[str, list[str]] = {}  # ranges, by all subnets that hold them
    for cidr in cidrs:
        inner = ip_network(cidr)
        for prefix in range(inner.prefixlen + 1):
            held.setdefault(str(inner.supernet(new_prefix=prefix)), []).append(cidr)
    for name, addresses in lans:
        for subnet in dict.fromkeys(str(ip_interface(a).network) for a in addresses):
            for cidr in held.get(subnet, ()):
                yield cidr, name, subnet


def summarize(left: Sequence[LeftOut]) -> list[str]:
    """A line for people about each range: whose it is, and which addresses are in it."""
    ranges: dict[tuple[str, str], list[str]] = {}
    for one in left:
        ranges.setdefault((one.range, one.owner), []).append(f"{one.address} ({one.node})")
    return [
        f"left out, as {owner} has {cidr}: {', '.join(nodes[:_MOST_NAMED])}"
        + (f" and {len(nodes) - _MOST_NAMED} more" if len(nodes) > _MOST_NAMED else "")
        for (cidr, owner), nodes in ranges.items()
    ]


def _claims_to(address: Address, rivals: list[tuple[Range, Claim]]) -> list[Claim]:
    """The first claim to an address, if there is one."""
    return [c for r, c in rivals if address.version == r.version and address in r][:1]
