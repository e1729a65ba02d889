"""Which route or rule of another program takes packets that are nmk's to lead (ip-rule(8))."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from nmk.core.route_table import MAIN_PRIORITY, table_of

_MAIN = "main"
_NOWHERE = {"blackhole", "unreachable", "prohibit"}
_MACHINES = {"kernel", "ra", "dhcp", "redirect"}  # protocols: they come again by themselves


@dataclass(frozen=True, slots=True)
class KernelRoute:
    """A route: what it is for, in which table, of which type, who laid it.

    `text`: as `ip route del` takes it.
    """

    cidr: str
    table: str
    kind: str
    protocol: str
    text: str


@dataclass(frozen=True, slots=True)
class KernelRule:
    """A rule that is not nmk's: where it leads (`table`), or what it does (`kind`), and for what.

    `to`: the range, None for all; `is_picky`: it asks for more, so that it may not be the one;
    `spares`: it passes over default routes; `text`: as `ip rule del` takes it.
    """

    priority: int
    table: str | None
    kind: str
    to: str | None
    is_picky: bool
    spares: bool
    text: str


@dataclass(frozen=True, slots=True)
class Culprit:
    """`what` it is that leads packets elsewhere; `remove`: the command that ends it."""

    what: str
    remove: str


def find_culprit(
    address: str,
    order: int,
    winner: KernelRoute | None,
    beside: Sequence[KernelRoute],
    rules: Sequence[KernelRule],
) -> Culprit | None:
    """What takes packets to an address from the network of this order; None where nothing shows.

    `winner`: the route that the kernel takes, None where it takes none; `beside`: what is in our
    routing table and not ours, and without a winner what is in the main table. Never
    a route that the machine has from its link or its router: it comes again, and the machine may
    need it.
    """
    there = ip_address(address)
    family = there.version
    if winner and winner.table == str(table_of(order)):
        return _route(family, winner)
    table, lost = (winner.table, set[str]()) if winner else (None, _NOWHERE)
    before = [
        rule
        for rule in rules
        if 0 < rule.priority < MAIN_PRIORITY
        and (rule.to is None or there in ip_network(rule.to))
        and _leads(rule, table, lost)
    ]
    if before:
        rule = min(before, key=lambda r: (r.is_picky, r.priority))
        return Culprit(f"rule {rule.text}", f"ip -{family} rule del {rule.text}")
    ends = {*lost, "throw"}
    around = [r for r in beside if there in ip_network(r.cidr) and r.kind in ends]
    if around:
        return _route(family, max(around, key=lambda r: ip_network(r.cidr).prefixlen))
    is_own = winner and winner.protocol not in _MACHINES and ip_network(winner.cidr).prefixlen
    return _route(family, winner) if winner and is_own else None


def _leads(rule: KernelRule, table: str | None, lost: set[str]) -> bool:
    """Whether a rule may be why that table is asked, or why packets get nowhere."""
    if rule.kind == "goto":  # past ours, as a rule
        return table == _MAIN
    if rule.table is None:
        return rule.kind in lost
    return rule.table == table and not (rule.spares and table == _MAIN)


def _route(family: int, route: KernelRoute) -> Culprit:
    return Culprit(f"route {route.text}", f"ip -{family} route del {route.text}")
