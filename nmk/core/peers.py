"""A view as its agent holds it: network, own node, peers and ext clients, all checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

from nmk.core.endpoints import parse_lan, parse_observed
from nmk.core.gateways import (
    NO_GATEWAY,
    Gateway,
    check_distinct,
    gateway_json,
    parse_egress_ranges,
    parse_gateway,
)
from nmk.core.parse import (
    Address,
    Range,
    overlap,
    parse_address,
    parse_endpoint,
    parse_key,
    parse_label,
    parse_port,
    parse_range,
    quote,
)
from nmk.core.pieces import Pieces
from nmk.core.settings import NETWORK_SETTINGS
from nmk.errors import BadInput, BadView, RangeOverlaps

Json = dict[str, Any]  # as parsed from outside; every use checks what it takes
# What the controller lets a network grow to is made of these in `core.room`.
MOST_INFLATED = 8 * 1024 * 1024  # bytes of a reply: 10,000 nodes and 1,000 ext clients have 2.5 MB
MOST_OTHERS = 16_384  # nodes and ext clients in a view
MOST_CANDIDATES = 131_072  # addresses where its nodes may be reached: eight each in the largest
MOST_EGRESS_RANGES = 4_096  # of all its gateways together
_MOST_ADDRESSES = 64
_MOST_FIELDS = 64


@dataclass(frozen=True, slots=True)
class Peer:
    """Another node. `lan` holds its machine's addresses with prefix lengths."""

    id: str
    name: str
    key: str
    addresses: tuple[str, ...]
    port: int
    lan: tuple[str, ...]
    observed: tuple[str, ...]
    static: str | None
    gateway: Gateway = NO_GATEWAY


@dataclass(frozen=True, slots=True)
class Client:
    """An ext client. `via`: the id of the node that is its ingress gateway; `ranges`: behind it."""

    id: str
    name: str
    key: str
    addresses: tuple[str, ...]
    via: str
    ranges: tuple[str, ...] = ()


Entry = TypeVar("Entry", Peer, Client)


@dataclass(frozen=True, slots=True)
class View:
    """All that one node must know. `settings` as in `core.settings`; `peers` by their ids.

    Everybody in it has an address: with who has none nothing can be done.
    `gateway`: the roles that the node itself has; `clients`: of all ingress gateways, by their ids.
    """

    network: str
    cidrs: tuple[str, ...]
    settings: Mapping[str, int]
    id: str
    name: str
    addresses: tuple[str, ...]
    observed: tuple[str, ...]
    peers: Mapping[str, Peer]
    gateway: Gateway = NO_GATEWAY
    clients: Mapping[str, Client] = field(default_factory=dict)

    @property
    def others(self) -> list[Peer | Client]:
        """All that have addresses in the network but this node."""
        return [*self.peers.values(), *self.clients.values()]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the controller said. `head`: all but the entries, as it came."""

    head: Json
    peers: Sequence[Peer] = ()
    clients: Sequence[Client] = ()
    gone: Sequence[str] = ()


def read_reply(body: bytes) -> Reply:
    """A reply's JSON, with every entry checked by itself as it is read.

    No more than an entry at a time is there as it came. Raises BadView that quotes the culprit,
    ValueError where the body is no JSON object.
    """
    head: Json = {}
    pieces, amounts = Pieces(body), _Amounts()
    peers: list[Peer] = []
    clients: list[Client] = []
    gone: list[str] = []
    for name in pieces.fields():
        with _usable():
            if name == "peers":
                peers += _read_blocks(pieces, amounts, _parse_peer)
            elif name == "clients":
                clients += _read_blocks(pieces, amounts, _parse_client)
            elif name == "gone":
                gone += _read_gone(pieces)
            else:
                head[name] = pieces.value()
        _check_amount(len(head), _MOST_FIELDS, "things at once")
    pieces.end()
    return Reply(head, peers, clients, gone)


class _Amounts:
    """How much there is in a view, added up: each entry costs memory and time."""

    def __init__(self) -> None:
        self._others = self._candidates = self._ranges = 0

    def add(self, entry: Peer | Client) -> None:
        """Raises BadView where that is too much."""
        self._others += 1
        _check_amount(self._others, MOST_OTHERS, "nodes and ext clients")
        if isinstance(entry, Peer):
            self._candidates += len(entry.lan) + len(entry.observed)
            _check_amount(self._candidates, MOST_CANDIDATES, "addresses to reach nodes at")
        self.add_ranges(entry.gateway if isinstance(entry, Peer) else entry)

    def add_ranges(self, carrier: Gateway | Client) -> None:
        """As `add`."""
        self._ranges += len(carrier.ranges)
        _check_amount(self._ranges, MOST_EGRESS_RANGES, "ranges outside the network")


def _check_amount(count: int, most: int, what: str) -> None:
    if count > most:
        raise BadView(f"the controller tells of more than {most} {what}")


def _read_blocks(
    pieces: Pieces, amounts: _Amounts, parse: Callable[[str, Json], Entry]
) -> Iterator[Entry]:
    """A list of lists of entries."""
    for number, _ in enumerate(pieces.elements()):
        _check_amount(number, MOST_OTHERS, "blocks of entries")
        for _ in pieces.elements():
            raw: Any = pieces.value()
            entry = parse(_id(raw["id"]), raw)
            amounts.add(entry)
            yield entry


def _read_gone(pieces: Pieces) -> Iterator[str]:
    for number, _ in enumerate(pieces.elements()):
        _check_amount(number, MOST_OTHERS, "nodes that are no more")
        yield _id(pieces.value())


def merge_view(old: View | None, reply: Reply, network: str) -> View:
    """The view with a reply taken in, which is a full view or a delta. `network`: its name there.

    Raises BadView that quotes the culprit, also when a delta meets no view to add to.
    """
    with _usable():
        full = reply.head["full"]
        if not full and old is None:
            raise BadView("the controller sent news of a view that we do not have")
        peers = {} if full or old is None else dict(old.peers)
        clients = {} if full or old is None else dict(old.clients)
        for gone in reply.gone:
            peers.pop(gone, None)
            clients.pop(gone, None)
        peers.update((peer.id, peer) for peer in reply.peers)
        clients.update((client.id, client) for client in reply.clients)
        peers.pop(_id(reply.head["self"]["id"]), None)
        return _make_view(reply.head, network, peers, clients)


def parse_view(view: Json, network: str) -> View:
    """The view that `view_json` made, with everything in it checked. Raises BadView."""
    with _usable():
        peers = {_id(k): _parse_peer(k, p) for k, p in view["peers"].items()}
        clients = {_id(k): _parse_client(k, c) for k, c in view.get("clients", {}).items()}
        return _make_view(view, network, peers, clients)


def view_json(view: View, network: str) -> Json:
    """What is kept of a view: what was checked, and nothing else. `network`: its name there."""
    return {
        "network": {"name": network, "cidrs": view.cidrs, **view.settings},
        "self": {
            "id": view.id,
            "name": view.name,
            "addresses": view.addresses,
            "observed": view.observed,
            "gateway": gateway_json(view.gateway),
        },
        "peers": {peer.id: _peer_json(peer) for peer in view.peers.values()},
        "clients": {client.id: _client_json(client) for client in view.clients.values()},
    }


def _peer_json(peer: Peer) -> Json:
    found: Json = {
        "id": peer.id,
        "name": peer.name,
        "key": peer.key,
        "addresses": peer.addresses,
        "port": peer.port,
        "lan": peer.lan,
        "observed": peer.observed,
    }
    if peer.static:
        found["static"] = peer.static
    if peer.gateway.roles:
        found["gateway"] = gateway_json(peer.gateway)
    return found


def _client_json(client: Client) -> Json:
    found: Json = {
        "id": client.id,
        "name": client.name,
        "key": client.key,
        "addresses": client.addresses,
        "via": client.via,
    }
    return {**found, "ranges": client.ranges} if client.ranges else found


@contextmanager
def _usable() -> Iterator[None]:
    """Whatever is wrong with a view is a BadView."""
    try:
        yield
    except (BadInput, RangeOverlaps) as error:
        raise BadView(f"the controller's view is not usable: {error.message}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadView(f"the controller's view is not usable: {quote(repr(error))}") from None


def _make_view(
    head: Json, network: str, peers: Mapping[str, Peer], clients: Mapping[str, Client]
) -> View:
    """A view of entries that were checked each by itself, once they fit together.

    A controller is trusted to say who is in the network, with no more than that: addresses must
    lie in the network's ranges, one of each family, and belong to one node, keys and ports must be
    what they should. More would be a way to lead everything into the tunnel.
    """
    told, me = head["network"], head["self"]
    if told["name"] != network:
        raise BadView(f"the controller sent a view of {quote(told['name'])}, not of {network}")
    found = View(
        network=network,
        cidrs=parse_ranges(told["cidrs"]),
        settings={name: s.parse(told[name]) for name, s in NETWORK_SETTINGS.items()},
        id=_id(me["id"]),
        name=parse_label(me["name"], "node name"),
        addresses=_node_addresses(me["addresses"]),
        observed=parse_observed(me["observed"][:_MOST_ADDRESSES]),
        peers={key: peer for key, peer in peers.items() if peer.addresses},
        gateway=parse_gateway(me.get("gateway", {})),
        clients={key: client for key, client in clients.items() if client.addresses},
    )
    if not found.addresses or not found.cidrs:
        raise BadView("the controller's view gives this node no address")
    _check_amounts(found)
    _check_inside(found)
    check_distinct(found.gateway)
    _check_unique(found)
    return found


def parse_ranges(cidrs: object) -> tuple[str, ...]:
    """A network's ranges, IPv4 first, one of a family at most. Raises BadInput."""
    if not isinstance(cidrs, list | tuple):
        raise BadInput(f"{quote(cidrs)} are no ranges")
    ranges = [parse_range(c) for c in cidrs[:_MOST_ADDRESSES]]
    _check_families(ranges, "ranges of a network")
    return tuple(str(r) for r in sorted(ranges, key=lambda r: r.version))


def _parse_peer(key: str, peer: Json) -> Peer:
    _check_place(key, peer)
    static = peer.get("static")
    return Peer(
        id=key,
        name=parse_label(peer["name"], "node name"),
        key=parse_key(peer["key"]),
        addresses=_node_addresses(peer["addresses"]),
        port=parse_port(peer["port"]),
        lan=parse_lan(peer["lan"][:_MOST_ADDRESSES]),
        observed=parse_observed(peer["observed"][:_MOST_ADDRESSES]),
        static=parse_endpoint(static) if static else None,
        gateway=parse_gateway(peer["gateway"]) if "gateway" in peer else NO_GATEWAY,
    )


def _parse_client(key: str, client: Json) -> Client:
    _check_place(key, client)
    return Client(
        id=key,
        name=parse_label(client["name"], "name of an ext client"),
        key=parse_key(client["key"]),
        addresses=_node_addresses(client["addresses"]),
        via=_id(client["via"]),
        ranges=parse_egress_ranges(client.get("ranges", ())),
    )


def _check_place(key: str, entry: Json) -> None:
    if entry["id"] != key:
        raise BadView(
            f"the controller's view has {quote(entry['id'])} in the place of {quote(key)}"
        )


def _id(text: object) -> str:
    if (
        not isinstance(text, str)
        or len(text) != 16
        or not all(c in "0123456789abcdef" for c in text)
    ):
        raise BadInput(f"{quote(text)} is no node id")
    return text


def _node_addresses(texts: list[str]) -> tuple[str, ...]:
    found = [parse_address(text) for text in texts[:_MOST_ADDRESSES]]
    _check_families(found, "addresses of a node")
    return tuple(str(address) for address in found)


def _check_families(found: Sequence[Address | Range], what: str) -> None:
    """Raises BadInput where there are two of one family."""
    if len({one.version for one in found}) < len(found):
        raise BadInput(f"two {what} are of one family: {', '.join(map(quote, found[:3]))}")


def _check_amounts(view: View) -> None:
    """Raises BadView where deltas have added up to too much."""
    amounts = _Amounts()
    amounts.add_ranges(view.gateway)
    for entry in view.others:
        amounts.add(entry)


def _check_inside(view: View) -> None:
    """Raises BadInput where an address of a node is outside, or an egress range is not."""
    ranges = [ip_network(c) for c in view.cidrs]
    bounds = {r.version: (int(r.network_address), int(r.broadcast_address)) for r in ranges}
    for text in (*view.addresses, *(a for other in view.others for a in other.addresses)):
        address = ip_address(text)
        low, high = bounds.get(address.version, (1, 0))
        if not low <= int(address) <= high:
            raise BadInput(f"{quote(text)} is outside {', '.join(view.cidrs)}")
    gateways = (view.gateway, *(peer.gateway for peer in view.peers.values()))
    outside = [cidr for g in gateways for cidr in (*g.ranges, *g.lans)]
    outside += [cidr for client in view.clients.values() for cidr in client.ranges]
    for cidr in map(ip_network, dict.fromkeys(outside)):
        if any(overlap(cidr, own) for own in ranges):
            raise BadInput(f"{cidr} outside the network overlaps the network itself")


def _check_unique(view: View) -> None:
    addresses = set(view.addresses)
    keys: set[str] = set()
    for peer in view.others:
        for address in peer.addresses:
            if address in addresses:
                raise BadView(f"the controller gives {address} to two nodes")
            addresses.add(address)
        if peer.key in keys:
            raise BadView(f"the controller gives the key {quote(peer.key)} to two nodes")
        keys.add(peer.key)
