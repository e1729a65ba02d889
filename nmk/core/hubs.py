"""A WireGuard hub is taken over: a node becomes the gateway that it was, its clients ext clients.

Decided as in `core.nodes`: from a mesh and a request to the records to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from ipaddress import ip_network

from nmk.core.ext_clients import check_routes
from nmk.core.gateways import Exit, Ingress, parse_egress_ranges
from nmk.core.mesh import Mesh
from nmk.core.nodes import check_room, find_node, has_name, move_to, numbered
from nmk.core.parse import overlap, parse_address, parse_key, parse_label, quote
from nmk.core.records import ExtClient, Issue, Node, Record
from nmk.core.sites import check_amount, check_roles
from nmk.errors import AddressTaken, BadInput, NameTaken, RangeOverlaps


@dataclass(frozen=True, slots=True)
class HubPeer:
    """A client of a hub that is taken over, with all its addresses. `routes`: what is behind it."""

    id: str
    name: str
    public_key: str
    addresses: tuple[str, ...]
    routes: tuple[str, ...] = ()


def take_over_hub(
    mesh: Mesh,
    name: str,
    hub_key: str,
    hub_addresses: Sequence[str],
    peers: Sequence[HubPeer],
    now: int,
    *,
    lets_out: bool = False,
) -> list[Record]:
    """The node as the gateway that a hub was, and the hub's clients as they are.

    Repeat-safe: clients that came the same way before are left alone, or follow the hub where it
    is another node now. A name that is somebody else's gets a number. `hub_key`: the hub's public
    key, which the node is about to have; `lets_out`: the hub led its clients to the internet, and
    so does the node from its first takeover on, until an admin has it otherwise.
    """
    node = find_node(mesh, name)
    own = _by_family("the hub", hub_addresses, "its Address")
    owner = mesh.by_wg_key.get(parse_key(hub_key))
    if hub_key in mesh.client_by_key or (owner and owner.identity != node.identity):
        raise BadInput(
            "the hub's key is somebody else's in this network", f"nmk node list -n {mesh.name}"
        )
    moved = node
    for family, address in own.items():
        if family in mesh.pools:
            moved = _moved(mesh, moved, address)
    roles = moved.gateway
    opens = lets_out and not _was_taken_over(mesh, node, hub_key, peers)
    exit_ = roles.exit or (Exit() if opens else None)
    moved = replace(moved, gateway=replace(roles, ingress=roles.ingress or Ingress(), exit=exit_))
    records: list[Record] = [] if moved == node else [moved]
    names: set[str] = set()
    routes: set[str] = set()
    taken = {hub_key, *moved.addresses}
    for peer in peers:
        _check_apart(peer, taken)
        addresses = {str(parse_address(a)) for a in peer.addresses}
        taken |= {peer.public_key, *addresses}
        known = mesh.client_by_key.get(peer.public_key)
        if known is None or set(known.addresses) != addresses:
            client = _hub_client(mesh, node, hub_key, peer, names, now)
            client = replace(client, routes=_free_routes(mesh, node, client, peer.routes, routes))
            names.add(client.name)
            routes.update(client.routes)
            records.append(client)
        elif known.gateway != node.identity:
            issue = Issue(known.addresses, hub_key)
            records.append(replace(known, gateway=node.identity, issue=issue))
    check_room(mesh, len(names))
    check_roles(mesh, *records)
    return records


def _free_routes(
    mesh: Mesh, node: Node, client: ExtClient, routes: Sequence[str], taken: set[str]
) -> tuple[str, ...]:
    """Those ranges behind a client that nobody else carries; `taken`: by other clients of the hub.

    What is not led to does not keep the client out.
    """
    found: list[str] = []
    for cidr in parse_egress_ranges(routes):
        others = (ip_network(other) for other in taken)
        if any(overlap(ip_network(cidr), other) for other in others):
            continue
        with suppress(BadInput, RangeOverlaps):
            check_routes(mesh, client.name, node, (cidr,))
            check_amount(mesh, len(taken) + len(found) + 1)
            found.append(cidr)
    return tuple(found)


def _was_taken_over(mesh: Mesh, node: Node, hub_key: str, peers: Sequence[HubPeer]) -> bool:
    """Whether the node is the hub already: it has the hub's key, or one of its clients."""
    known = (mesh.client_by_key.get(peer.public_key) for peer in peers)
    return node.facts.wg_key == hub_key or any(c and c.gateway == node.identity for c in known)


def _by_family(whose: str, texts: Sequence[str], where: str) -> dict[int, str]:
    """Addresses by family. Raises BadInput where one has two of a family."""
    found: dict[int, str] = {}
    for text in texts:
        address = parse_address(text)
        if address.version in found:
            raise BadInput(
                f"{whose} has two IPv{address.version} addresses, {found[address.version]} and "
                f"{address}",
                f"take one out of {where}",
            )
        found[address.version] = str(address)
    return found


def _moved(mesh: Mesh, node: Node, address: str) -> Node:
    """The node at the hub's address. Raises AddressTaken with a way out."""
    try:
        return move_to(mesh, node, address)
    except AddressTaken as error:
        raise _taken(mesh, "the hub", address) from error


def _taken(mesh: Mesh, whose: str, address: str) -> AddressTaken:
    """An address of a hub or its client that somebody else in the network has."""
    for noun, records in (("node", mesh.nodes), ("extclient", mesh.clients)):
        for record in records.values():
            if address in record.addresses:
                return AddressTaken(
                    f"{address} of {whose} is that of the {noun} {record.name}",
                    f"nmk {noun} set -n {mesh.name} {record.name} address=ANOTHER",
                )
    return AddressTaken(f"{address} of {whose} is in use")


def _client_taken(mesh: Mesh, peer: HubPeer, address: str) -> AddressTaken:
    """As `_taken`; an ext client there is likely the same device, with a key that is newer."""
    for client in mesh.clients.values():
        if address in client.addresses:
            return AddressTaken(
                f"{address} of {peer.name} is that of the extclient {client.name}, which has "
                "another key",
                f"nmk extclient delete -n {mesh.name} {client.name}; or, if that is the device's "
                f"key now, take {peer.name} out of the file",
            )
    return _taken(mesh, peer.name, address)


def _check_key(mesh: Mesh, peer: HubPeer) -> None:
    """Raises NameTaken where the key is a node's, or that of an ext client with other addresses."""
    node = mesh.by_wg_key.get(peer.public_key)
    if node is not None:
        raise NameTaken(
            f"the key of {peer.name} is that of the node {node.name}",
            f"take {peer.name} out of the file",
        )
    known = mesh.client_by_key.get(peer.public_key)
    if known is None:
        return
    has: dict[int, str] = {parse_address(a).version: a for a in known.addresses}
    wanted = _by_family(peer.name, peer.addresses, "its AllowedIPs")
    mends = f"nmk extclient delete -n {mesh.name} {known.name}"
    if has.keys() <= wanted.keys():
        mends = " && ".join(
            f"nmk extclient set -n {mesh.name} {known.name} address={address}"
            for family, address in wanted.items()
            if has.get(family) != address
        )
    raise NameTaken(
        f"{peer.name} has {', '.join(peer.addresses)} in the hub's file, and with the same key the "
        f"ext client {known.name} has {', '.join(known.addresses)}",
        mends,
    )


def _check_apart(peer: HubPeer, taken: set[str]) -> None:
    """Raises BadInput where a client of a hub has no address, or what somebody else there has."""
    if not peer.addresses:
        raise BadInput(f"{quote(peer.name)} has no address", "give it one of the hub's range")
    for has in (parse_key(peer.public_key), *map(str, map(parse_address, peer.addresses))):
        if has in taken:
            raise BadInput(
                f"{quote(has)} of {peer.name} is the hub's or another client's too",
                "take one of the two out of the hub's file",
            )


def _hub_client(
    mesh: Mesh, node: Node, hub_key: str, peer: HubPeer, names: set[str], now: int
) -> ExtClient:
    _check_key(mesh, peer)

    def is_taken(name: str) -> bool:
        return name in names or has_name(mesh, name)

    name = parse_label(peer.name, "name of an ext client")
    addresses: dict[int, str] = {}
    for family, text in _by_family(peer.name, peer.addresses, "its AllowedIPs").items():
        if family not in mesh.pools:
            raise BadInput(
                f"{quote(text)} of {peer.name} has no place in {mesh.name}, which has no "
                f"IPv{family} range",
                "nmk network create, with the hub's ranges of both families",
            )
        try:
            addresses[family] = mesh.pools[family].check(text)
        except AddressTaken as error:
            raise _client_taken(mesh, peer, text) from error
    return ExtClient(
        id=peer.id,
        network=mesh.name,
        name=numbered(name, is_taken) if is_taken(name) else name,
        gateway=node.identity,
        public_key=peer.public_key,
        address4=addresses.get(4),
        address6=addresses.get(6),
        issue=Issue(tuple(addresses[f] for f in sorted(addresses)), hub_key),
        created_at=now,
    )
