"""A view as its agent holds it: network, own node, peers and ext clients, all checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network
from typing import Any

from nmk.core.gateways import NO_GATEWAY, Gateway, parse_gateway
from nmk.core.parse import (
    Address,
    Range,
    overlap,
    parse_address,
    parse_endpoint,
    parse_interface_address,
    parse_key,
    parse_label,
    parse_port,
    parse_range,
    quote,
)
from nmk.core.settings import NETWORK_SETTINGS
from nmk.errors import BadInput, BadView

Json = dict[str, Any]  # as parsed from outside; every use checks what it takes
_MOST_ADDRESSES = 64


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
    """An ext client. `via`: the id of the node that is its ingress gateway."""

    id: str
    name: str
    key: str
    addresses: tuple[str, ...]
    via: str


@dataclass(frozen=True, slots=True)
class View:
    """All that one node must know. `settings` as in `core.settings`; `peers` by their ids.

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


def merge_view(old: Json | None, reply: Json) -> Json:
    """The stored view with a reply taken in, both as JSON; the reply is a full view or a delta.

    Raises BadView when a delta meets no view to add to, or the reply has not the form of either.
    """
    try:
        if not reply["full"] and old is None:
            raise BadView("the controller sent news of a view that we do not have")
        merged = {"network": reply["network"], "self": reply["self"]}
        for kind in ("peers", "clients"):
            known = {} if reply["full"] else dict(old.get(kind, {}) if old else {})
            for gone in reply.get("gone", ()):
                known.pop(gone, None)
            known.update((entry["id"], entry) for block in reply.get(kind, ()) for entry in block)
            merged[kind] = known
        merged["peers"].pop(reply["self"]["id"], None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadView(f"the controller's view lacks something: {error!r}") from None
    return merged


def parse_view(view: Json, network: str) -> View:
    """The merged view, with everything in it checked. Raises BadView that quotes the culprit.

    A controller is trusted to say who is in the network, with no more than that: addresses must
    lie in the network's ranges, one of each family, and belong to one node, keys and ports must be
    what they should. More would be a way to lead everything into the tunnel.
    """
    try:
        head, me = view["network"], view["self"]
        if head["name"] != network:
            raise BadView(f"the controller sent a view of {quote(head['name'])}, not of {network}")
        ranges = [parse_range(c) for c in head["cidrs"]]
        _check_families(ranges, f"ranges of {network}")
        cidrs = tuple(map(str, ranges))
        found = View(
            network=network,
            cidrs=cidrs,
            settings={name: s.parse(head[name]) for name, s in NETWORK_SETTINGS.items()},
            id=_id(me["id"]),
            name=parse_label(me["name"], "node name"),
            addresses=_inside(me["addresses"], ranges),
            observed=_addresses(me["observed"]),
            peers={_id(k): _parse_peer(k, p, ranges) for k, p in view["peers"].items()},
            gateway=_parse_gateway(me.get("gateway", {}), ranges),
            clients={
                _id(k): _parse_client(k, c, ranges) for k, c in view.get("clients", {}).items()
            },
        )
    except BadInput as error:
        raise BadView(f"the controller's view is not usable: {error.message}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadView(f"the controller's view is not usable: {error!r}") from None
    if not found.addresses or not cidrs:
        raise BadView("the controller's view gives this node no address")
    _check_unique(found)
    return found


def _parse_peer(key: str, peer: Json, ranges: list[Range]) -> Peer:
    _check_place(key, peer)
    static = peer.get("static")
    return Peer(
        id=key,
        name=parse_label(peer["name"], "node name"),
        key=parse_key(peer["key"]),
        addresses=_inside(peer["addresses"], ranges),
        port=parse_port(peer["port"]),
        lan=tuple(parse_interface_address(a) for a in peer["lan"][:_MOST_ADDRESSES]),
        observed=_addresses(peer["observed"]),
        static=parse_endpoint(static) if static else None,
        gateway=_parse_gateway(peer["gateway"], ranges) if "gateway" in peer else NO_GATEWAY,
    )


def _parse_client(key: str, client: Json, ranges: list[Range]) -> Client:
    _check_place(key, client)
    return Client(
        id=key,
        name=parse_label(client["name"], "name of an ext client"),
        key=parse_key(client["key"]),
        addresses=_inside(client["addresses"], ranges),
        via=_id(client["via"]),
    )


def _check_place(key: str, entry: Json) -> None:
    if entry["id"] != key:
        raise BadView(
            f"the controller's view has {quote(entry['id'])} in the place of {quote(key)}"
        )


def _parse_gateway(data: Json, ranges: list[Range]) -> Gateway:
    gateway = parse_gateway(data)
    for cidr in map(ip_network, gateway.ranges):
        if any(overlap(cidr, own) for own in ranges):
            raise BadInput(f"{cidr} of an egress gateway overlaps the network itself")
    return gateway


def _id(text: object) -> str:
    if (
        not isinstance(text, str)
        or len(text) != 16
        or not all(c in "0123456789abcdef" for c in text)
    ):
        raise BadInput(f"{quote(text)} is no node id")
    return text


def _addresses(texts: list[str]) -> tuple[str, ...]:
    return tuple(str(parse_address(a)) for a in texts[:_MOST_ADDRESSES])


def _inside(texts: list[str], ranges: list[Range]) -> tuple[str, ...]:
    found = [parse_address(text) for text in texts]
    for address in found:
        if not any(address.version == r.version and address in r for r in ranges):
            raise BadInput(f"{quote(address)} is outside {', '.join(map(str, ranges))}")
    _check_families(found, "addresses of a node")
    return tuple(str(address) for address in found)


def _check_families(found: Sequence[Address | Range], what: str) -> None:
    """Raises BadInput where there are two of one family."""
    if len({one.version for one in found}) < len(found):
        raise BadInput(f"two {what} are of one family: {', '.join(map(quote, found[:3]))}")


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
