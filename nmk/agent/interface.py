"""The WireGuard interface of one membership: desired -> probe -> diff -> plan -> execute."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from nmk.agent import history, hooks, state
from nmk.agent.claims import left_out
from nmk.agent.history import Reason
from nmk.agent.membership import Membership
from nmk.agent.settings import local_settings
from nmk.core.hooks import Event, events_of
from nmk.core.parse import quote
from nmk.core.traffic import encode_traffic, sum_up
from nmk.core.tunnel import (
    Change,
    Command,
    Tunnel,
    compile_tunnel,
    diff_tunnel,
    plan_changes,
)
from nmk.errors import BadInput, BadView, InterfaceTaken, NmkError, PortTaken
from nmk.system import ports, wireguard
from nmk.system.dump import Dump
from nmk.system.runner import Runner

Local = Mapping[str, int]  # the machine's own settings, by their names in core.settings


def apply(
    me: Membership,
    run: Runner,
    local: Local,
    lan: tuple[str, ...],
    reason: Reason,
    dump: Dump | None = None,
) -> Membership:
    """Make the interface what the view says; `lan` are the machine's own addresses.

    Repeat-safe, and no command at all where nothing differs. Where the owner wants the interface
    down it is removed. `dump`: what `look` gave. One that must be made gets another port if its
    own has been taken. Raises InterfaceTaken when the one of that name is not ours,
    PortTaken when the port that its owner asked for is in use.
    """
    if me.known is None or me.down:
        remove(me, run, reason)
        return me
    cidrs = me.known.view.cidrs
    live = wireguard.probe(run, me.interface, dump)
    if not is_ours(me, live):
        raise InterfaceTaken(
            f"the interface {quote(me.interface)} has a key that is not {me.network}'s",
            f"ip link delete dev {me.interface}, if nothing else needs it; then: nmk checkin",
        )
    me = with_usable_port(me, local, live)
    want = desired(me, local, lan)
    changes = diff_tunnel(want, live, cidrs, me.endpoints)
    with history.recording(me, reason, changes, run):
        execute(run, me, want, live, changes)
    hooks.call(events_of(want, live, changes), me, history.names_of(me, reason), run)
    return replace(me, endpoints={p.key: p.endpoint for p in want.peers.values() if p.endpoint})


def desired(me: Membership, local: Local, lan: tuple[str, ...]) -> Tunnel:
    """What the interface should be. Raises BadView before the controller has told anything."""
    if me.known is None:
        raise BadView(f"the controller has not told this machine of {me.network} yet", "nmk join -")
    port = listen_port(me, local)
    out = {left.address for left in left_out(me)}
    return compile_tunnel(me.known.view, me.interface, me.private_key, port, lan, local, out)


def with_usable_port(me: Membership, local: Local, live: Tunnel | None) -> Membership:
    """The membership with a UDP port that WireGuard has or can have; another one if need be.

    Raises PortTaken where that is the one that its owner asked for.
    """
    port = listen_port(me, local)
    here = live.listen_port if live else 0
    if here == port or ports.is_free(port):
        return me
    if me.wishes.listen_port or "listen-port" in local:
        raise PortTaken(f"UDP port {port} is in use", "free it, or ask for another listen-port")
    return replace(me, listen_port=here or ports.next_free(port + 1, reserved_ports(me.network)))


def reserved_ports(network: str) -> set[int]:
    """The UDP ports of the other networks of this machine, whether they are up or not."""
    found = set()
    for other in state.others(network):
        with suppress(BadInput):  # a mistake in that network's settings is no trouble of this one
            found.add(listen_port(other, local_settings(other.network)))
    return found


def execute(
    run: Runner, me: Membership, want: Tunnel, live: Tunnel | None, changes: list[Change]
) -> None:
    """Run the commands for the changes."""
    ways = wireguard.creations(want.interface) if live is None else [Command(())]
    for command in plan_changes(want, live, changes, me.endpoints, ways[0].argv):
        if command == ways[0]:
            wireguard.create(run, ways, want.interface)
        else:
            run.change(command)


def remove(me: Membership, run: Runner, reason: Reason | None = None) -> None:
    """Remove the interface if it is ours; one that is not stays as it is."""
    try:
        live = wireguard.probe(run, me.interface)
    except InterfaceTaken:
        return
    if not is_ours(me, live):
        return
    if reason is None or live is None:
        wireguard.remove(run, me.interface)
    else:
        with history.recording(me, reason, [Change("remove", f"remove {me.interface}")], run):
            wireguard.remove(run, me.interface)
    if live and live.up:
        hooks.call([Event("down")], me, {}, run)


def look(me: Membership, run: Runner) -> Dump | None:
    """What WireGuard says of the interface; None where that cannot be told."""
    if not wireguard.exists(me.interface):
        return None
    try:
        dump = wireguard.look(run, me.interface)
    except NmkError:
        return None
    return dump if dump.private_key in {"", me.private_key} else None


def traffic(me: Membership, dump: Dump | None, now: float) -> str:
    """The summary that goes with a check-in, "" where there is none. `now`: seconds since 1970."""
    if dump is None or me.known is None:
        return ""
    ids = {peer.key: peer.id for peer in me.known.view.peers.values()}
    return encode_traffic(
        sum_up({ids[k]: p.counters(now) for k, p in dump.peers.items() if k in ids})
    )


def is_ours(me: Membership, live: Tunnel | None) -> bool:
    """Whether an interface of our name is the one we made, or has no key yet, or is not there."""
    return live is None or live.private_key in {"", me.private_key}


def listen_port(me: Membership, local: Local) -> int:
    """The UDP port of this machine's WireGuard: the one asked for, else the one picked at join."""
    return me.wishes.listen_port or local.get("listen-port", me.listen_port)
