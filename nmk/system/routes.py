"""Addresses and routes of this machine, as `ip -json` shows them (ip-address(8), ip-route(8))."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import Any

from nmk.core.overlap import Place
from nmk.errors import CommandFailed
from nmk.system.runner import Runner

_DEFAULTS = {4: "0.0.0.0/0", 6: "::/0"}


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
        Place(str(ip_interface(f"{a['local']}/{a['prefixlen']}").network), link["ifname"])
        for link in _objects(text)
        for a in link.get("addr_info", ())
        if "local" in a and a.get("scope") == "global"
    ]


def parse_routes(text: str, family: int) -> list[Place]:
    """Unicast routes with a destination of their own."""
    found = []
    for route in _objects(text):
        destination = route.get("dst", "default")
        if destination == "default" or route.get("type", "unicast") != "unicast":
            continue
        cidr = str(ip_network(destination, strict=False))
        if cidr != _DEFAULTS[family] and not ip_network(cidr).is_link_local:
            found.append(Place(cidr, route.get("dev", "")))
    return found


def way_to(run: Runner, address: str) -> Way | None:
    """Where packets to an address leave now; None where they cannot. Raises ToolMissing."""
    try:
        [route] = _objects(run.read(["ip", "-json", "route", "get", address]))
        [link] = [
            x
            for x in _objects(run.read(["ip", "-json", "link", "show", "dev", route["dev"]]))
            if x.get("ifname") == route["dev"]
        ]
        return Way(route["dev"], int(link["mtu"]), route.get("gateway"))
    except (CommandFailed, ValueError, KeyError):
        return None


def _objects(text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text or "[]")
        return [x for x in found if isinstance(x, dict) and x]
    except (ValueError, TypeError, RecursionError) as error:
        raise CommandFailed(f"`ip -json` printed what cannot be read: {error!r}") from None
