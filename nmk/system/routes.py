"""Addresses and routes of this machine, as `ip -json` shows them (ip-address(8), ip-route(8))."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import Any

from nmk.core.commands import command
from nmk.core.nesting import read_json
from nmk.core.overlap import Place
from nmk.core.parse import brief
from nmk.core.route_table import RouteTable, order_of, orders_of, rules_of, shut_table_of, table_of
from nmk.errors import CommandFailed
from nmk.system.runner import Runner

_OWN_TYPES = {"local", "broadcast", "multicast", "anycast"}
UNICAST = "unicast"
NOT_OURS = (  # what a rule may ask for, and none of ours does (iproute2, iprule.c)
    *("srclen", "iif", "oif", "tos", "fwmask", "l3mdev", "tun_id", "ipproto"),
    *("uid_start", "sport", "sport_start", "dport", "dport_start"),
)
_OF_ENCAP = {  # names that routes have as well
    "ip": ("dst", "src", "tos"),
    "ip6": ("dst", "src"),
    "mpls": ("dst",),
    "seg6local": ("table", "iif", "oif"),
}
DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}


@dataclass(frozen=True, slots=True)
class Way:
    """Where packets to an address leave: the interface, its MTU in bytes, and by which router."""

    interface: str
    mtu: int
    via: str | None = None


def places(run: Runner, leave_out: str) -> list[Place]:
    """Ranges that lead elsewhere than into the interface `leave_out`; default routes are none.

    Raises ToolMissing, CommandFailed.
    """
    found = parse_addresses(run.read(["ip", "-json", "address", "show"]))
    for family in (4, 6):
        text = run.read(["ip", "-json", f"-{family}", "route", "show", "table", "main"])
        found += parse_routes(text, family)
    return [place for place in dict.fromkeys(found) if place.interface != leave_out]


def parse_addresses(text: str) -> list[Place]:
    """The subnets that the machine's own addresses are in."""
    return [
        _subnet(str(ip_interface(f"{a['local']}/{a['prefixlen']}").network), link["ifname"])
        for link in objects(text)
        for a in link.get("addr_info", ())
        if "local" in a and a.get("scope") == "global"
    ]


def _subnet(cidr: str, interface: str) -> Place:
    return Place(cidr, interface, command("ip", "route", "del", cidr, "dev", interface))


def parse_routes(text: str, family: int) -> list[Place]:
    """Unicast routes with a destination of their own."""
    found = []
    for route in objects(text):
        destination = route.get("dst", "default")
        if destination == "default" or route.get("type", UNICAST) != UNICAST:
            continue
        cidr = str(ip_network(destination, strict=False))
        if cidr != DEFAULTS[family] and not ip_network(cidr).is_link_local:
            remove = command("ip", f"-{family}", "route", "del", *route_words(route, "main"))
            hops = [str(hop.get("dev", "")) for hop in route.get("nexthops", ())]
            found.append(Place(cidr, route.get("dev") or "".join(hops[:1]), remove))
    return found


def route_words(route: dict[str, Any], table: str) -> list[str]:
    """The words by which `ip route del` takes a route of that table, and no other."""
    kind, destination = str(route.get("type", UNICAST)), str(route.get("dst", "default"))
    words = [destination] if kind == UNICAST or "nhid" in route else [kind, destination]
    if "nhid" in route:  # by a nexthop object: it alone names what that does (ip-nexthop(8))
        words += ["nhid", str(route["nhid"])]
    else:
        via = route.get("via") or {}
        words += ["via", str(route["gateway"])] if "gateway" in route else []
        words += ["via", str(via["family"]), str(via["host"])] if via else []
        words += ["dev", str(route["dev"])] if "dev" in route else []
    for word in ("metric", "tos"):
        words += [word, str(route[word])] if word in route else []
    return words + (["table", table] if table != "main" else [])


def way_to(run: Runner, address: str, mark: int = 0) -> Way | None:
    """Where packets to an address leave now; None where they cannot. Raises ToolMissing.

    `mark`: what the packets carry, as those of WireGuard itself do.
    """
    marked = ["mark", str(mark)] if mark else []
    try:
        [route] = objects(run.read(["ip", "-json", "route", "get", address, *marked]))
        [link] = [
            x
            for x in objects(run.read(["ip", "-json", "link", "show", "dev", route["dev"]]))
            if x.get("ifname") == route["dev"]
        ]
        return Way(route["dev"], int(link["mtu"]), route.get("gateway"))
    except (CommandFailed, ValueError, KeyError):
        return None


def led_parts(run: Runner, leave_out: Collection[str]) -> list[str]:
    """The ranges that routes of any table, and rules, are for, the widest first.

    Not those of routes by the interfaces in `leave_out`, of this machine's own addresses, and
    default routes. Raises ToolMissing.
    """
    found = set[str]()
    for family in (4, 6):
        with suppress(CommandFailed):  # a kernel without this family
            text = run.read(["ip", "-json", f"-{family}", "route", "show", "table", "all"])
            found |= {
                str(ip_network(route["dst"], strict=False))
                for route in objects(text)
                if route.get("type", "unicast") not in _OWN_TYPES
                and route.get("dst", "default") != "default"
                and route.get("dev") not in leave_out
            }
            for rule in objects(run.read(["ip", "-json", f"-{family}", "rule", "show"])):
                if "dst" in rule and rule["dst"] != "all" and "goto" not in rule:
                    host = 128 if family == 6 else 32
                    found.add(f"{rule['dst']}/{rule.get('dstlen', host)}")
    return sorted(found, key=lambda c: (ip_network(c).prefixlen, c))


def leaves_by(run: Runner, address: str, mark: int = 0) -> str | None:
    """The interface by which packets to an address leave now; None where they do not."""
    marked = ["mark", str(mark)] if mark else []
    try:
        [route] = objects(run.read(["ip", "-json", "route", "get", address, *marked]))
    except (CommandFailed, ValueError):
        return None
    return None if route.get("type", "unicast") != "unicast" else route.get("dev")


def probe_table(run: Runner, order: int, interface: str) -> RouteTable:
    """The routing table of the network with this order, and which of its rules there are.

    What leads elsewhere than into the interface is another program's.
    """
    led: set[str] = set()
    found: set[tuple[int, str]] = set()
    is_wide = True
    for family in (4, 6):
        for route in read_table(run, family, table_of(order)):
            if route.get("dev") == interface:
                cidr = route.get("dst", "default")
                led.add(DEFAULTS[family] if cidr == "default" else str(ip_network(cidr)))
                is_wide = is_wide and route.get("scope", "global") == "global"
        there = _rule_texts(run, family)
        found |= {rule for rule in rules_of(order).all if rule[0] == family and rule[1] in there}
    shut = any(
        (route.get("type"), route.get("dst")) == ("unreachable", "default")
        for route in read_table(run, 4, shut_table_of(order))
    )
    return RouteTable(frozenset(led), frozenset(found), shut, is_wide)


def leads_into(run: Runner, number: int, interface: str) -> bool:
    """Whether a route of the table with this number leads into the interface."""
    found = (route for family in (4, 6) for route in read_table(run, family, number))
    return any(route.get("dev") == interface for route in found)


def orders(run: Runner) -> set[int]:
    """Those of networks that have rules of ours on this machine."""
    return orders_of(rule for family in (4, 6) for rule in _rule_texts(run, family))


def is_lan_rule_taken(run: Runner, order: int) -> bool:
    """Whether another program has the very rule that spares the LAN of the network of this order.

    It would be taken for ours, and go with the network.
    """
    there = {rule for family in (4, 6) for rule in _rule_texts(run, family)}
    return rules_of(order).lan in there and order not in {order_of(rule) for rule in there}


def routers_by_advertisement(run: Runner) -> list[str]:
    """Interfaces whose IPv6 default route was advertised (RFC 4861): forwarding would end that."""
    try:
        routes = objects(run.read(["ip", "-json", "-6", "route", "show", "default"]))
    except CommandFailed:
        return []
    return sorted({r["dev"] for r in routes if r.get("protocol") == "ra" and "dev" in r})


def read_table(run: Runner, family: int, number: int | str) -> list[dict[str, Any]]:
    """The routes of a routing table, by its number or name. Raises ToolMissing."""
    try:
        return objects(
            run.read(["ip", "-json", f"-{family}", "route", "show", "table", str(number)])
        )
    except CommandFailed:
        return []  # an empty table is none


def _rule_texts(run: Runner, family: int) -> set[str]:
    return {render_rule(rule) for rule in read_rules(run, family)}


def read_rules(run: Runner, family: int) -> list[dict[str, Any]]:
    """The routing rules of a family. Raises ToolMissing."""
    try:
        return objects(run.read(["ip", "-json", f"-{family}", "rule", "show"]))
    except CommandFailed:
        return []  # a kernel without this family


def render_rule(rule: dict[str, Any]) -> str:
    """The words that make the rule; one that asks for more than ours do is like none of them."""
    words = [f"priority {rule.get('priority')}"]
    words += [f"{key} {rule[key]}" for key in NOT_OURS if key in rule]
    if rule.get("src", "all") != "all":
        words.append(f"from {rule['src']}")
    if "not" in rule:
        words.append("not")
    if "dst" in rule:
        host = 128 if ":" in rule["dst"] else 32
        words.append(f"to {rule['dst']}/{rule.get('dstlen', host)}")
    if "fwmark" in rule:
        words.append(f"fwmark {rule['fwmark']}")
    if "goto" in rule:
        words.append(f"goto {rule['goto']}")
    else:
        words.append(rule["action"] if "action" in rule else f"table {rule.get('table')}")
    if "suppress_prefixlen" in rule:
        words.append(f"suppress_prefixlength {rule['suppress_prefixlen']}")
    return " ".join(words)


def _of_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A route, or what else `ip` prints, without what its encapsulation has by the same names.

    That comes first, where both are there (iproute2, iproute.c and iproute_lwtunnel.c).
    """
    found: dict[str, Any] = {}
    rest = set[str]()
    for key, value in pairs:
        if key in rest:
            rest.discard(key)
        else:
            found[key] = value
        if key == "encap":
            rest = set(_OF_ENCAP.get(str(value), ()))
    return found


def objects(text: str) -> list[dict[str, Any]]:
    """What `ip -json` printed. Raises CommandFailed."""
    try:
        found = read_json(text or "[]", as_pairs=_of_pairs)
        return [x for x in found if isinstance(x, dict) and x]
    except (ValueError, TypeError) as error:
        raise CommandFailed(f"`ip -json` printed what cannot be read: {brief(error)}") from None
