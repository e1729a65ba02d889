"""Putting right what another program changed of nmk's own; no controller is needed for it."""

from __future__ import annotations

from nmk.agent import interface, state
from nmk.agent.history import Reason
from nmk.agent.lock import machine_lock
from nmk.agent.settings import local_settings
from nmk.agent.tick import collect_facts, keep
from nmk.system.runner import Runner

UNDONE = "another program had changed this"


class _Watched(Runner):
    """A runner that remembers whether it changed anything."""

    def __init__(self, run: Runner) -> None:
        def show(text: str) -> None:
            self.changed = True
            run.show(text)

        super().__init__(show, run.warn, run.note)
        self.changed = False


def mend_network(network: str, run: Runner) -> bool:
    """Look whether all that was laid is there, and lay it again; whether anything was amiss.

    Raises Locked, NotJoined, and whatever `interface.apply` does.
    """
    with machine_lock(run, 0):
        me = state.load(network)
        if me.phase != "joined":
            return False
        watched = _Watched(run)
        local = local_settings(network, me)
        lan = collect_facts(me, local).lan
        after = interface.apply(me, watched, local, lan, Reason("mended", news=(UNDONE,)))
        keep(me, after, run)
        if watched.changed:
            interface.complain(after)
        return watched.changed
