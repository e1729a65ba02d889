"""Whether a network's ranges may come to this machine: what they hold is led into the tunnel.

A controller chooses the ranges. They are judged once, when a machine joins, and kept from then on.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address, ip_network

from nmk.core.claims import Claim, holds
from nmk.core.parse import Range, overlap

PRIVATE = tuple(
    ip_network(cidr)
    for cidr in (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # RFC 1918
        "100.64.0.0/10",  # RFC 6598, of providers behind their own NAT
        "198.18.0.0/15",  # RFC 2544, for benchmarks
        "fc00::/7",  # RFC 4193
    )
)


def find_objections(
    cidrs: Iterable[str],
    meshes: Sequence[Claim],
    lans: Sequence[Claim],
    in_use: Iterable[tuple[str, str]],
) -> dict[str, str]:
    """Why each range may not come here unless the machine's owner asks for it, by range.

    `meshes`: the ranges of the machine's other networks; `lans`: its own subnets; `in_use`:
    addresses that must be reached past every tunnel, with what they are.
    """
    used = [(ip_address(address), what) for address, what in in_use]
    found = {}
    for cidr in cidrs:
        own = ip_network(cidr)
        reasons = [
            *(f"it holds {a}, {what}" for a, what in used if a.version == own.version and a in own),
            *(f"{m.owner} has {m.range}" for m in meshes if overlap(ip_network(m.range), own)),
            *(f"it holds {lan.range} of {lan.owner}" for lan in lans if holds(cidr, lan.range)),
            *(["it is public address space"] * is_public(own)),
        ]
        if reasons:
            found[cidr] = reasons[0]
    return found


def is_public(cidr: Range) -> bool:
    """Whether others than its owner may have addresses in a range."""
    return not any(
        cidr.version == block.version and cidr.subnet_of(block)  # type: ignore[arg-type]  # one
        for block in PRIVATE
    )
