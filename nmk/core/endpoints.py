"""Where to send a peer's packets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface

from nmk.core.parse import Address, join_endpoint


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
    in a subnet of ours. Left out are a family that this machine has no address of, and addresses
    that are ours too: every virtual machine behind a NAT of its own may have the same.
    """
    mine = _interfaces(tuple(my_lan))
    ours = {a.ip for a in mine}
    # Without the prefix lengths: a network object for each would cost more than all the rest.
    theirs = [a for a in (ip_address(text.partition("/")[0]) for text in lan) if a not in ours]
    seen = [ip_address(a) for a in observed]
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
        ("observed", [a for a in seen if not a.is_loopback]),
        ("lan", near),
        ("lan", theirs),
    ):
        for address in addresses:
            if address.version in families:
                return kind, join_endpoint(address, port)
    return None


@lru_cache(maxsize=1)  # asked once a peer for the same machine
def _interfaces(texts: tuple[str, ...]) -> list[IPv4Interface | IPv6Interface]:
    return [ip_interface(text) for text in texts]
