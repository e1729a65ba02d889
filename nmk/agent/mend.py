"""Putting right what another program changed of nmk's own; no controller is needed for it."""

from __future__ import annotations

from collections.abc import Sequence

from nmk.agent import interface, state
from nmk.agent.history import Reason
from nmk.agent.lock import machine_lock
from nmk.agent.tick import put_right
from nmk.core.tunnel import Command
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
        self._inner = run

    def read(self, argv: Sequence[str]) -> str:
        """As of the runner inside."""
        return self._inner.read(argv)

    def change(self, command: Command) -> None:
        """As of the runner inside."""
        self.changed = True
        self._inner.change(command)


def shut_network(network: str, run: Runner) -> None:
    """After a reboot: a kill switch that is wanted is laid, and nothing else. Raises Locked."""
    with machine_lock(run, 0):
        interface.shut(state.load(network), run)


def mend_network(network: str, run: Runner) -> bool:
    """Look whether all that was laid is there, and lay it again; whether anything was amiss.

    Raises Locked, NotJoined, and whatever `interface.apply` does.
    """
    watched = _Watched(run)
    after = put_right(network, watched, Reason("mended", news=(UNDONE,)))
    if watched.changed and after.phase == "joined":
        interface.complain(after)
    return watched.changed
