"""What leads into the tunnel beside the network's own addresses, and by which peer.

Ranges of egress gateways, ext clients behind ingress gateways, everything where this machine
wants an exit node. The ranges get a routing table of their own, which is asked after all routes
of the main table but the default one: no LAN is ever taken from the machine. Packets that carry
the mark, WireGuard's own and the agent's, pass it by, so that a range that holds a gateway's
endpoint cannot swallow the tunnel. As wg-quick(8) does it for a default route.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network

from nmk.core.claims import Claim
from nmk.core.ext_clients import EVERYTHING
from nmk.core.parse import overlap, quote
from nmk.core.peers import Peer, View
from nmk.core.tunnel import MARK, Command, host_ranges

_TABLES = MARK  # the first routing table is the one after this number
_PRIORITIES = 20_000  # of rules, two a network; before the main table's 32766


@dataclass(frozen=True, slots=True)
class RouteWishes:
    """What the owner of the machine wants of routes; the controller has no say in it.

    As in `core.settings.WISHES`. `guarded`: there is or was an exit node, so packets from this
    node's addresses in the mesh, such as those of old connections, may not leave another way.
    """

    accept: bool = True
    exit_node: str | None = None
    kill_switch: bool = False
    guarded: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """An egress range as this machine treats it: the gateway it goes by, or why it does not.

    `standby`: gateways that would take over, in this order.
    """

    range: str
    gateway: str | None
    reason: str | None = None
    standby: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Routing:
    """`ranges`: what else each peer is sent, by the peers' ids. `table`: what our table holds.

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
    for cidr, gateways in sorted(_offers(view).items()):
        route, chosen = _choose(view, cidr, gateways, wishes, claims, dead)
        routes.append(route)
        if chosen:
            ranges.setdefault(chosen.id, []).append(cidr)
    table = [route.range for route in routes if route.gateway]
    exit_node, problem = _find_exit(view, wishes)
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


def own_subnet_in_the_way(cidr: str, lan: Iterable[str]) -> str | None:
    """The subnet of the machine's own addresses that holds a range, if one does.

    A smaller one does not count: its packets find their way by its longer prefix.
    """
    wanted = ip_network(cidr)
    for subnet in (ip_interface(address).network for address in lan):
        if overlap(subnet, wanted) and subnet.prefixlen <= wanted.prefixlen:
            return str(subnet)
    return None


def competitors(view: View) -> set[str]:
    """Ids of gateways that stand in for one another, so that it matters which of them are up."""
    return {g.id for gateways in _offers(view).values() if len(gateways) > 1 for g in gateways}


def _offers(view: View) -> dict[str, list[Peer]]:
    """The gateways for each range, the preferred ones first."""
    found: dict[str, list[Peer]] = {}
    for peer in view.peers.values():
        for cidr in peer.gateway.ranges:
            found.setdefault(cidr, []).append(peer)
    for gateways in found.values():
        gateways.sort(key=lambda p: (p.gateway.egress.metric if p.gateway.egress else 0, p.name))
    return found


def _choose(
    view: View,
    cidr: str,
    gateways: list[Peer],
    wishes: RouteWishes,
    claims: Sequence[Claim],
    dead: Collection[str],
) -> tuple[Route, Peer | None]:
    """What becomes of a range, and the gateway it goes by: the first that is up, else the first."""
    reason = None
    if not wishes.accept:
        reason = "accept-routes is off"
    elif cidr in view.gateway.ranges:
        reason = "this node routes it itself"
    else:
        for claim in claims:
            if subnet := own_subnet_in_the_way(cidr, [claim.range]):
                reason = f"{claim.owner} has {subnet}"
                break
    if reason:
        return Route(cidr, None, reason), None
    alive = [g for g in gateways if g.id not in dead] or gateways
    chosen = alive[0]
    standby = tuple(g.name for g in (*alive, *gateways) if g is not chosen)
    return Route(cidr, chosen.name, None, tuple(dict.fromkeys(standby))), chosen


def _find_exit(view: View, wishes: RouteWishes) -> tuple[Peer | None, str | None]:
    """The exit node, or what is wrong with it."""
    if wishes.exit_node is None:
        return None, None
    for peer in view.peers.values():
        if peer.name == wishes.exit_node:
            if peer.gateway.exit:
                return peer, None
            return None, f"{peer.name} is no exit gateway"
    return None, f"there is no node {quote(wishes.exit_node)}"


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A network's own routing table, as it should be or as it is.

    `led`: ranges that lead into the interface; `blocked`: ranges that lead nowhere; `rules`: the
    lines of `ip rule`, by family.
    """

    led: frozenset[str] = frozenset()
    blocked: frozenset[str] = frozenset()
    rules: frozenset[tuple[int, str]] = frozenset()


NO_TABLE = RouteTable()


def table_of(order: int) -> int:
    """The number of a network's routing table."""
    return _TABLES + 1 + order


def rules_of(order: int) -> tuple[str, str]:
    """The two rules of a network, as `ip rule add` takes them (ip-rule(8))."""
    first = _PRIORITIES + 2 * order
    return (
        f"priority {first} table main suppress_prefixlength 0",
        f"priority {first + 1} not fwmark {MARK:#x} table {table_of(order)}",
    )


def compile_table(order: int, view: View, routing: Routing) -> RouteTable:
    """What the table should be. Of a family that the network has not, everything is blocked."""
    if not routing.table:
        return NO_TABLE
    families = {ip_interface(address).version for address in view.addresses}
    everything = [cidr for cidr in EVERYTHING if cidr in routing.table]
    blocked = {cidr for cidr in everything if ip_network(cidr).version not in families}
    led = set(routing.table) - blocked
    return RouteTable(
        led=frozenset(led),
        blocked=frozenset(blocked),
        rules=frozenset(
            (family, rule)
            for family in {ip_network(cidr).version for cidr in routing.table}
            for rule in rules_of(order)
        ),
    )


def only_ipv4(table: RouteTable) -> RouteTable:
    """What is left of it on a machine that knows no IPv6."""
    return RouteTable(
        led=frozenset(_of(4, table.led)),
        blocked=frozenset(_of(4, table.blocked)),
        rules=frozenset((family, rule) for family, rule in table.rules if family == 4),
    )


def plan_table(order: int, interface: str, want: RouteTable, live: RouteTable) -> list[Command]:
    """The commands that turn one into the other, at most one a family; none where they agree.

    Routes come before the rules that lead to them, and go after them.
    """
    commands = []
    for family in (4, 6):
        lines = [
            *(f"rule del {rule}" for f, rule in sorted(live.rules - want.rules) if f == family),
            *_lines("del", interface, order, _of(family, live.led - want.led)),
            *_lines("del", None, order, _of(family, live.blocked - want.blocked)),
            *_lines("replace", interface, order, _of(family, want.led - live.led)),
            *_lines("replace", None, order, _of(family, want.blocked - live.blocked)),
            *(f"rule add {rule}" for f, rule in sorted(want.rules - live.rules) if f == family),
        ]
        if lines:
            text = "".join(f"{line}\n" for line in lines)
            commands.append(Command(("ip", f"-{family}", "-batch", "-"), text))
    return commands


def describe_table(want: RouteTable, live: RouteTable) -> list[str]:
    """The differences, a line each."""
    return [
        *(f"route {cidr} into the tunnel" for cidr in sorted(want.led - live.led)),
        *(f"block {cidr}" for cidr in sorted(want.blocked - live.blocked)),
        *(f"no longer route {cidr} into the tunnel" for cidr in sorted(live.led - want.led)),
        *(f"no longer block {cidr}" for cidr in sorted(live.blocked - want.blocked)),
    ]


def _of(family: int, cidrs: Iterable[str]) -> list[str]:
    return sorted(cidr for cidr in cidrs if ip_network(cidr).version == family)


def _lines(verb: str, interface: str | None, order: int, cidrs: list[str]) -> list[str]:
    to = f"dev {interface}" if interface else ""
    kind = "" if interface else "unreachable "
    return [
        f"route {verb} {kind}{cidr} {to} table {table_of(order)}".replace("  ", " ")
        for cidr in cidrs
    ]
