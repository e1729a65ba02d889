"""What leads into the tunnel beside the network's own addresses, and by which peer.

Ranges of egress gateways, ext clients behind ingress gateways, everything where this machine
wants an exit node. The ranges get a routing table of their own, which is asked after all routes
of the main table but the default one, with an exit node after those that LANs have: none of
these is ever taken from the machine. Packets that carry the mark, WireGuard's own and the
agent's, pass it by, so that a range that holds a gateway's endpoint cannot swallow the tunnel.
As wg-quick(8) does it for a default route.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_interface, ip_network

from nmk.core.claims import Claim, Holders
from nmk.core.parse import EVERYTHING, Range, overlap, quote
from nmk.core.peers import Client, Peer, View
from nmk.core.tunnel import host_ranges


@dataclass(frozen=True, slots=True)
class RouteWishes:
    """What the owner of the machine wants of routes; the controller has no say in it.

    As in `core.settings.WISHES`. `roles`: to be a gateway. `guarded`: there is or was an exit
    node, so packets from this node's addresses in the mesh, such as those of old connections, may
    not leave another way.
    """

    accept: bool = True
    roles: bool = True
    exit_node: str | None = None
    kill_switch: bool = False
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A range of others as this machine treats it: the gateway it goes by, or why it does not.

    `standby`: gateways that would take over, in this order; `lan`: the range as the LAN itself has
    it, where that is another one; `client`: the ext client that it is behind, if it is.
    """

    range: str
    gateway: str | None
    reason: str | None = None
    standby: tuple[str, ...] = ()
    lan: str | None = None
    client: str | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """`ranges`: what else each peer and ext client is sent, by ids. `table`: what our table holds.

    `exit`: the node that everything goes by, where it can; `problem` says why it cannot.
    """

    ranges: Mapping[str, tuple[str, ...]]
    table: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    exit: str | None = None
    problem: str | None = None


def compile_routing(
    view: View,
    wishes: RouteWishes,
    claims: Sequence[Claim],
    dead: Collection[str],
    left_out: Collection[str],
) -> Routing:
    """The routing that a view and its owner's wishes lead to.

    `claims`: ranges that are somebody else's here; `dead`: ids of peers that do not answer;
    `left_out`: addresses that the mesh does not lead to from here.
    """
    ranges: dict[str, list[str]] = {}
    for client in view.clients.values():
        via = view.peers.get(client.via)
        if via and via.gateway.ingress:
            addresses = host_ranges(a for a in client.addresses if a not in left_out)
            ranges.setdefault(via.id, []).extend(addresses)
    routes = []
    out, holders = set(left_out), Holders(claims)
    unreachable = {p.id for p in view.peers.values() if out.issuperset(p.addresses)}
    families = {ip_interface(a).version for a in view.addresses if a not in out}
    offers, behind = _offers(view), _behind_clients(view)
    own_lans = [ip_network(lan) for lan in view.gateway.mapped.values()]
    for cidr in sorted({*offers, *behind}):
        family = ip_network(cidr).version
        reason = _why_not(view, cidr, wishes, holders, own_lans)
        if family not in families:
            reason = f"this node's IPv{family} address is left out"
        if cidr in offers:
            route, chosen = _choose(cidr, offers[cidr], reason, unreachable, dead)
        else:
            route, chosen = _follow(view, cidr, behind[cidr], reason, unreachable)
        routes.append(route)
        if chosen:
            ranges.setdefault(chosen, []).append(cidr)
    table = [route.range for route in routes if route.gateway]
    exit_node, problem = _find_exit(view, wishes, unreachable)
    if exit_node:
        ranges.setdefault(exit_node.id, []).extend(EVERYTHING)
        table += EVERYTHING
    return Routing(
        ranges={key: tuple(found) for key, found in ranges.items()},
        table=tuple(table),
        routes=tuple(routes),
        exit=exit_node.name if exit_node else None,
        problem=problem,
    )


def competitors(view: View) -> set[str]:
    """Ids of gateways that stand in for one another, so that it matters which of them are up."""
    return {g.id for gateways in _offers(view).values() if len(gateways) > 1 for g in gateways}


def followed(view: View, wishes: RouteWishes) -> list[str]:
    """The ranges of others that the owner lets be led into the tunnel, whoever else has them."""
    if not wishes.accept:
        return []
    own_lans = [ip_network(lan) for lan in view.gateway.mapped.values()]
    return [
        cidr
        for cidr in sorted({*_offers(view), *_behind_clients(view)})
        if cidr not in view.gateway.ranges
        and not any(overlap(lan, ip_network(cidr)) for lan in own_lans)
    ]


def watched(view: View, wishes: RouteWishes) -> set[str]:
    """Ids of peers that must be heard of to know how they are: competitors, the exit node."""
    exits = {p.id for p in view.peers.values() if p.gateway.exit and p.name == wishes.exit_node}
    return competitors(view) | exits


def idle_routing(routing: Routing, reason: str) -> Routing:
    """What becomes of a routing while nothing can be led into the tunnel."""
    return Routing(
        ranges={},
        routes=tuple(
            replace(r, gateway=None, reason=reason, standby=()) if r.gateway else r
            for r in routing.routes
        ),
        problem=routing.problem or (reason if routing.exit else None),
    )


def _offers(view: View) -> dict[str, list[Peer]]:
    """The gateways for each range, the preferred ones first."""
    found: dict[str, list[Peer]] = {}
    for peer in view.peers.values():
        for cidr in peer.gateway.ranges:
            found.setdefault(cidr, []).append(peer)
    for gateways in found.values():
        gateways.sort(key=lambda p: (p.gateway.egress.metric if p.gateway.egress else 0, p.name))
    return found


def _behind_clients(view: View) -> dict[str, Client]:
    """The ext client that each range is behind; of several the first by name."""
    found: dict[str, Client] = {}
    for client in sorted(view.clients.values(), key=lambda c: c.name):
        for cidr in client.ranges:
            found.setdefault(cidr, client)
    return found


def _why_not(
    view: View, cidr: str, wishes: RouteWishes, holders: Holders, own_lans: Sequence[Range]
) -> str | None:
    """Why this machine does not follow a range, whoever routes it."""
    if not wishes.accept:
        return "accept-routes is off"
    if cidr in view.gateway.ranges:
        return "this node routes it itself"
    there = ip_network(cidr)
    for lan in own_lans:
        # What comes for the mapped range must never go on to another site.
        if overlap(lan, there):
            return f"this node routes {lan} itself"
    claim = holders.find(there)
    return f"{claim.owner} has {claim.range}" if claim else None


def _choose(
    cidr: str,
    gateways: list[Peer],
    reason: str | None,
    unreachable: Collection[str],
    dead: Collection[str],
) -> tuple[Route, str | None]:
    """What becomes of a range, and the gateway it goes by: the first that is up, else the first.

    `reason`: why it is not followed at all. The gateway by its id.
    """
    lan = gateways[0].gateway.mapped.get(cidr)
    there = [g for g in gateways if g.id not in unreachable]
    if not reason and not there:
        reason = "the mesh does not lead to its gateway from here"
    if reason:
        return Route(cidr, None, reason, lan=lan), None
    alive = [g for g in there if g.id not in dead] or there
    chosen = alive[0]
    standby = dict.fromkeys(g.name for g in (*alive, *there) if g is not chosen)
    lan = chosen.gateway.mapped.get(cidr)
    return Route(cidr, chosen.name, None, tuple(standby), lan), chosen.id


def _follow(
    view: View, cidr: str, client: Client, reason: str | None, unreachable: Collection[str]
) -> tuple[Route, str | None]:
    """As `_choose`, of a range behind an ext client; where it calls here, the id is its own."""
    via = view.peers.get(client.via)
    is_ours = client.via == view.id and view.gateway.ingress is not None
    if not reason and not is_ours:
        if via is None or via.gateway.ingress is None:
            reason = f"the ext client {client.name} has no ingress gateway"
        elif via.id in unreachable:
            reason = "the mesh does not lead to its gateway from here"
    if reason:
        return Route(cidr, None, reason, client=client.name), None
    gateway, to = (via.name, via.id) if via else (view.name, client.id)
    return Route(cidr, gateway, client=client.name), to


def _find_exit(
    view: View, wishes: RouteWishes, unreachable: Collection[str]
) -> tuple[Peer | None, str | None]:
    """The exit node, or what is wrong with it."""
    if wishes.exit_node is None:
        return None, None
    for peer in view.peers.values():
        if peer.name == wishes.exit_node and peer.gateway.exit:
            if peer.id in unreachable:
                return None, f"the mesh does not lead to {peer.name} from here"
            return peer, None
    return None, why_no_exit(view, wishes.exit_node)


def exit_gateways(view: View) -> list[str]:
    """The names of the nodes that everything can go by, sorted."""
    return sorted(peer.name for peer in view.peers.values() if peer.gateway.exit)


def why_no_exit(view: View, name: str) -> str:
    """Why a name, which is no exit gateway's, can be no exit node."""
    if name == view.name:
        return f"{name} is this machine itself"
    if any(name == peer.name for peer in view.peers.values()):
        return f"{name} is no exit gateway"
    if any(name == client.name for client in view.clients.values()):
        return f"{name} is an ext client"
    return f"there is no node {quote(name)}"
