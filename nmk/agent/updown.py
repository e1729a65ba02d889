"""Bringing the interface up from disk, and taking it down until its owner wants it up again."""

from __future__ import annotations

from dataclasses import replace

from nmk.agent import state
from nmk.agent.desired import desired
from nmk.agent.lock import machine_lock
from nmk.agent.membership import Membership
from nmk.agent.salvage import OPEN, take_down
from nmk.agent.settings import local_settings
from nmk.agent.tick import collect_facts
from nmk.agent.wishes import carry_out
from nmk.core.tunnel import Tunnel
from nmk.errors import StateDamaged
from nmk.system.runner import Runner


def up(network: str, run: Runner) -> Membership:
    """Put the interface in place as the controller said last; no controller is needed."""
    return carry_out(network, lambda me: _so(me, down=False), "up", run)


def down(network: str, run: Runner) -> Membership:
    """Remove the interface; check-ins go on and leave it so until `up`.

    Where the state cannot be read, no check-in brings it back.
    """
    try:
        return carry_out(network, lambda me: _so(me, down=True), "down", run)
    except StateDamaged as error:
        run.warn(f"{error.message}; a kill switch stays shut until: {OPEN.format(network)}")
        with machine_lock(run):
            return take_down(network, run)


def _so(me: Membership, *, down: bool) -> Membership:
    """The same of what the machine is about to be: a join that waits does not undo it."""
    return replace(me, down=down, successor=me.successor and _so(me.successor, down=down))


def as_wished(network: str) -> Tunnel:
    """The interface as `up` would make it."""
    me = state.load(network)
    local = local_settings(network, me)
    return desired(me, local, collect_facts(me, local).lan).tunnel
