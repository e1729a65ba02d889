"""The routing table of a network, and the rules that lead to it (ip-rule(8))."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_interface, ip_network
from typing import TypeGuard

from nmk.core.links import CLOUDS, LAN_RANGES, LINKS, WIDEST_LAN, is_lan
from nmk.core.parse import EVERYTHING
from nmk.core.peers import View
from nmk.core.routes import Routing
from nmk.core.tunnel import MARK, Command

FIRST_ORDER = 1  # of a machine's networks
NO_ORDER = 0  # of one that has none yet, or that nobody knows
_TABLES = MARK  # the first routing table is the one after this number
_PRIORITIES = 20_000  # of rules, two a network
_EXITS = 30_000  # of what comes after the ranges of all networks
_CLOSED = 31_000  # last of all, but before the main table
_MOST_ORDERS = _CLOSED - _EXITS  # above, a rule is that of wg-quick for the main table
MAIN_PRIORITY = 32_766  # the kernel's own rule for the main table


def is_order(value: object) -> TypeGuard[int]:
    """Whether that can be a network's place among the machine's: its tables and rules go by it."""
    return type(value) is int and FIRST_ORDER <= value < _MOST_ORDERS


@dataclass(frozen=True, slots=True)
class RouteTable:
    """A network's own routing table, as it should be or as it is.

    `led`: ranges that lead into the interface; `rules`: the lines of `ip rule`, with their family;
    `shut`: whether the table behind the rule `closed` for IPv4 has its route; `is_wide`: whether no
    route has a narrower scope than `_SCOPE`, as up to nmk 0.2.0.
    """

    led: frozenset[str] = frozenset()
    rules: frozenset[tuple[int, str]] = frozenset()
    shut: bool = False
    is_wide: bool = True


NO_TABLE = RouteTable()

# Before the kernel takes a route by a router, it looks for the router by all rules, unmarked, but
# only among routes of the scope `link` (fib_check_nh in net/ipv4/fib_semantics.c). Of a wider scope
# ours are not among them, and it finds the router in the main table, whatever its address is. IPv6
# knows no scopes: there it looks into the new route's own table first (net/ipv6/route.c).
_SCOPE = "scope global"

_BUT_DEFAULT = "suppress_prefixlength 0"  # what a table knows but for its default route


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules that a network may have, as `ip rule add` takes them (ip-rule(8)).

    `lan`: what the main table knows but for its default route goes first, or, where a network has
    an exit node, `lans`: what of it LANs have, with their families; then `ranges`: what our
    table knows but for its default route. After the ranges of all networks, everything else by the
    exit node (`everything`), or nowhere (`closed`: of a family that the network has not, and while
    there is no interface). `links`, with their families, before the ranges: what is never led into
    the tunnel, whoever says that it is behind him, goes on to the main table. `former`: those that
    no network gets any more.
    """

    lan: str
    ranges: str
    everything: str
    closed: frozenset[tuple[int, str]]
    links: frozenset[tuple[int, str]]
    lans: frozenset[tuple[int, str]]
    former: frozenset[tuple[int, str]]

    @property
    def all(self) -> frozenset[tuple[int, str]]:
        """Each rule with each family that it may be of."""
        both = (self.lan, self.ranges, self.everything)
        found = frozenset((family, rule) for family in (4, 6) for rule in both)
        return self.closed | self.links | self.lans | self.former | found


def table_of(order: int) -> int:
    """The number of a network's routing table."""
    return _TABLES + 1 + order


def shut_table_of(order: int) -> int:
    """The number of the routing table that leads nowhere, for IPv4."""
    return table_of(order) + _MOST_ORDERS


def rules_of(order: int) -> Rules:
    """The rules of the network with this order on the machine."""
    first, last, closed = _PRIORITIES + 2 * order, _EXITS + order, _CLOSED + order
    unmarked = f"not fwmark {MARK:#x}"
    nowhere = f"{unmarked} unreachable"
    ours = f"{unmarked} table {table_of(order)}"
    return Rules(
        lan=f"priority {first} table main {_BUT_DEFAULT}",
        ranges=f"priority {first + 1} {ours} {_BUT_DEFAULT}",
        everything=f"priority {last} {ours}",
        closed=frozenset(
            {
                (4, f"priority {closed} {unmarked} table {shut_table_of(order)}"),
                (6, f"priority {closed} {nowhere}"),
            }
        ),
        links=_passing(first, (*LINKS, *CLOUDS)),
        lans=frozenset(
            (family, f"priority {first} to {c} table main suppress_prefixlength {widest - 1}")
            for family, widest in WIDEST_LAN.items()
            for c in _of(family, LAN_RANGES)
        ),
        former=frozenset(
            {
                (4, f"priority {closed} {nowhere}"),
                *((family, f"priority {last} {nowhere}") for family in (4, 6)),
                *((family, f"priority {first + 1} {ours}") for family in (4, 6)),  # 0.2.0
            }
        ),
    )


def _passing(priority: int, cidrs: Iterable[str]) -> frozenset[tuple[int, str]]:
    return frozenset(
        (ip_network(cidr).version, f"priority {priority} to {cidr} goto {MAIN_PRIORITY}")
        for cidr in cidrs
    )


def order_of(rule: str) -> int | None:
    """The order of the network that a rule tells of, as `rules_of` has it; None of another's.

    `lan` tells of none: it is word for word what wg-quick lays, and the kernel puts that at the
    priority before the lowest one, which may be any of ours. One that no network can have, as a
    damaged state once had it, is told by rules with our mark alone.
    """
    return min(_orders_told(rule), default=None, key=lambda order: (not is_order(order), order))


def orders_of(rules: Iterable[str]) -> set[int]:
    """Those of the networks that rules tell of.

    A rule may be one of two networks', where one has an order that none can have: it is of the one
    that another rule tells of.
    """
    told = [orders for rule in rules if (orders := _orders_told(rule))]
    sure = {order for orders in told if len(orders) == 1 for order in orders}
    return sure | {min(orders) for orders in told if not orders & sure}


def _orders_told(rule: str) -> set[int]:
    priority = int(rule.split()[1])
    is_marked = f" fwmark {MARK:#x} " in rule
    guesses = {(priority - _PRIORITIES) // 2, *(priority - b for b in (_EXITS, _CLOSED))}
    return {
        order
        for order in guesses
        if is_order(order) or (is_marked and order >= 0)
        if rule in {ours for _, ours in rules_of(order).all} - {rules_of(order).lan}
    }


def compile_table(
    order: int, view: View, routing: Routing, *, any_exit: bool = False
) -> RouteTable:
    """What the table should be. Of a family that the network has not, nothing leaves.

    `any_exit`: whether this network or another one of the machine wants an exit node. Then of the
    main table only what LANs have goes before, and networks with other ranges see to them here.
    """
    rules = rules_of(order)
    ours = {ip_interface(address).version for address in view.addresses}
    table = [*routing.table, *(c for c in view.cidrs if any_exit and not is_lan(c))]
    led = {c for c in table if c not in EVERYTHING or ip_network(c).version in ours}
    wanted: set[tuple[int, str]] = set()
    for cidr in table:
        family: int = ip_network(cidr).version
        wanted |= {(family, rules.ranges), *([] if any_exit else [(family, rules.lan)])}
        also = rules.links | rules.lans if any_exit else rules.links
        if cidr in EVERYTHING:
            also |= rules.closed | ({(family, rules.everything)} if family in ours else set())
        wanted |= {rule for rule in also if rule[0] == family}
    return RouteTable(frozenset(led), frozenset(wanted), shut=EVERYTHING[0] in table)


def only_ipv4(table: RouteTable) -> RouteTable:
    """What is left of it on a machine that knows no IPv6."""
    rules = frozenset((family, rule) for family, rule in table.rules if family == 4)
    return replace(table, led=frozenset(_of(4, table.led)), rules=rules)


def plan_table(order: int, interface: str, want: RouteTable, live: RouteTable) -> list[Command]:
    """The commands that turn one into the other, at most one a family; none where they agree.

    What comes does so before anything goes. Routes come before the rules that lead to them, and
    go after them; of the rules those that spare the LAN come first and go last. To take away a rule
    that suppresses nothing, ip takes the first that is else the same: that is laid again after it.
    """
    commands = []
    to = f"dev {interface} table {table_of(order)}"
    nowhere = f"unreachable default table {shut_table_of(order)}"
    led = want.led - live.led if live.is_wide else want.led
    for family in (4, 6):
        gone, new = _rules(family, live.rules - want.rules), _rules(family, want.rules - live.rules)
        shuts = family == 4 and want.shut != live.shut
        twins = _rules(family, {(family, f"{rule} {_BUT_DEFAULT}") for rule in gone} & want.rules)
        again = [rule for rule in twins if rule not in new]
        lines = [
            *(f"route replace {cidr} {to} {_SCOPE}" for cidr in _of(family, led)),
            *([f"route replace {nowhere}"] if shuts and want.shut else ()),
            *(f"rule del {rule}" for rule in again),
            *(f"rule add {rule}" for rule in [*again, *new]),
            *(f"rule del {rule}" for rule in reversed(gone)),
            *(f"route del {cidr} {to}" for cidr in _of(family, live.led - want.led)),
            *([f"route del {nowhere}"] if shuts and live.shut else ()),
        ]
        if lines:
            text = "".join(f"{line}\n" for line in lines)
            commands.append(Command(("ip", f"-{family}", "-force", "-batch", "-"), text))
    return commands


def removals(order: int, interface: str, want: RouteTable, live: RouteTable) -> list[str]:
    """The commands, a line each, that take away what is there and not wanted."""
    return [
        f"{' '.join(command.argv[:2])} {line}"
        for command in plan_table(order, interface, want, live)
        for line in (command.stdin or "").splitlines()
        if line.split()[1] == "del"
    ]


def describe_table(order: int, want: RouteTable, live: RouteTable) -> list[str]:
    """The differences, a line each."""
    closed = sorted((want.rules - live.rules) & rules_of(order).closed)
    led = {ip_network(cidr).version for cidr in want.led if cidr in EVERYTHING}
    lines = [
        *(f"route {cidr} into the tunnel" for cidr in sorted(want.led - live.led)),
        *(f"let no IPv{family} leave" for family, _ in closed if family not in led),
        *(f"no longer route {cidr} into the tunnel" for cidr in sorted(live.led - want.led)),
    ]
    return lines or ["put the routing rules in place"] * (want != live)


def _of(family: int, cidrs: Iterable[str]) -> list[str]:
    return sorted(cidr for cidr in cidrs if ip_network(cidr).version == family)


def _rules(family: int, rules: Iterable[tuple[int, str]]) -> list[str]:
    return sorted(rule for of, rule in rules if of == family)
