"""Bringing the interface up from disk, and taking it down until its owner wants it up again."""

from __future__ import annotations

from dataclasses import replace

from nmk.agent import interface, state
from nmk.agent.history import Reason
from nmk.agent.lock import locked
from nmk.agent.membership import Membership
from nmk.agent.places import state_directory
from nmk.agent.settings import local_settings
from nmk.agent.tick import collect_facts, keep
from nmk.core.tunnel import Tunnel
from nmk.errors import NodeDeleted
from nmk.system.runner import Runner


def up(network: str, run: Runner) -> Membership:
    """Put the interface in place as the controller said last; no controller is needed."""
    return _set_down(network, run, down=False)


def down(network: str, run: Runner) -> Membership:
    """Remove the interface; check-ins go on and leave it so until `up`."""
    return _set_down(network, run, down=True)


def as_wished(network: str) -> Tunnel:
    """The interface as `up` would make it."""
    me = state.load(network)
    local = local_settings(network)
    return interface.desired(me, local, collect_facts(me, local).lan)


def _set_down(network: str, run: Runner, *, down: bool) -> Membership:
    with locked(state_directory()):
        before = state.load(network)
        if before.phase == "deleted" and not down:
            raise NodeDeleted(f"this machine's node in {network} was deleted on the controller")
        local = local_settings(network)
        wished = replace(before, down=down)
        # The wish first: cut short here, the next check-in carries it out.
        keep(before, wished, run)
        lan = collect_facts(wished, local).lan
        after = interface.apply(wished, run, local, lan, Reason("down" if down else "up"))
        keep(wished, after, run)
        return after
