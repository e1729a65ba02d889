"""A WireGuard hub is taken over: a node becomes the gateway that it was, its clients ext clients.

Decided as in `core.decisions`: from a mesh and a request to the records to write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from nmk.core.decisions import find_node, has_name, move_to, numbered
from nmk.core.ext_clients import check_key
from nmk.core.gateways import Exit, Ingress
from nmk.core.mesh import Mesh
from nmk.core.parse import parse_address, parse_key, parse_label, quote
from nmk.core.records import ExtClient, Issue, Node, Record
from nmk.errors import AddressTaken, BadInput


@dataclass(frozen=True, slots=True)
class HubPeer:
    """A client of a hub that is taken over, with all its addresses."""

    id: str
    name: str
    public_key: str
    addresses: tuple[str, ...]


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
    key, which the node is about to have; `lets_out`: the hub led its clients to the internet.
    """
    node = find_node(mesh, name)
    owner = mesh.by_wg_key.get(parse_key(hub_key))
    if hub_key in mesh.client_by_key or (owner and owner.identity != node.identity):
        raise BadInput("the hub's key is somebody else's in this network", "nmk node list")
    moved = node
    for address in hub_addresses:
        if parse_address(address).version in mesh.pools:
            moved = _moved(mesh, moved, address)
    roles = moved.gateway
    exit_ = roles.exit or (Exit() if lets_out else None)
    moved = replace(moved, gateway=replace(roles, ingress=roles.ingress or Ingress(), exit=exit_))
    records: list[Record] = [] if moved == node else [moved]
    names: set[str] = set()
    taken = {hub_key, *moved.addresses}
    for peer in peers:
        _check_apart(peer, taken)
        taken |= {peer.public_key, *peer.addresses}
        known = mesh.client_by_key.get(peer.public_key)
        if known is None or set(known.addresses) != set(peer.addresses):
            client = _hub_client(mesh, node, hub_key, peer, names, now)
            names.add(client.name)
            records.append(client)
        elif known.gateway != node.identity:
            issue = Issue(known.addresses, hub_key)
            records.append(replace(known, gateway=node.identity, issue=issue))
    return records


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
    check_key(mesh, peer.public_key)

    def is_taken(name: str) -> bool:
        return name in names or has_name(mesh, name)

    name = parse_label(peer.name, "name of an ext client")
    addresses: dict[int, str] = {}
    for text in peer.addresses:
        family = parse_address(text).version
        if family in addresses:
            raise BadInput(
                f"{peer.name} has two IPv{family} addresses, {addresses[family]} and {text}",
                "take one out of its AllowedIPs",
            )
        if family not in mesh.pools:
            raise BadInput(
                f"{quote(text)} of {peer.name} has no place in {mesh.name}, which has no "
                f"IPv{family} range",
                "nmk network create, with the hub's ranges of both families",
            )
        try:
            addresses[family] = mesh.pools[family].check(text)
        except AddressTaken as error:
            raise _taken(mesh, peer.name, text) from error
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
