"""A machine that becomes another node of its network: what it was stays until the new one is in.

The state on disk is the old one, its kill switch shut, with its successor beside it; whatever ends
a run, a check-in puts in place what is there. What is the owner's and the machine's goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from nmk.agent import interface, state
from nmk.agent.desired import desired_when_down
from nmk.agent.membership import Membership, Wishes
from nmk.agent.places import forget_runtime
from nmk.agent.tick import RESTORE, make_so, still_there
from nmk.core.parse import quote
from nmk.core.surroundings import NOTHING
from nmk.errors import AlreadyJoined, StateUnwritable
from nmk.system.runner import Runner
from nmk.wire.token import Token


def place_of(what: Membership | Token) -> tuple[bytes, str]:
    """The controller's key, and the network as that calls it."""
    if isinstance(what, Token):
        return what.controller_key, what.network
    return what.controller_key, what.remote_name


def name_here(token: Token, called: str | None) -> str:
    """What this machine calls the token's network. Raises AlreadyJoined where that is settled."""
    for me in state.others(""):
        if place_of(me) == place_of(token):
            if called not in {None, me.network}:
                raise AlreadyJoined(
                    f"this machine is in that network already and calls it {quote(me.network)}",
                    f"nmk leave -n {me.network}, to join it under another name",
                )
            return me.network
    return called or token.network


def begun_in(before: Membership | None, token: Token) -> Membership | None:
    """What an earlier run has begun to be with a token of that network, if any has."""
    for me in (before, before.successor) if before else ():
        if me and me.phase == "joining" and place_of(me) == place_of(token):
            return me
    return None


def on_disk(me: Membership) -> tuple[Membership, Membership | None]:
    """A machine that is joining as it is now, and what it was, if anything. Raises Overtaken."""
    old = state.find(me.network)
    if old and old.successor and old.successor.id == me.id:
        return old.successor, old
    return still_there(me), None


def with_earlier(wishes: Wishes, before: Membership | None, *, new_identity: bool) -> Wishes:
    """What is wished at join, with what the owner had wished earlier.

    Of a copy, what `nmk set` has noted: an endpoint and a port may be the other machine's.
    """
    if before is None:
        return wishes
    earlier = before.wishes
    wishes = replace(wishes, settings=earlier.settings)
    if new_identity or before.phase == "joining":
        return wishes
    return replace(
        wishes,
        endpoint=wishes.endpoint or earlier.endpoint,
        listen_port=wishes.listen_port or earlier.listen_port,
    )


def not_taken(before: Membership, wishes: Wishes, interface_name: str) -> Iterator[str]:
    """What was asked for that a machine which is in the network already does not get so."""
    view = before.known.view if before.known else None
    if view is None:
        return
    change = f"on the controller: nmk node set -n {before.remote_name} {view.name}"
    if wishes.name not in {None, view.name}:
        yield f"it keeps its name; another one: {change} name={wishes.name}"
    if wishes.address and wishes.address not in {a.partition("/")[0] for a in view.addresses}:
        yield f"it keeps its address; another one: {change} address={wishes.address}"
    if interface_name != before.interface:
        yield f"its interface stays {before.interface}; another one: nmk leave, then join anew"


def take_place(me: Membership, old: Membership, run: Runner) -> Membership:
    """The new node, where the old one's interface is removed and its kill switch left shut.

    Hold the lock. Raises as `interface.remove`.
    """
    rest = interface.remove(old, run, keep=desired_when_down(old))
    wishes = replace(me.wishes, settings=old.wishes.settings)
    return replace(me, wishes=wishes, as_read=old.as_read, laid=rest.laid, found=rest.found)


def put_back(me: Membership, old: Membership | None, run: Runner) -> None:
    """Remove what a join has made that fails, and put in place again what the machine was.

    Hold the lock. Raises what keeps it from that: the next check-in tries it again.
    """
    noted = state.find(me.network)  # it says what was laid
    made = noted if noted and noted.id == me.id else me
    rest = interface.remove(made, run, keep=desired_when_down(old) if old else NOTHING)
    if old is None:
        state.save(replace(me, known=None, ranges=(), laid=rest.laid, found=rest.found))
        forget_runtime(me.network)
        return
    # What the disk has as laid stays so: where it is full, nothing has to be written.
    before = replace(old, laid=old.laid | rest.laid, found={**rest.found, **old.found})
    with suppress(StateUnwritable):  # then it was never replaced
        state.save(before)
    make_so(before, run, RESTORE)


def epitaph(old: Membership, me: Membership) -> Iterator[str]:
    """What has stayed of the old node, in lines for people."""
    if me.wishes.settings:
        kept = " ".join(f"{name}={value}" for name, value in me.wishes.settings.items())
        yield f"what was set here stays set: {kept}"
    where = f"on the controller: nmk node delete -n {old.remote_name}"
    if old.phase == "joined" and old.known:
        name = old.known.view.name
        yield f"its old node {name} stays, as another machine may be it; if none is, {where} {name}"
    elif old.phase == "joining":
        yield f"if {old.urls[0]} has let it in, its node there stays; {where} NODE"
