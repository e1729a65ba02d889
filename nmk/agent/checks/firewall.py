"""Whether this machine's packet filter lets the mesh work."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from nmk.agent.membership import Membership
from nmk.core.findings import Finding
from nmk.core.firewall import OUTSIDE, Packet, Stopped, Table, find_stops, find_translations
from nmk.core.ruleset import table_name
from nmk.core.tunnel import MARK
from nmk.tools import has_tool, install_hint

_DOCKER = "DOCKER-USER"
_OURS = f"inet {table_name('')}"


def check_firewall(
    me: Membership, port: int, tables: Sequence[Table] | None, nats: Sequence[Table] = ()
) -> list[Finding]:
    """Whether calls of peers come in, and what the machine would forward goes through.

    `port`: WireGuard's. `tables`: None where nothing on the machine can tell; `nats`: its rules
    that translate.
    """
    if tables is None:
        reason = "neither nft nor iptables is installed to look with"
        return [Finding("firewall", "warn", reason, install_hint("nft"), me.network)]
    call = Packet("udp", port, inside=_inside(me))
    theirs = [table for table in tables if not table.name.startswith(_OURS)]
    incoming = [s for hook in ("prerouting", "input") for s in find_stops(theirs, hook, call)]
    sent = Packet("udp", port, None, OUTSIDE, _inside(me))
    outgoing = find_stops(theirs, "output", sent)
    found = [
        *(_input(me, port, s) for s in incoming if s.outcome == "drop"),
        *(_untold(me, s, f"lets UDP port {port} in") for s in incoming if s.outcome == "maybe"),
        *(_untold(me, s, "lets out what WireGuard sends") for s in outgoing),
        *(_forward(me, tables, s) for s in _forward_drops(me, tables)),
        *_translated(me, nats, sent),
    ]
    if found:
        return found
    return [Finding("firewall", "ok", f"nothing drops UDP port {port}", network=me.network)]


def _translated(me: Membership, nats: Sequence[Table], sent: Packet) -> Iterator[Finding]:
    """What is translated for its mark alone, which others read as theirs by one bit of it."""
    for table in nats:
        chains = (find_translations([table], replace(sent, mark=mark)) for mark in (MARK, 0))
        marked, plain = ([by for by, is_sure in found if is_sure] for found in chains)
        for by in marked:
            if by not in plain:
                reason = f"{by} translates what WireGuard sends, for a bit of its mark {MARK:#x}"
                mend = f"nft insert rule {by} meta mark {MARK:#x} accept"
                if table.tool:
                    there = f"{table.tool} -t nat -I POSTROUTING"
                    mend = f"{there} -m mark --mark {MARK:#x} -j ACCEPT"
                mend += "; or, where that is kube-proxy's, masqueradeBit 20 in its configuration"
                yield Finding(
                    "firewall", "warn", f"{reason}: peers see other ports", mend, me.network
                )


def _inside(me: Membership) -> frozenset[str]:
    return frozenset({"lo", me.interface})


def _drops(tables: Sequence[Table], hook: str, packet: Packet) -> list[Stopped]:
    return [s for s in find_stops(tables, hook, packet) if s.outcome == "drop"]


def _forward_drops(me: Membership, tables: Sequence[Table]) -> list[Stopped]:
    """Chains that drop what goes from the mesh to elsewhere, or the other way."""
    packets = [
        Packet("tcp", 443, comes_by, goes_by, _inside(me))
        for comes_by, goes_by in ((me.interface, OUTSIDE), (OUTSIDE, me.interface))
    ]
    return list(dict.fromkeys(s for p in packets for s in _drops(tables, "forward", p)))


def _input(me: Membership, port: int, stop: Stopped) -> Finding:
    reason = (
        f"{_named(stop)} drops UDP port {port}: peers cannot call this machine, it has to call them"
    )
    return Finding("firewall", "warn", reason, open_port(port, stop), me.network)


def _untold(me: Membership, stop: Stopped, what: str) -> Finding:
    """A chain that lets some through and not all, by what cannot be judged here."""
    reason = f"could not tell whether {_named(stop)} {what}: it lets some through, and not all"
    is_nft = has_tool("nft") and not _is_legacy(stop)
    look = f"nft list chain {stop.table} {stop.chain}" if is_nft else f"{_iptables(stop)} -S"
    return Finding("firewall", "warn", reason, f"look at its rules: {look}", me.network)


def open_port(port: int, stop: Stopped) -> str:
    """The command that lets WireGuard's packets in, by whatever rules the filter here."""
    if has_tool("ufw"):
        return f"ufw allow {port}/udp"
    if has_tool("firewall-cmd"):
        return f"firewall-cmd --permanent --add-port={port}/udp && firewall-cmd --reload"
    if has_tool("nft") and not _is_legacy(stop):
        return f"nft insert rule {stop.table} {stop.chain} udp dport {port} accept"
    return f"{_iptables(stop)} -I {stop.chain} -p udp --dport {port} -j ACCEPT"


def _iptables(stop: Stopped) -> str:
    """The program for a table of iptables, where nft does not have it."""
    return stop.tool or ("ip6tables" if stop.table.startswith("ip6 ") else "iptables")


def _is_legacy(stop: Stopped) -> bool:
    """Whether the rule is one of the old iptables, of which nft knows nothing."""
    return stop.tool.endswith("-legacy")


def _named(stop: Stopped) -> str:
    return f"{stop.table} {stop.chain}{f' ({stop.tool})' if _is_legacy(stop) else ''}"


def _forward(me: Membership, tables: Sequence[Table], stop: Stopped) -> Finding:
    name = me.interface
    is_gateway = bool(me.known and me.known.view.gateway.roles)
    home = (stop.table, stop.tool)
    docker = any(_DOCKER in t.chains for t in tables if (t.name, t.tool) == home)
    reason = (
        f"{_named(stop)} drops what this machine forwards for the mesh"
        f"{' (Docker has set it so)' if docker else ''}"
        f"{'' if is_gateway else '; only a gateway needs that'}"
    )
    chain = _DOCKER if docker else stop.chain
    mend = (
        f"nft 'insert rule {stop.table} {chain} iifname {name} accept; "
        f"insert rule {stop.table} {chain} oifname {name} accept'"
    )
    if (docker and has_tool("iptables")) or _is_legacy(stop) or not has_tool("nft"):
        tool = _iptables(stop)
        mend = " && ".join(f"{tool} -I {chain} {x} {name} -j ACCEPT" for x in ("-i", "-o"))
    return Finding("firewall", "broken" if is_gateway else "warn", reason, mend, me.network)
