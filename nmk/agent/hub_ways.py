"""What a hub's clients would lose by a takeover, said before, with the command that keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from nmk.agent.membership import Membership
from nmk.core.firewall import Stopped, Table
from nmk.core.gateways import parse_egress_range
from nmk.core.hub_ways import (
    Led,
    Machine,
    Way,
    forward_stops,
    idle_rules,
    input_stops,
    led_ways,
)
from nmk.core.parse import Range, overlap
from nmk.core.quick import HubConfig
from nmk.core.ruleset import table_name
from nmk.core.surroundings import IPV4_FORWARDING, IPV6_FORWARDING
from nmk.errors import BadInput
from nmk.system import sysctl, wireguard
from nmk.system.firewall import read_tables
from nmk.system.routes import leaves_by, places
from nmk.system.runner import Runner
from nmk.tools import has_tool

_FORWARDING = {4: IPV4_FORWARDING, 6: IPV6_FORWARDING}
_SAMPLES = ("1.1.1.1", "2606:4700:4700::1111")  # somewhere in the internet; nothing is sent there
_MOST_WAYS = 64


@dataclass(frozen=True, slots=True)
class Lost:
    """What ends with the hub, and the command that keeps it."""

    what: str
    keep: str


@dataclass(frozen=True, slots=True)
class Ways:
    """`exit`: the table and chain that translate clients on their way to the internet, or None."""

    exit: str | None
    lost: tuple[Lost, ...]


def look_at_ways(me: Membership, config: HubConfig, hub: str, run: Runner) -> Ways:
    """Where the hub that is up as the interface `hub` leads, and what of it would end.

    Where its file translates, the machine is to be an exit gateway, as where rules of others do.
    """
    assert me.known  # noqa: S101  # as it has joined
    machine = Machine(
        filters=_others(read_tables(run)),
        nats=_others(read_tables(run, "nat")),
        forwards=frozenset(f for f, path in _FORWARDING.items() if sysctl.is_on(path)),
        hub=hub,
        mesh=me.interface,
        ranges=tuple(ip_network(r) for r in config.ranges),
    )
    led = led_ways(machine, _ways(machine, run))
    exit_ = next((one.by for one in led if one.way.internet and one.is_sure), None)
    lost = [] if exit_ or config.translates else _ends(me, led)
    lost += [_forward(machine, stop) for stop in forward_stops(machine, led)]
    lost += [_input(machine, stop, ports) for stop, ports in input_stops(machine).items()]
    lost += [
        Lost(
            f"what {table} {chain} has for {hub} to {verdict} (rules: {count})",
            f"the same for {me.interface}; to see it: nft list chain {table} {chain}",
        )
        for table, chain, verdict, count in idle_rules(machine)
    ]
    return Ways(exit_, tuple(lost))


def _others(tables: list[Table] | None) -> list[Table]:
    """Tables that are not nmk's."""
    return [t for t in tables or () if not t.name.startswith(f"inet {table_name('')}")]


def _ways(machine: Machine, run: Runner) -> list[Way]:
    """To the internet, and to what this machine has addresses in or routes to."""
    tunnels = {"lo", machine.hub, machine.mesh, *wireguard.names(run)}
    found = {}
    for sample in _SAMPLES:
        interface = leaves_by(run, sample)
        if interface and interface not in tunnels:
            found[sample] = Way(ip_network(sample), interface, internet=True)
    for place in places(run, leave_out=machine.mesh):
        cidr = ip_network(place.cidr)
        if place.interface not in tunnels and not any(overlap(cidr, r) for r in machine.ranges):
            found.setdefault(place.cidr, Way(cidr, place.interface))
    return [*found.values()][:_MOST_WAYS]


def _ends(me: Membership, led: list[Led]) -> list[Lost]:
    """The ways that no role of the node leads on."""
    assert me.known  # noqa: S101  # as it has joined
    gateway = me.known.view.gateway
    if gateway.exit:
        return []
    add = f"nmk gateway add -n {me.remote_name} {me.known.view.name}"
    if out := [one for one in led if one.way.internet]:
        by = next((one.by for one in out if one.by), None)
        how = f"perhaps translated by {by}" if by else "untranslated"
        what = f"what clients send elsewhere is passed on, {how}"
        return [Lost(what, f"{add} exit" if by else f"{add} exit --nat off")]
    found = []
    for nat, how in (("", ""), (" --nat off", ", untranslated")):
        ranges = [
            str(one.way.range)
            for one in led
            if bool(nat) != bool(one.by)
            and str(one.way.range) not in gateway.lans
            and _can_be_routed(one.way.range)
        ]
        if ranges:
            what = f"clients are led to {', '.join(ranges)}{how}"
            found.append(Lost(what, f"{add} egress {' '.join(ranges)}{nat}"))
    return found


def _can_be_routed(cidr: Range) -> bool:
    try:
        parse_egress_range(str(cidr))
    except BadInput:
        return False
    return True


def _forward(machine: Machine, stop: Stopped) -> Lost:
    what = f"{stop.table} {stop.chain} lets through what comes from {machine.hub}"
    return Lost(f"{what}, and drops it from {machine.mesh}", _let(machine, stop, forwarded=True))


def _input(machine: Machine, stop: Stopped, ports: list[tuple[str, int]]) -> Lost:
    said = ", ".join(f"{protocol} port {port}" for protocol, port in ports)
    what = f"{stop.table} {stop.chain} lets {machine.hub} reach {said} here"
    return Lost(f"{what}, and drops it from {machine.mesh}", _let(machine, stop, forwarded=False))


def _let(machine: Machine, stop: Stopped, *, forwarded: bool) -> str:
    """The command that lets the network's interface pass, by whatever rules the filter here."""
    hub, name = machine.hub, machine.mesh
    chains = next((t.chains for t in machine.filters if t.name == stop.table), {})
    if stop.table.endswith(" firewalld"):
        zone = f"$(firewall-cmd --get-zone-of-interface={hub})"
        change = f"--zone={zone} --change-interface={name}"
        return f"firewall-cmd --permanent {change} && firewall-cmd --reload"
    if any(chain.startswith("ufw") for chain in chains):
        if not forwarded:
            return f"ufw allow in on {name}"
        return f"ufw route allow in on {name} && ufw route allow out on {name}"
    family, _, table = stop.table.partition(" ")
    sides = (("i", "iifname"), ("o", "oifname")) if forwarded else (("i", "iifname"),)
    tool = stop.tool or {"ip": "iptables", "ip6": "ip6tables"}.get(family, "")
    if table == "filter" and has_tool(tool):
        rules = [f"{tool} -I {stop.chain} -{short} {name} -j ACCEPT" for short, _ in sides]
        return " && ".join(
            [*rules, *["netfilter-persistent save"] * has_tool("netfilter-persistent")]
        )
    rules = [f"insert rule {stop.table} {stop.chain} {long} {name} accept" for _, long in sides]
    return f"nft '{'; '.join(rules)}'"
