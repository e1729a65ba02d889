"""Which peers of a hub's file become ext clients of a network, and with what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface

from nmk.core.gateways import MOST_RANGES, parse_egress_range
from nmk.core.parse import Range, overlap, quote
from nmk.core.pool import Pool
from nmk.core.quick import HubConfig, Peer, why_no_host
from nmk.core.tunnel import NO_KEY
from nmk.errors import AddressTaken, BadInput

_SHOWN = 3  # ranges in a line


@dataclass(frozen=True, slots=True)
class HubClient:
    """A peer of the hub. `addresses`: the one of each family that is the network's, IPv4 first.

    `routes`: what else is behind it, where it is a router; `name` is a DNS label that no other
    client of the hub has.
    """

    name: str
    public_key: str
    preshared_key: str | None = field(repr=False)
    addresses: tuple[str, ...]
    routes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Hub:
    """A WireGuard interface that clients call, as a gateway of a network.

    `addresses`: one of each family, with prefix lengths. `left`: what of the file is not taken
    over, each as a line for people that says why, clients first. `translates`: as in `HubConfig`.
    """

    private_key: str = field(repr=False)
    listen_port: int
    addresses: tuple[str, ...]
    clients: tuple[HubClient, ...]
    left: tuple[str, ...]
    translates: bool = False


def fit_hub(config: HubConfig, cidrs: Sequence[str], own_key: str) -> Hub:
    """The hub as it can be in a network of these ranges, which hold an address of it.

    `own_key`: the public key of the hub. A client without an address there is left out, by name.
    """
    pools: dict[int, Pool] = {pool.cidr.version: pool for pool in map(Pool, cidrs)}
    left = [*config.left]
    addresses: dict[int, str] = {}
    for line, own in config.addresses:
        pool = pools.get(own.version)
        if pool and own.ip in pool.cidr and own.version not in addresses:
            addresses[own.version] = str(own)
        else:
            why = f"a node has one of each family, {addresses.get(own.version, 'none')} here"
            left.append((line, f": Address = {quote(own)}: {why}"))
    for address in addresses.values():
        pools[ip_interface(address).version].take(str(ip_interface(address).ip))
    clients: list[HubClient] = []
    out: list[tuple[int, str]] = []
    for peer in config.peers:
        client, odd = _fit_client(peer, pools)
        whose = f", client {peer.name}"
        if peer.public_key in {own_key, NO_KEY}:
            out.append((peer.line, f"{whose}, wholly: no device can have its PublicKey"))
        elif not client.addresses:
            why = _why_not(peer, [str(p.cidr) for p in pools.values()])
            out.append((peer.line, f"{whose}, wholly: {why}"))
        else:
            clients.append(client)
            left += [(line, f"{whose}: AllowedIPs = {quote(c)}: {why}") for line, c, why in odd]
    return Hub(
        private_key=config.private_key,
        listen_port=config.listen_port,
        addresses=tuple(addresses.values()),
        clients=tuple(clients),
        left=tuple(f"line {line}{said}" for line, said in (*sorted(out), *sorted(left))),
        translates=config.translates,
    )


def _fit_client(
    peer: Peer, pools: dict[int, Pool]
) -> tuple[HubClient, list[tuple[int, Range, str]]]:
    """The client, and what of its AllowedIPs it does not have, each with the reason."""
    addresses: dict[int, str] = {}
    routes: list[str] = []
    odd = []
    for line, cidr in peer.ranges:
        pool = pools.get(cidr.version)
        why = None
        if pool and overlap(cidr, pool.cidr):
            why = _why_no_address(cidr, pool)
            if why is None and cidr.version in addresses:
                why = f"a client has one address of a family, here {addresses[cidr.version]}"
            if why is None:
                addresses[cidr.version] = str(cidr.network_address)
        else:
            why = _why_no_route(cidr)
            if why is None and len(routes) == MOST_RANGES:
                why = f"a router has at most {MOST_RANGES} ranges"
            if why is None:
                routes.append(str(cidr))
        if why:
            odd.append((line, cidr, why))
    by_family = tuple(addresses[f] for f in sorted(addresses))
    client = HubClient(peer.name, peer.public_key, peer.preshared_key, by_family, tuple(routes))
    return client, odd


def _why_no_address(cidr: Range, pool: Pool) -> str | None:
    """Why a range that is in the network's is no client's address."""
    if cidr.prefixlen != cidr.max_prefixlen:
        return f"it is no single address of the network's range {pool.cidr}"
    try:
        pool.check(str(cidr.network_address))
    except AddressTaken:
        return "it is the hub's own"
    except BadInput as error:
        return error.message
    return None


def _why_no_route(cidr: Range) -> str | None:
    """Why a range is none of a LAN behind a client."""
    if cidr.prefixlen == cidr.max_prefixlen and (why := why_no_host(ip_interface(cidr))):
        return why
    try:
        parse_egress_range(str(cidr))
    except BadInput as error:
        return error.message
    return None


def _why_not(peer: Peer, ranges: Iterable[str]) -> str:
    has = ", ".join(str(cidr) for _, cidr in peer.ranges[:_SHOWN])
    more = len(peer.ranges) - _SHOWN
    if not has:
        return "it has no AllowedIPs, so it gets nothing by the hub"
    has += f", and {more} more" if more > 0 else ""
    return f"it has {has}, and no address of its own in {', '.join(ranges)}"
