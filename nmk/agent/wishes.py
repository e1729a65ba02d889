"""`nmk set`: what the owner of this machine wishes, noted in its state and carried out at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from nmk.agent import interface, state
from nmk.agent.desired import listen_port
from nmk.agent.history import Cause, Reason
from nmk.agent.lock import machine_lock
from nmk.agent.membership import Membership
from nmk.agent.places import config_directory
from nmk.agent.salvage import guarded, open_way
from nmk.agent.settings import (
    JOINED,
    NOTED,
    appending,
    local_settings,
    route_wishes,
    unread,
    wished,
)
from nmk.agent.tick import collect_facts, keep, put_others_right, seen_by_others
from nmk.agent.wake import wake
from nmk.core.parse import find_meant
from nmk.core.routes import exit_gateways, why_no_exit
from nmk.core.settings import NETWORK_SETTINGS, WISHES, check_local, parse_local
from nmk.errors import BadInput, ExitUnusable, NmkError, NodeDeleted, StateDamaged, StateUnwritable
from nmk.system.runner import Runner


def note(network: str, pairs: Mapping[str, str], run: Runner) -> Membership:
    """Note settings and carry them out; an empty value takes one back. Raises BadInput.

    A kill switch is opened though the state cannot be read, and nothing be noted.
    """

    def wish(me: Membership) -> Membership:
        sources = wished(network, me)
        settings = dict(me.wishes.settings)
        for name, text in pairs.items():
            check_local(name)
            _check_free(name, sources[name][1] if name in sources else NOTED)
            if text or name == "exit-node":  # to have none any more is a wish as well
                settings[name] = parse_local(name, text)
            else:
                settings.pop(name, None)
        if pairs.get("exit-node"):
            _check_exit(me, pairs["exit-node"])
        port = None if "listen-port" in pairs else me.wishes.listen_port
        return replace(me, wishes=replace(me.wishes, settings=settings, listen_port=port))

    opens = pairs.get("kill-switch") == "off"
    try:
        return carry_out(network, wish, "set", run)
    except StateDamaged as error:
        if not opens:
            raise
        return _open_damaged(network, error, run)
    except StateUnwritable as error:
        if opens and error.hint == error.default_hint:
            error.hint = _unnoted(network)
        raise


def _open_damaged(network: str, error: StateDamaged, run: Runner) -> Membership:
    value, source = wished(network, guarded(network, run)).get("kill-switch", ("off", NOTED))
    if value == "on":
        _check_free("kill-switch", source)
    run.warn(f"{error.message}: all that leads this machine's traffic past the LAN is removed")
    with machine_lock(run):
        return open_way(network, run)


def _unnoted(network: str) -> str:
    """What opens a kill switch on a full disk."""
    opens = appending(network, 'kill-switch = "off"')
    line = f"{opens}; nmk checkin -n {network}"
    return f"make room, or, where {config_directory()} can be written: {line}"


def carry_out(
    network: str, wish: Callable[[Membership], Membership], cause: Cause, run: Runner
) -> Membership:
    """Change what the owner wants, on disk, and then make the machine so.

    No controller is needed. The wish comes first: cut short, the next check-in carries it out.
    Nothing is noted where the owner's files are such that it cannot be, nor a port that is in use.
    Settings that cannot be carried out are put back, and what was wrong is raised; not what a kill
    switch is made of: it is laid whatever else fails, and stays.
    """
    with machine_lock(run):
        before = state.load(network)
        wanted = wish(before)
        if wanted.phase == "deleted" and not wanted.down:
            raise NodeDeleted(f"this machine's node in {network} was deleted on the controller")
        local, earlier = local_settings(network, wanted), local_settings(network, before)
        lan = collect_facts(wanted, local).lan
        is_same_port = listen_port(wanted, local) == listen_port(before, earlier)
        if not (is_same_port or wanted.down):
            interface.with_usable_port(wanted, local, interface.look(before, run))
        keep(before, wanted, run)
        try:
            after = interface.apply(wanted, run, local, lan, Reason(cause))
        except NmkError:
            if not run.dry and _shut_by(wanted) == _shut_by(before):
                with suppress(NmkError):
                    now = state.load(network)
                    keep(now, replace(now, wishes=before.wishes), run)
            raise
        keep(wanted, after, run)
        if seen_by_others(wanted) != seen_by_others(before):
            put_others_right(network, run)
    if not run.dry:
        wake(network)
    unheard = unread(after)
    no_exit = [p for p in after.problems if p.code == ExitUnusable.code]  # the check-in fails by it
    for problem in (*unheard, *(no_exit if not route_wishes(after).kill_switch else ())):
        run.warn(f"{problem.message}: {problem.hint}")
    interface.complain(
        replace(after, problems=tuple(p for p in after.problems if p not in (*unheard, *no_exit)))
    )
    return after


def _shut_by(me: Membership) -> str | None:
    """The exit node past which a kill switch lets nothing; None without one."""
    wishes = route_wishes(me)
    return wishes.exit_node if wishes.kill_switch else None


def show(network: str) -> list[dict[str, Any]]:
    """Every setting that this machine has a word in: its value, and where that is from."""
    me = state.load(network)
    found = wished(network, me)
    told = me.known.view.settings if me.known else {}
    rows: list[dict[str, Any]] = []
    for name, wish in WISHES.items():
        value, source = found.get(name, (wish.default, "default"))
        rows.append({"name": name, "value": value, "from": source})
    for name, setting in NETWORK_SETTINGS.items():
        value, source = (
            (told[name], "the network") if name in told else (setting.default, "default")
        )
        value, source = found.get(name, (value, source))
        rows.append({"name": name, "value": value, "from": source})
    return rows


def _check_free(name: str, source: str) -> None:
    """Raises BadInput where a file or a variable would win over what is noted."""
    if source not in {NOTED, JOINED}:
        raise BadInput(f"{source} sets {name} and takes precedence", f"change it in {source}")


def _check_exit(me: Membership, name: str) -> None:
    """Raises BadInput where this machine knows of no exit gateway of that name."""
    if me.known is None:
        raise BadInput(f"exit-node={name}: this machine knows of no node yet", "nmk join -")
    view = me.known.view
    exits = exit_gateways(view)
    if name in exits:
        return
    is_node = any(name == peer.name for peer in view.peers.values())
    meant = find_meant(name, exits) or next(iter(exits), None)
    hint = f"nmk set -n {me.network} exit-node={meant}" if meant else ""
    if is_node or not exits:
        node = name if is_node else "NODE"
        hint = f"on the controller: nmk gateway add -n {me.remote_name} {node} exit"
        hint += f"; then here: nmk checkin -n {me.network}"
    there = ", ".join(exits) or "none"
    raise BadInput(f"exit-node={name}: {why_no_exit(view, name)} (exit gateways: {there})", hint)
