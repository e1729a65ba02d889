"""Leaving a network: no trace of it stays on the machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from nmk.agent import interface, state
from nmk.agent.elsewhere import check_not_elsewhere
from nmk.agent.lock import RETURN_SECONDS, machine_lock
from nmk.agent.membership import Membership
from nmk.agent.salvage import remove_leftovers, salvage
from nmk.agent.tick import api_of, put_others_right, still_there
from nmk.errors import (
    CommandFailed,
    NmkError,
    NodeDeleted,
    NodeUnknown,
    StaleSequence,
    StateDamaged,
    StateUnwritable,
    ToolMissing,
)
from nmk.system.runner import Runner
from nmk.wire.envelope import NO_EPOCH

Say = Callable[[str], None]


def leave(network: str, run: Runner, say: Say, *, force: bool = False) -> None:
    """Tell the controller, then remove the interface and the state.

    Where the controller cannot be told, nothing is done and its failure raised, unless `force`:
    then the node stays on the controller until an admin deletes it, and a state that cannot be read
    is no hindrance. While nobody can tell whether an interface is ours, `force` or not, the state
    stays and CommandFailed is raised. What else stays, also for want of a tool, is raised once the
    state is gone with `force`: no check-in brings it back. Cut short, it can be repeated. Raises
    Overtaken where the machine has joined anew meanwhile, StateUnwritable where the state would
    stay, which would bring the interface up again: before anything is done, but for `force`.
    """
    with machine_lock(run):
        me = _load(network, run, say, force=force)
        if not (force or run.dry):
            state.check_removable(network)
        me = me if run.dry else _used_up(me)
        told = [m for m in (me.successor, me) if m and m.phase != "deleted" and not run.dry]
        if told:
            with suppress(StateUnwritable):  # a disk that is full keeps nobody in the network
                state.save(me)
    heard = [_tell_controller(member, say, force=force) for member in told]
    with machine_lock(run, RETURN_SECONDS):
        if me.urls and not run.dry:  # a state that cannot be read has none
            me = still_there(me)
        stays: NmkError | None = None
        try:
            interface.remove(me, run)
        except (CommandFailed, ToolMissing) as error:  # the rest was removed
            if heard and all(heard):
                error.message += f"; {me.remote_name} has no such node any more on the controller"
            is_lacking = isinstance(error, ToolMissing)
            if not force or (interface.is_left(me, run) and not is_lacking):
                raise
            error.message += f"; what is left of {network} goes when this machine starts anew"
            stays = error
        if not run.dry:
            _remove_state(network)
            put_others_right(network, run)
    if stays:
        raise stays
    say(f"this machine {'would leave' if run.dry else 'has left'} {network}")


def _remove_state(network: str) -> None:
    try:
        state.remove(network)
    except StateUnwritable as error:
        error.message += f"; until it is, the next check-in brings {network} back"
        raise


def _used_up(me: Membership) -> Membership:
    """With the next number used up, on disk before it is sent, and a report to follow.

    Else a leave that was held back would still be taken in where the machine stays.
    """
    me = replace(me, successor=me.successor and _used_up(me.successor))
    return me if me.phase == "deleted" else replace(me, seq=me.seq + 1, reported=None)


def leave_lost(network: str, run: Runner, say: Say) -> None:
    """Remove what is left of a network that this machine has no state of.

    Raises NotJoined where there is nothing, CommandFailed.
    """
    if not run.dry:
        state.make_directory()  # where the lock is; it goes with it
    with machine_lock(run):
        if not remove_leftovers(network, run):
            raise state.unknown(network)
        if not run.dry:
            state.remove(network)
    say(f"what was left of {network} {'would go' if run.dry else 'is removed'}")


def _load(network: str, run: Runner, say: Say, *, force: bool) -> Membership:
    """The membership, with `force` as much as is left of it."""
    try:
        return state.load(network)
    except StateDamaged as error:
        check_not_elsewhere(network)
        if not force:
            raise
        say(f"{error.message}; on the controller: nmk node delete -n {network} NODE")
        return salvage(network, run)


def _tell_controller(me: Membership, say: Say, *, force: bool) -> bool:
    """Whether it has no such node any more."""
    try:
        _send(me)
    except (NodeDeleted, NodeUnknown):
        return True  # under seal, and as we wish
    except NmkError as error:
        if not force:
            error.hint = (
                f"later again, or without the controller: nmk leave -n {me.network} --force"
            )
            raise
        name = me.known.view.name if me.known else "NODE"
        say(f"{error.message}; on the controller: nmk node delete -n {me.remote_name} {name}")
        return False
    return True


def _send(me: Membership) -> None:
    """Send the leave, once more with the number after the last one that was taken in."""
    api, epoch = api_of(me), me.known.epoch if me.known else NO_EPOCH
    answer = api.leave(epoch, me.seq)
    if isinstance(answer.error, StaleSequence):
        answer = api.leave(epoch, answer.stored_seq(me.seq) + 1)
    answer.result()
