"""Who leads an address elsewhere, as the kernel's routes and rules show it (ip-route(8))."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address, ip_network
from typing import Any

from nmk.core.commands import command
from nmk.core.culprit import Culprit, KernelRoute, KernelRule, find_culprit
from nmk.core.route_table import order_of, rules_of, table_of
from nmk.core.tunnel import MARK
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


def picky_past(run: Runner, order: int, ours: Collection[str]) -> list[tuple[Culprit, str]]:
    """Rules for some packets alone, by source or mark, that come before the way by the exit node.

    Each with the interface, none of `ours`, that the default route of its table leads into. Not
    those for sockets of one interface, which leave by that anyway. Raises ToolMissing.
    """
    found = []
    last = int(rules_of(order).everything.split()[1])
    for family in (4, 6):
        for raw in read_rules(run, family):
            rule, is_ours = _rule(raw), order_of(render_rule(raw)) is not None
            is_ours = is_ours or int(str(raw.get("fwmark", "0")), 16) == MARK
            if is_ours or not (rule.is_picky and rule.priority < last) or "oif" in raw:
                continue
            by = "" if rule.spares else _default_by(run, family, rule)
            if by and by not in ours:
                remove = f"ip -{family} rule del {rule.text}"
                found.append((Culprit(f"rule {rule.text}", remove), by))
    return found


def _default_by(run: Runner, family: int, rule: KernelRule) -> str:
    """The interface of the default route of the table that a rule leads to; "" for none."""
    table = str(_MAIN) if rule.kind == "goto" else rule.table
    for route in read_table(run, family, table) if table else ():
        if route.get("dst") == "default" and route.get("type", UNICAST) == UNICAST:
            hops = [route, *route.get("nexthops", ())]
            return next((str(hop["dev"]) for hop in hops if "dev" in hop), "")
    return ""


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
    picky = any(key in rule for key in NOT_OURS) or rule.get("src", "all") != "all"
    is_picky = picky or ("fwmark" in rule and "not" not in rule)
    words = ["priority", str(rule.get("priority")), *(_selector(rule) if is_picky else ())]
    if rule.get("dst", "all") != "all":
        to = _prefix(rule, "dst")
        words += ["to", to]
    kind = "goto" if "goto" in rule else str(rule.get("action", UNICAST))
    table = str(rule["table"]) if kind == UNICAST and "table" in rule else None
    words += ["table", table] if table else [kind, str(rule["goto"])] if kind == "goto" else [kind]
    spares = "suppress_prefixlen" in rule
    return KernelRule(
        int(rule.get("priority", 0)), table, kind, to, is_picky, spares, command(*words)
    )


def _selector(rule: dict[str, Any]) -> list[str]:
    """What a rule is for besides a destination, as `ip rule` takes it (iproute2, iprule.c)."""
    words = ["not"] if "not" in rule else []
    words += ["from", _prefix(rule, "src")] if rule.get("src", "all") != "all" else []
    if "fwmark" in rule:
        mask = f"/{rule['fwmask']}" if "fwmask" in rule else ""
        words += ["fwmark", f"{rule['fwmark']}{mask}"]
    for word in ("iif", "oif", "tos", "ipproto", "sport", "dport"):
        words += [word, str(rule[word])] if word in rule else []
    for word, key in (("uidrange", "uid"), ("sport", "sport"), ("dport", "dport")):
        if f"{key}_start" in rule:
            words += [word, f"{rule[f'{key}_start']}-{rule.get(f'{key}_end')}"]
    return words


def _prefix(rule: dict[str, Any], side: str) -> str:
    host = 128 if ":" in rule[side] else 32
    return f"{rule[side]}/{rule.get(f'{side}len', host)}"
