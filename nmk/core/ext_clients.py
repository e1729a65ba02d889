"""Ext clients: who comes, changes and goes, what their configs say, and whether that still fits.

Decisions are made as in `core.nodes`: from a mesh and a request to the records to write.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface

from nmk.core.gateways import parse_egress_ranges
from nmk.core.mesh import Mesh, check_fresh
from nmk.core.nodes import check_name, find_node, free_addresses, move_to
from nmk.core.parse import EVERYTHING, join_endpoint, look_in, parse_key, quote
from nmk.core.records import ExtClient, Issue, Node, Record
from nmk.core.sites import (
    Carrier,
    check_amount,
    check_carrier,
    check_own_lan,
    check_range,
    check_roles,
)
from nmk.errors import Ambiguous, BadInput, NameTaken, NotFound

_ROUTER_KEEPALIVE = 25  # seconds, as wg(8) advises


@dataclass(frozen=True, slots=True)
class NewClient:
    """What an admin asks for.

    `gateway` None: the only ingress gateway; `address` None: a free one; `routes`: the ranges
    behind a router, as `parse_routes` takes them.
    """

    id: str
    name: str
    public_key: str
    gateway: str | None = None
    address: str | None = None
    routes: str = ""
    full_tunnel: bool = False
    expires_at: int | None = None


def create_client(mesh: Mesh, new: NewClient, now: int) -> ExtClient:
    """A new ext client with an address of each of the network's families."""
    check_name(mesh, new.name, "name of an ext client")
    check_key(mesh, new.public_key)
    gateway = choose_ingress(mesh, new.gateway)
    routes = check_routes(mesh, new.name, gateway, parse_routes(new.routes))
    addresses = free_addresses(mesh, new.address, now)
    client = ExtClient(
        id=new.id,
        network=mesh.name,
        name=new.name,
        gateway=gateway.identity,
        public_key=new.public_key,
        address4=addresses.get(4),
        address6=addresses.get(6),
        issue=Issue((), ""),
        routes=routes,
        full_tunnel=new.full_tunnel,
        expires_at=new.expires_at,
        created_at=now,
    )
    check_roles(mesh, client)
    return issued(mesh, client)


def parse_routes(text: str) -> tuple[str, ...]:
    """Ranges behind a router, with commas between them. Raises BadInput."""
    parts = [part.strip() for part in text.split(",")] if text else []
    if everything := next((part for part in parts if part in EVERYTHING), None):
        raise BadInput(
            f"{quote(everything)} is everything, which is behind no router",
            "give the ranges of its LAN; all traffic of the device itself: --full-tunnel",
        )
    return parse_egress_ranges(parts)


def check_routes(
    mesh: Mesh, name: str, gateway: Node | None, routes: tuple[str, ...]
) -> tuple[str, ...]:
    """The ranges, which nobody else carries. Raises BadInput, RangeOverlaps.

    `name`: the ext client's; `gateway`: where it calls, which must not be in such a LAN itself.
    """
    known = mesh.client_by_name.get(name)
    check_amount(mesh, len(routes) - (len(known.routes) if known else 0))
    for cidr in routes:
        check_range(mesh, cidr)
        check_carrier(mesh, Carrier("ext client", name, cidr, cidr))
        if gateway:
            check_own_lan(gateway, cidr)
    return routes


def find_client(mesh: Mesh, name: str) -> ExtClient:
    """A live ext client by its name."""
    client = mesh.client_by_name.get(name)
    if client is None and name in mesh.by_name:
        raise NotFound(
            f"{quote(name)} is a node, and no ext client", f"nmk node show -n {mesh.name} {name}"
        )
    if client is None:
        raise NotFound(
            f"there is no ext client {quote(name)} in {mesh.name}",
            look_in(f"nmk extclient list -n {mesh.name}", name, mesh.client_by_name),
        )
    return client


def set_client(
    mesh: Mesh, name: str, changes: Mapping[str, str], expires_at: int | None, revision: int | None
) -> ExtClient:
    """The client with an admin's wishes: `name`, `address`, `gateway`, `routes`, `expires`.

    `expires_at`: the time that `expires` stands for. One that has expired is enabled again by a
    later time. What its config says stays as it is, and may cease to fit.
    """
    client = _fresh_client(mesh, name, revision)
    for field, value in changes.items():
        match field:
            case "name":
                if value != name:
                    client = replace(client, name=check_name(mesh, value, "name of an ext client"))
            case "address":
                client = move_to(mesh, client, value)
            case "gateway":
                node = choose_ingress(mesh, value)
                client = replace(client, gateway=node.identity)
                check_routes(mesh, name, node, client.routes)
            case "routes":
                routes = parse_routes(value)
                gateway = mesh.nodes.get(client.gateway)
                client = replace(client, routes=check_routes(mesh, name, gateway, routes))
            case "expires":
                state = "enabled" if client.state == "expired" else client.state
                client = replace(client, expires_at=expires_at, state=state)
            case _:
                raise BadInput(
                    f"{quote(field)} is no setting of an ext client",
                    "there are: name, address, gateway, routes, expires",
                )
    check_roles(mesh, client)
    return client


def rotate_client(mesh: Mesh, name: str, public_key: str, revision: int | None) -> ExtClient:
    """The client with another key and a config that fits."""
    client = _fresh_client(mesh, name, revision)
    if public_key != client.public_key:
        check_key(mesh, public_key)
    return issued(mesh, replace(client, public_key=public_key))


def switch_client(
    mesh: Mesh, name: str, now: int, revision: int | None, *, enabled: bool
) -> ExtClient:
    """The client let in, or kept out. Raises BadInput where its time is over."""
    client = _fresh_client(mesh, name, revision)
    over = client.expires_at is not None and client.expires_at <= now
    if enabled and over:
        raise BadInput(
            f"the ext client {quote(name)} has expired",
            f"nmk extclient set -n {mesh.name} {name} expires=7d",
        )
    return replace(client, state="enabled" if enabled else "disabled")


def delete_client(mesh: Mesh, name: str, revision: int | None, now: int) -> ExtClient:
    """The client's tombstone."""
    return replace(_fresh_client(mesh, name, revision), deleted_at=now)


def expire_clients(mesh: Mesh, now: int) -> list[Record]:
    """The clients whose time is over, kept out from now on."""
    if mesh.next_expiry > now:
        return []
    return [
        replace(c, state="expired")
        for c in mesh.clients.values()
        if c.state == "enabled" and c.expires_at is not None and c.expires_at <= now
    ]


def choose_ingress(mesh: Mesh, name: str | None) -> Node:
    """The ingress gateway named, else the only one. Raises NotFound, Ambiguous, BadInput."""
    if name is not None:
        node = find_node(mesh, name)
        if node.gateway.ingress is None:
            raise BadInput(
                f"{quote(name)} is no ingress gateway",
                f"nmk gateway add -n {mesh.name} {name} ingress",
            )
        return node
    found = sorted((n for n in mesh.gateways.values() if n.gateway.ingress), key=lambda n: n.name)
    if not found:
        raise NotFound(
            f"{mesh.name} has no ingress gateway yet",
            f"nmk gateway add -n {mesh.name} NODE ingress",
        )
    if len(found) > 1:
        names = ", ".join(n.name for n in found)
        raise Ambiguous(f"there are several ingress gateways: {names}", "name one with --gateway")
    return found[0]


def check_key(mesh: Mesh, key: str) -> None:
    """A public key that nobody in the network has. Raises BadInput, NameTaken."""
    parse_key(key)
    owner = mesh.by_wg_key.get(key) or mesh.client_by_key.get(key)
    if owner is not None:
        kind = "node" if isinstance(owner, Node) else "ext client"
        raise NameTaken(f"the key {key} is that of the {kind} {owner.name}", "make another key")


def issued(mesh: Mesh, client: ExtClient) -> ExtClient:
    """The client with a config that says how things are now. Raises BadInput where none works."""
    node = mesh.nodes.get(client.gateway)
    if node is None or node.gateway.ingress is None:
        raise BadInput(
            f"the ext client {quote(client.name)} has no ingress gateway any more",
            f"nmk extclient set -n {mesh.name} {client.name} gateway=NODE",
        )
    endpoint = endpoint_of(node)
    if endpoint is None:
        raise BadInput(
            f"nobody knows where {node.name} can be called",
            f"nmk gateway add -n {mesh.name} {node.name} ingress --endpoint HOST:PORT",
        )
    if client.full_tunnel and node.gateway.exit is None:
        raise BadInput(
            f"{node.name} lets nobody out to the internet",
            f"nmk gateway add -n {mesh.name} {node.name} exit",
        )
    issue = Issue(
        addresses=client.addresses,
        gateway_key=node.facts.wg_key,
        endpoint=endpoint,
        ranges=ranges_of(mesh, client),
        mtu=mesh.settings["mtu"],
        keepalive=_keepalive_of(mesh, client),
    )
    return replace(client, issue=issue)


def endpoint_of(node: Node) -> str | None:
    """Where ext clients call an ingress gateway: what was given, else as far as it can be told.

    A pinned endpoint, a public address of its own, the address that it is seen at, any other.
    """
    assert node.gateway.ingress is not None  # noqa: S101  # the caller's business
    given = node.gateway.ingress.endpoint or node.endpoint or node.facts.endpoint
    if given:
        return given
    own = [ip_interface(a).ip for a in node.facts.lan]
    seen = [ip_address(a) for a in node.observed]
    for address in (*(a for a in own if a.is_global), *seen, *own):
        return join_endpoint(address, node.facts.listen_port)
    return None


def ranges_of(mesh: Mesh, client: ExtClient) -> tuple[str, ...]:
    """What the client's config leads into the tunnel."""
    if client.full_tunnel or mesh.network is None:
        return EVERYTHING
    routed = {cidr for node in mesh.gateways.values() for cidr in node.gateway.ranges}
    routed |= {cidr for router in mesh.routers.values() for cidr in router.routes}
    routed -= set(client.routes)
    own = [c for c in (mesh.network.cidr4, mesh.network.cidr6) if c]
    return (*own, *sorted(routed, key=lambda r: (":" in r, r)))


def _keepalive_of(mesh: Mesh, client: ExtClient) -> int:
    """The network's; a router always has one, since others begin to talk to what is behind it."""
    return mesh.settings["keepalive"] or (_ROUTER_KEEPALIVE if client.routes else 0)


def staleness(mesh: Mesh, client: ExtClient) -> list[str]:
    """Why the client's config no longer fits the network; empty where it does."""
    node = mesh.nodes.get(client.gateway)
    if node is None:
        return ["its gateway was deleted"]
    if node.gateway.ingress is None:
        return [f"{node.name} is no ingress gateway any more"]
    issue, found = client.issue, []
    if issue.addresses != client.addresses:
        found.append(f"its address is {', '.join(client.addresses)} now")
    if issue.gateway_key != node.facts.wg_key:
        was = mesh.by_wg_key.get(issue.gateway_key)
        other = f"its gateway is {node.name} now, and was {was.name}" if was else ""
        found.append(other or f"{node.name} has another key now")
    endpoint = endpoint_of(node)
    if issue.endpoint not in {None, endpoint}:
        called = f"is called at {endpoint} now" if endpoint else "is nowhere to be called now"
        found.append(f"{node.name} {called}")
    if issue.ranges is not None:
        now = dict.fromkeys(ranges_of(mesh, client))
        had = dict.fromkeys(issue.ranges)
        found += [f"it lacks {r}" for r in now if r not in had]
        found += [f"nobody routes {r} any more" for r in had if r not in now]
    said = {"mtu": issue.mtu, "keepalive": issue.keepalive}
    should = {"mtu": mesh.settings["mtu"], "keepalive": _keepalive_of(mesh, client)}
    for setting, value in should.items():
        if said[setting] not in {None, value}:
            whose = "the network" if value == mesh.settings[setting] else "a router"
            found.append(f"{setting} of {whose} is {value} now")
    if client.full_tunnel and node.gateway.exit is None:
        found.append(f"{node.name} is no exit gateway")
    return found


def _fresh_client(mesh: Mesh, name: str, revision: int | None) -> ExtClient:
    client = find_client(mesh, name)
    check_fresh(client.revision, revision, f"ext client {quote(name)}")
    return client
