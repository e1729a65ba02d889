"""Addresses of a network that this machine leaves to somebody else.

Where a network's range and a subnet of the machine overlap, one holds the other. A subnet inside
the range has the longer prefix, so the kernel sends its addresses there by itself; a subnet that
holds the range holds every address of the network. So it is enough to leave out the addresses
that somebody else has: no route of ours can then take anything from him.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from nmk.core.parse import Address, Range, overlap, parse_address
from nmk.core.peers import View

_MOST_NAMED = 5  # of the nodes that a line tells of


@dataclass(frozen=True, slots=True)
class Claim:
    """A range that goes before ours: `owner` is an interface, or a network joined earlier."""

    range: str
    owner: str


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
