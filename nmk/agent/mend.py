"""Putting right what another program changed of nmk's own; no controller is needed for it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from ipaddress import ip_interface

from nmk.agent import interface, kill_switch, salvage, state
from nmk.agent.history import Reason
from nmk.agent.lock import PERSON_SECONDS, machine_lock
from nmk.agent.tick import CHANGE, put_right
from nmk.core.tunnel import Command
from nmk.errors import NmkError, StateDamaged
from nmk.system.facts import own_addresses, own_subnets
from nmk.system.runner import Runner
from nmk.unforeseen import as_ours

UNDONE = "another program, or an nmk with other variables set, had changed this"
_last: dict[str, frozenset[str] | None] = {}  # what `_addresses` gave when a network was looked at


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


def shut_network(network: str, run: Runner, seconds: float = 0.0) -> None:
    """After a reboot: a kill switch that is wanted is laid, and nothing else.

    `seconds`: to wait for another run. Raises Locked, and what is wrong with the network's files.
    """
    with machine_lock(run, seconds):
        kill_switch.lay(salvage.load(network, run), run)


def shut_networks(run: Runner) -> None:
    """The same of all networks that one is not in place of, before any is waited for.

    A lock that is held is waited for PERSON_SECONDS, for all of them together. What fails here is
    tried again, and said, by each network's own check-in.
    """
    deadline = time.monotonic() + PERSON_SECONDS
    for network in () if run.dry else state.networks():
        with suppress(NmkError), as_ours():
            if _may_be_open(network, run):
                shut_network(network, run, max(0.0, deadline - time.monotonic()))


def _may_be_open(network: str, run: Runner) -> bool:
    """Raises BadInput."""
    try:
        me = state.load(network)
    except StateDamaged:
        return True
    return kill_switch.is_open(me, run)


def mend_network(network: str, run: Runner) -> bool:
    """Look whether all that was laid is there, and lay it again; whether another had undone it.

    Where the machine's own addresses have changed since the last look, something else is wanted:
    that is nobody's doing. Raises Locked, NotJoined, and whatever `interface.apply` does.
    """
    before = _addresses()
    is_moved = _last.get(network, before) != before
    watched = _Watched(run)
    reason = CHANGE if is_moved else Reason("mended", news=(UNDONE,))
    after = put_right(network, watched, reason)
    _last[network] = before
    if _addresses() != before:  # meanwhile: who knows by which of them it was laid
        is_moved, _last[network] = True, None
    if watched.changed and after.phase == "joined":
        interface.complain(after)
    return watched.changed and not is_moved


def _addresses() -> frozenset[str]:
    """The machine's own, and its subnets with their interfaces, but for meshes'."""
    ours = state.others("")
    names = [me.interface for me in ours]
    meshes = {cidr for me in ours if me.known for cidr in me.known.view.cidrs}
    subnets = {f"{i} {cidr}" for i, cidr in own_subnets(leave_out=names) if cidr not in meshes}
    addresses = own_addresses(leave_out=names)
    near = {a for a in addresses if str(ip_interface(a).network) not in meshes}
    return frozenset(subnets | near)
