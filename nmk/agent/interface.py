"""The WireGuard interface of one membership: desired -> probe -> diff -> plan -> execute."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from nmk.agent.membership import Membership
from nmk.core.parse import quote
from nmk.core.tunnel import (
    Change,
    Command,
    Tunnel,
    compile_tunnel,
    diff_tunnel,
    plan_changes,
)
from nmk.errors import BadView, InterfaceTaken
from nmk.system import wireguard
from nmk.system.runner import Runner

Local = Mapping[str, int]  # the machine's own settings, by their names in core.settings


def apply(me: Membership, run: Runner, local: Local, lan: tuple[str, ...]) -> Membership:
    """Make the interface what the view says; `lan` are the machine's own addresses.

    Repeat-safe, and no command at all where nothing differs. Where the owner wants the interface
    down it is removed. Raises InterfaceTaken when the one of that name is not ours.
    """
    if me.known is None or me.down:
        remove(me, run)
        return me
    want = desired(me, local, lan)
    live = wireguard.probe(run, me.interface)
    if not is_ours(me, live):
        raise InterfaceTaken(
            f"the interface {quote(me.interface)} has a key that is not {me.network}'s",
            f"ip link delete dev {me.interface}, if nothing else needs it; then: nmk checkin",
        )
    execute(run, me, want, live, diff_tunnel(want, live, me.known.view.cidrs, me.endpoints))
    return replace(me, endpoints={p.key: p.endpoint for p in want.peers.values() if p.endpoint})


def desired(me: Membership, local: Local, lan: tuple[str, ...]) -> Tunnel:
    """What the interface should be. Raises BadView before the controller has told anything."""
    if me.known is None:
        raise BadView(f"the controller has not told this machine of {me.network} yet", "nmk join -")
    return compile_tunnel(
        me.known.view, me.interface, me.private_key, listen_port(me, local), lan, local
    )


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


def remove(me: Membership, run: Runner) -> None:
    """Remove the interface if it is ours; one that is not stays as it is."""
    try:
        ours = is_ours(me, wireguard.probe(run, me.interface))
    except InterfaceTaken:
        return
    if ours:
        wireguard.remove(run, me.interface)


def is_ours(me: Membership, live: Tunnel | None) -> bool:
    """Whether an interface of our name is the one we made, or has no key yet, or is not there."""
    return live is None or live.private_key in {"", me.private_key}


def listen_port(me: Membership, local: Local) -> int:
    """The UDP port of this machine's WireGuard: the one asked for, else the one picked at join."""
    return me.wishes.listen_port or local.get("listen-port", me.listen_port)
