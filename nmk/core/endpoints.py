"""Where to send a peer's packets."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface, ip_network

from nmk.core.parse import (
    Address,
    join_endpoint,
    parse_address,
    parse_interface_address,
    read_address,
)

# RFC 6890 and RFC 4291: "this" network, loopback, one link alone, many machines, IPv4 in IPv6.
_NO_PLACES = {
    4: ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32"),
    6: ("::/96", "::ffff:0:0/96", "fe80::/10", "ff00::/8"),
}
# Where they begin and where they have ended, in turn: properties of addresses cost ten times more.
_EDGES = {
    version: [
        edge
        for cidr in map(ip_network, cidrs)
        for edge in (int(cidr.network_address), int(cidr.broadcast_address) + 1)
    ]
    for version, cidrs in _NO_PLACES.items()
}


def is_place(address: Address) -> bool:
    """Whether one machine can have the address, and others that are told of it send to it."""
    return bisect(_EDGES[address.version], int(address)) % 2 == 0


def parse_lan(texts: Iterable[str]) -> tuple[str, ...]:
    """A machine's own addresses with prefix lengths; what is no place is left out.

    It may well be there, and is no mistake. Raises BadInput.
    """
    found = map(parse_interface_address, texts)
    return tuple(text for address, text in found if is_place(address))


def parse_observed(texts: Iterable[str]) -> tuple[str, ...]:
    """The addresses that a machine is seen at, without prefix lengths; as above."""
    return tuple(str(a) for a in map(parse_address, texts) if is_place(a))


def is_behind_nat(lan: Sequence[str], observed: Sequence[str]) -> bool:
    """Whether a machine is seen under addresses that are not its own, and has no global one."""
    own = [ip_interface(text).ip for text in lan]
    seen = [ip_address(text) for text in observed]
    return bool(seen) and not any(a.is_global or a in seen for a in own)


def is_pair_behind_nats(
    my_lan: Sequence[str],
    my_observed: Sequence[str],
    lan: Sequence[str],
    observed: Sequence[str],
) -> bool:
    """Whether two machines are behind NAT, each behind one of its own."""
    together = set(my_observed) & set(observed)
    both = is_behind_nat(my_lan, my_observed) and is_behind_nat(lan, observed)
    return both and not together


def choose_endpoint(
    my_lan: Sequence[str],
    my_observed: Sequence[str],
    static: str | None,
    lan: Sequence[str],
    observed: Sequence[str],
    port: int,
) -> tuple[str, str] | None:
    """The kind and the endpoint to try for a peer; None where it can only call us.

    In this order: `lan`, an address in a subnet of ours where both of us are seen from one public
    address (or are seen by that very address, without NAT); `static`, which somebody pinned; a
    global address of the peer's own; `observed`, where its check-ins come from; then any address
    in a subnet of ours. Left out are a family that this machine has no address of, what is no
    place, and addresses that are ours too: every virtual machine behind a NAT of its own may have
    the same.
    """
    mine = _interfaces(tuple(my_lan))
    ours = {a.ip for a in mine}
    # Without the prefix lengths: a network object for each would cost more than all the rest.
    theirs = [a for a in map(_host, lan) if a not in ours and is_place(a)]
    seen = [a for a in map(read_address, observed) if is_place(a)]
    families = {a.version for a in mine} or {4, 6}
    near = [a for a in theirs if any(a.version == m.version and a in m.network for m in mine)]
    together = bool(set(observed) & set(my_observed))
    mapped: list[Address] = [a for a in near if together or a in seen]
    if mapped:
        return "lan", join_endpoint(mapped[0], port)
    if static:
        return "static", static
    for kind, addresses in (
        ("lan", [a for a in theirs if a.is_global]),
        ("observed", seen),
        ("lan", near),
        ("lan", theirs),
    ):
        for address in addresses:
            if address.version in families:
                return kind, join_endpoint(address, port)
    return None


def _host(text: str) -> Address:
    return read_address(text.partition("/")[0])


@lru_cache(maxsize=1)  # asked once a peer for the same machine
def _interfaces(texts: tuple[str, ...]) -> list[IPv4Interface | IPv6Interface]:
    return [ip_interface(text) for text in texts]
