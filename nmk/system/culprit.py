"""Who leads an address elsewhere, as the kernel's routes and rules show it (ip-route(8))."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

from nmk.core.commands import command
from nmk.core.culprit import Culprit, KernelRoute, KernelRule, find_culprit
from nmk.core.route_table import order_of, table_of
from nmk.errors import CommandFailed
from nmk.system.routes import (
    DEFAULTS,
    NOT_OURS,
    UNICAST,
    objects,
    read_rules,
    read_table,
    render_rule,
    route_words,
)
from nmk.system.runner import Runner

_MAIN = 254  # ip-route(8)


def who_leads(run: Runner, address: str, order: int, interface: str) -> Culprit | None:
    """What leads an address elsewhere than into the interface of the network of this order.

    Raises ToolMissing.
    """
    family = ip_address(address).version
    try:
        found = objects(run.read(["ip", "-json", "route", "get", "fibmatch", address]))
    except CommandFailed:
        found = []  # no way, or a kernel before 4.13
    winner = _route(found[0], family, "main") if found else None
    others = [r for r in read_rules(run, family) if order_of(render_rule(r)) is None]
    beside = foreign_routes(run, family, order, interface)
    if winner is None:  # the main table may say so
        there = [r for r in read_table(run, family, _MAIN) if r.get("dst") != "default"]
        beside += [_route(r, family, "main") for r in there]
    return find_culprit(address, order, winner, beside, [_rule(r) for r in others])


def defaults_into(run: Runner, interface: str) -> list[Culprit]:
    """The default routes of the main table that lead into an interface. Raises ToolMissing."""
    found = []
    for family in (4, 6):
        for route in read_table(run, family, _MAIN):
            if route.get("dev") == interface and route.get("dst") == "default":
                text = _route(route, family, "main").text
                found.append(Culprit(f"route {text}", f"ip -{family} route del {text}"))
    return found


def foreign_routes(run: Runner, family: int, order: int, interface: str) -> list[KernelRoute]:
    """What another program has put into the routing table of the network of this order."""
    number = table_of(order)
    found = read_table(run, family, number)
    return [_route(r, family, str(number)) for r in found if r.get("dev") != interface]


def _route(route: dict[str, Any], family: int, table: str) -> KernelRoute:
    """A route, which says its table only where `ip` was not asked for that one."""
    destination = route.get("dst", "default")
    cidr = DEFAULTS[family] if destination == "default" else str(ip_network(destination))
    table, kind = str(route.get("table", table)), str(route.get("type", UNICAST))
    text = command(*route_words(route, table))
    return KernelRoute(cidr, table, kind, str(route.get("protocol", "")), text)


def _rule(rule: dict[str, Any]) -> KernelRule:
    to = None
    words = ["priority", str(rule.get("priority"))]
    if rule.get("dst", "all") != "all":
        host = 128 if ":" in rule["dst"] else 32
        to = f"{rule['dst']}/{rule.get('dstlen', host)}"
        words += ["to", to]
    kind = "goto" if "goto" in rule else str(rule.get("action", UNICAST))
    table = str(rule["table"]) if kind == UNICAST and "table" in rule else None
    words += ["table", table] if table else [kind, str(rule["goto"])] if kind == "goto" else [kind]
    picky = any(key in rule for key in NOT_OURS) or rule.get("src", "all") != "all"
    is_picky = picky or ("fwmark" in rule and "not" not in rule)
    spares = "suppress_prefixlen" in rule
    return KernelRule(
        int(rule.get("priority", 0)), table, kind, to, is_picky, spares, command(*words)
    )
