"""A network on this machine: its interface, its addresses, and whether it is kept up to date."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from ipaddress import ip_network

from nmk.agent import history, last_check_in, state
from nmk.agent.astray import find_astray, find_picky
from nmk.agent.claims import left_out
from nmk.agent.desired import Local, desired
from nmk.agent.interface import MOVED
from nmk.agent.membership import Membership
from nmk.agent.own_link import find_doubles
from nmk.agent.service import idle_cron, keep_hint
from nmk.agent.settings import unread
from nmk.agent.status import TROUBLES, led, live, trouble
from nmk.agent.tick import collect_facts
from nmk.archive import running_file
from nmk.core.amounts import age_of, show_ago, show_since
from nmk.core.check_in_health import CheckInHealth
from nmk.core.claims import summarize
from nmk.core.commands import command, remove_link
from nmk.core.findings import Finding, Level
from nmk.core.overlap import Overlap, find_overlaps
from nmk.core.peers import View
from nmk.core.settings import NETWORK_SETTINGS
from nmk.core.tunnel import diff_tunnel
from nmk.errors import EXIT_TEMPORARY, NmkError, all_errors
from nmk.system import routes, starters, wireguard
from nmk.system.runner import Runner

_MOST = 3  # differences, addresses: what a line has room for
_LATE_INTERVALS = 3
_LATELY = 600  # seconds
_QUARREL = 3  # changes by others that are no chance


def check_interface(me: Membership, run: Runner, local: Local) -> list[Finding]:
    """Whether the interface is there and as the controller said last, and under its name alone."""
    condition, _ = live(me, run)
    if condition in {"up", "missing"} and (doubles := find_doubles(me, run)):
        return [
            Finding("interface", "broken", one.message, one.hint, me.network) for one in doubles
        ]
    if condition != "up":
        problem, mend = trouble(me, condition) or TROUBLES["unanswered"]
        if condition == "unanswered":
            problem, mend = _what_wg_said(me, run)
        if condition == "missing" and wireguard.is_served_elsewhere(me.interface):
            problem, mend = MOVED[0], MOVED[1].format(me.network)
        level: Level = "warn" if condition == "down" else "broken"
        if condition == "taken":
            mend = remove_link(me.interface)
        return [Finding("interface", level, f"{me.interface}: {problem}", mend, me.network)]
    want = desired(me, local, collect_facts(me, local).lan).tunnel
    there = wireguard.probe(run, me.interface)
    names = {peer.key: peer.name for peer in _view(me).others}
    lines = [_named(c.line, names) for c in diff_tunnel(want, there, me.endpoints)]
    if lines:
        reason = f"{me.interface} is not as it should be: {_some(lines)}"
        return [Finding("interface", "broken", reason, f"nmk checkin -n {me.network}", me.network)]
    kind = "the kernel's" if wireguard.is_kernels(me.interface) else "userspace"
    reason = f"{me.interface} is up, {kind}, as the controller said"
    return [Finding("interface", "ok", reason, network=me.network)]


def _named(line: str, names: Mapping[str, str]) -> str:
    """The line with the names of peers in the place of their keys."""
    return " ".join(names.get(word, word) for word in line.split(" "))


def _what_wg_said(me: Membership, run: Runner) -> tuple[str, str]:
    """Why the state of an interface that is there cannot be told, and what to do."""
    try:
        wireguard.look(run, me.interface)
    except NmkError as error:
        return error.message, error.hint
    return TROUBLES["unanswered"]  # it answers again


def check_applied(me: Membership, run: Runner) -> list[Finding]:
    """What of the last view, or of its owner's wishes, could not be applied here."""
    found = [
        Finding("applied", "warn", problem.message, problem.hint, me.network)
        for problem in dict.fromkeys((*unread(me), *me.problems))
    ]
    if not found and live(me, run)[0] not in {"up", "down"}:
        reason = f"nothing of what the controller said: {me.interface} is not as it should be"
        return [Finding("applied", "warn", reason, f"nmk checkin -n {me.network}", me.network)]
    return found or [Finding("applied", "ok", "all that the controller said", network=me.network)]


def check_undone(me: Membership, now: float) -> list[Finding]:
    """Whether another program keeps changing what nmk lays; nothing where none does."""
    lately = [e for e in history.read(me.network) if now - e.at < _LATELY and e.cause == "mended"]
    if sum(entry.times for entry in lately) < _QUARREL:
        return []
    lines = dict.fromkeys(line for entry in lately for line in entry.changes[1:])
    reason = f"another program keeps changing what nmk needs: {_some(list(lines))}"
    mend = (
        "find it, and have it leave that alone; systemd-networkd: "
        "ManageForeignRoutingPolicyRules=no and ManageForeignRoutes=no in networkd.conf"
    )
    return [Finding("changed", "warn", reason, mend, me.network)]


def check_overlap(me: Membership, run: Runner, local: Local) -> list[Finding]:
    """Whether other addresses and routes of this machine share addresses with the network."""
    view = _view(me)
    nodes = [*view.addresses, *(a for other in view.others for a in other.addresses)]
    left = left_out(me)
    claimed = {ip_network(one.range, strict=False) for one in left}
    places = [p for p in routes.places(run, me.interface) if ip_network(p.cidr) not in claimed]
    settled = {one.address for one in left}
    found = find_overlaps(view.cidrs, places, [n for n in nodes if n not in settled])
    known = [
        Finding("overlap", "warn", line, _make_room(me, owner, run), me.network)
        for owner in dict.fromkeys(one.owner for one in left)
        for line in summarize([one for one in left if one.owner == owner])
    ]
    condition, dump = live(me, run)
    if dump and not any(overlap.kind == "taken" for overlap in found):  # which says it better
        routing = led(me, desired(me, local, collect_facts(me, local).lan), condition, run)
        known += [
            Finding("overlap", "broken", one.message, one.hint, me.network)
            for one in find_astray(me, routing, run)
        ]
        known += [
            Finding("overlap", "warn", one.message, one.hint, me.network)
            for one in find_picky(me, routing, run)
        ]
    if not found and not known:
        reason = f"{', '.join(view.cidrs)} is nowhere else on this machine"
        return [Finding("overlap", "ok", reason, network=me.network)]
    return known + [_overlap_finding(me, overlap) for overlap in found]


def _make_room(me: Membership, owner: str, run: Runner) -> str:
    """What to do where the network's addresses are left to `owner`, as in `core.claims`."""
    if owner in wireguard.of_key(run, me.private_key):
        file = command(f"./{owner}.conf")
        return (
            f"end what `nmk showconf` printed, where its file is: wg-quick down {file}; "
            f"then: nmk up -n {me.network}"
        )
    room = "give that LAN or the network another range, if those nodes are needed here"
    with suppress(NmkError):
        if owner in wireguard.names(run):
            file = command(f"/etc/wireguard/{owner}.conf")
            return f"to take that hub over: nmk extclient import {file} -n {me.network}; or {room}"
    return room


def check_check_ins(me: Membership, now: float, local: Local) -> list[Finding]:
    """Whether check-ins happen and work: something starts them, the last one is not long ago."""
    settings = {**(me.known.view.settings if me.known else {}), **local}
    interval = settings.get("interval", NETWORK_SETTINGS["interval"].default)
    health = last_check_in.load(me.network, me)
    age = None if health.worked is None else age_of(health.worked, now)
    last = f"the last one was {show_ago(age)}"
    if age is None:  # a machine that has just joined has not had one
        age = age_of(int(state.file_of(me.network).stat().st_mtime), now)
        last = "there was none since this machine started"
    late = not 0 <= age <= _LATE_INTERVALS * interval
    found = _failure_findings(me, health, now)
    by = _starter()
    if by is None:
        level: Level = "broken" if late else "warn"
        program = str(running_file() or "nmk")
        table, starting = starters.crontab(), idle_cron(program)
        if table and not starters.cron_runs():
            reason = f"cron is not running, so {table} starts none; {last}"
            mend = starting or keep_hint(program)
        else:
            idle = ", and cron is not running" if starting else ""
            reason = f"nothing on this machine starts them{idle}; {last}"
            mend = keep_hint(program)
        return [*found, Finding("check-ins", level, reason, mend, me.network)]
    if late and health.failure is None:
        reason = f"{last}, with one every {interval}s expected from {by}"
        return [Finding("check-ins", "broken", reason, f"nmk checkin -n {me.network}", me.network)]
    return found or [Finding("check-ins", "ok", f"{last}, by {by}", network=me.network)]


def check_identity(me: Membership) -> list[Finding]:
    """Whether another machine has this one's identity, as far as the controller has seen."""
    if not me.copies:
        return [Finding("identity", "ok", "on this machine alone", network=me.network)]
    reason = f"two machines have this node's identity: {' and '.join(me.copies)}"
    mend = "on the one that is the copy, and not on the other: nmk join - --new-identity"
    return [Finding("identity", "broken", reason, mend, me.network)]


def check_revision(me: Membership) -> list[Finding]:
    """Whether the machine follows the last revision that it was told of."""
    followed = last_check_in.load(me.network, me).revision
    newest = me.known.revision if me.known else 0
    if followed and followed != newest:
        reason = f"revision {newest} is known and {followed} is followed"
        mend = f"nmk checkin -n {me.network}"
        return [Finding("revision", "broken", reason, mend, me.network)]
    return [Finding("revision", "ok", f"{newest} is followed", network=me.network)]


def _failure_findings(me: Membership, health: CheckInHealth, now: float) -> list[Finding]:
    """What went wrong since the last check-in that worked; once is nothing where it may pass."""
    failure = health.failure
    if failure is None:
        return []
    error = all_errors().get(failure.problem.code, NmkError)
    passes = error.exit_code == EXIT_TEMPORARY and failure.count < _LATE_INTERVALS
    span = show_since(age_of(failure.since, now))
    times = f"they have been failing {span}, {failure.count} in a row"
    return [
        Finding(
            "check-ins",
            "warn" if passes else "broken",
            f"{times}: {failure.problem.message}",
            failure.problem.hint or None,
            me.network,
        )
    ]


def _starter() -> str | None:
    if starters.agent_runs():
        return "nmk agent"
    table = starters.crontab()
    return f"cron, {table}" if table and starters.cron_runs() else None


def _overlap_finding(me: Membership, overlap: Overlap) -> Finding:
    place = overlap.place
    if overlap.kind == "hidden":
        reason = f"the network hides a part of {place.cidr} on {place.interface}"
        mend = f"where this machine needs that part more: nmk leave -n {me.network}"
        return Finding("overlap", "warn", reason, mend, me.network)
    mend = f"where nothing else needs it: {place.remove}"
    if overlap.kind == "beside":
        reason = f"{place.cidr} on {place.interface} takes addresses that nodes may get"
        return Finding("overlap", "warn", reason, mend, me.network)
    reason = f"{place.cidr} on {place.interface} takes the packets to {_some(overlap.nodes)}"
    return Finding("overlap", "broken", reason, mend, me.network)


def _view(me: Membership) -> View:
    assert me.known  # noqa: S101  # of a network that has been joined there is a view
    return me.known.view


def _some(texts: list[str] | tuple[str, ...]) -> str:
    more = len(texts) - _MOST
    return "; ".join(texts[:_MOST]) + (f"; and {more} more" if more > 0 else "")
