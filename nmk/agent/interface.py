"""The WireGuard interface of one membership: desired -> probe -> diff -> plan -> execute."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from nmk.agent import history, hooks, state, surroundings
from nmk.agent.desired import Local, desired, desired_when_down, listen_port
from nmk.agent.history import Reason
from nmk.agent.membership import Membership
from nmk.agent.settings import local_settings
from nmk.agent.surroundings import Work
from nmk.core.hooks import Event, events_of
from nmk.core.parse import quote
from nmk.core.surroundings import NOTHING, Surroundings
from nmk.core.traffic import Caller, encode_callers, encode_traffic, sum_up
from nmk.core.tunnel import (
    Change,
    Command,
    Tunnel,
    diff_tunnel,
    plan_changes,
)
from nmk.errors import BadInput, InterfaceTaken, NmkError, PortTaken
from nmk.system import ports, wireguard
from nmk.system.dump import Dump
from nmk.system.runner import Runner

Step = Callable[[Membership, Work, Runner], Membership]


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
    own has been taken. Raises InterfaceTaken when the one of that name is not ours, PortTaken when
    the port that its owner asked for is in use; and, when the interface is in place, whatever this
    machine lacks to be a gateway or to use one.
    """
    if me.known is None or me.down:
        return remove(me, run, reason, keep=desired_when_down(me))
    live = wireguard.probe(run, me.interface, dump)
    if not is_ours(me, live):
        raise InterfaceTaken(
            f"the interface {quote(me.interface)} has a key that is not {me.network}'s",
            f"ip link delete dev {me.interface}, if nothing else needs it; then: nmk checkin",
        )
    me = with_usable_port(me, local, live)
    wish = desired(me, local, lan)
    want = wish.tunnel
    changes = diff_tunnel(want, live, me.endpoints)
    work = surroundings.plan(me, wish.surroundings, run)
    with history.recording(me, reason, [*changes, *work.changes], run):
        me, unable = _try(surroundings.begin, me, work, run)
        execute(run, me, want, live, changes)
        me = replace(me, endpoints={p.key: p.endpoint for p in want.peers.values() if p.endpoint})
        if unable is None:
            me, unable = _try(surroundings.finish, me, work, run)
    hooks.call(events_of(want, live, changes), me, history.names_of(me, reason), run)
    if unable is not None:
        if not run.dry:
            state.save(me)
        raise unable
    return me


def _try(step: Step, me: Membership, work: Work, run: Runner) -> tuple[Membership, NmkError | None]:
    """A step of the surroundings: peers are reached whether it can be taken or not."""
    try:
        return step(me, work, run), None
    except NmkError as error:
        return me, error


def with_usable_port(me: Membership, local: Local, live: Tunnel | None) -> Membership:
    """The membership with a UDP port that WireGuard has or can have; another one if need be.

    Raises PortTaken where that is the one that its owner asked for.
    """
    port = listen_port(me, local)
    here = live.listen_port if live else 0
    if here == port or ports.is_free(port):
        return me
    if me.wishes.listen_port or "listen-port" in local:
        raise PortTaken(
            f"UDP port {port} is in use",
            "free it (a hub that was taken over?), or ask for another listen-port",
        )
    return replace(me, listen_port=here or ports.next_free(port + 1, reserved_ports(me.network)))


def reserved_ports(network: str) -> set[int]:
    """The UDP ports of the other networks of this machine, whether they are up or not."""
    found = set()
    for other in state.others(network):
        with suppress(BadInput):  # a mistake in that network's settings is no trouble of this one
            found.add(listen_port(other, local_settings(other.network, other)))
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


def remove(
    me: Membership, run: Runner, reason: Reason | None = None, keep: Surroundings = NOTHING
) -> Membership:
    """Remove the interface if it is ours, and what lies beside it but for what is to be kept.

    One that is not ours stays.
    """
    work = surroundings.plan(me, keep, run)
    try:
        live = wireguard.probe(run, me.interface)
    except InterfaceTaken:
        live = None
    if not is_ours(me, live):
        live = None
    changes = [Change("remove", f"remove {me.interface}")] if live else []
    noted = [*changes, *work.changes] if reason else []
    with history.recording(me, reason or Reason("down"), noted, run):
        me = surroundings.begin(me, work, run)
        surroundings.lay(work, run)  # routes go with the interface, and could not be deleted
        if live or not wireguard.exists(me.interface):
            wireguard.remove(run, me.interface)
        me = surroundings.end(me, work, run)
    if live and live.up:
        hooks.call([Event("down")], me, {}, run)
    return me


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
    ids = {other.key: other.id for other in me.known.view.others}
    return encode_traffic(
        sum_up({ids[k]: p.counters(now) for k, p in dump.peers.items() if k in ids})
    )


def callers(me: Membership, dump: Dump | None, now: float) -> str:
    """What this gateway's ext clients are up to, "" where it is none. `now`: as above."""
    if dump is None or me.known is None or me.known.view.gateway.ingress is None:
        return ""
    found = {}
    for client in me.known.view.clients.values():
        there = dump.peers.get(client.key)
        if there and there.handshake:
            found[client.id] = Caller(there.counters(now), there.peer.endpoint)
    return encode_callers(found)


def is_ours(me: Membership, live: Tunnel | None) -> bool:
    """Whether an interface of our name is the one we made, or has no key yet, or is not there."""
    return live is None or live.private_key in {"", me.private_key}
