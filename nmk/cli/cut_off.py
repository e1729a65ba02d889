"""What lets nothing out of this machine, said after a command that changes it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nmk.cli.output import say
from nmk.errors import CommandFailed, NmkError, StateDamaged, ToolMissing

if TYPE_CHECKING:
    from nmk.agent.exits import WayOut
    from nmk.agent.membership import Membership


def tell_cut_off(me: Membership, *, quiet: bool) -> None:
    """Say it where a kill switch, or an exit node that is silent, lets nothing out.

    And where a kill switch that is wanted is not there.
    """
    from nmk.agent.status import way_out
    from nmk.system.runner import Runner

    if not quiet:
        _tell(me.network, way_out(me, Runner(warn=say)))


def _tell(network: str, out: WayOut) -> None:
    if out.cut_off:
        lets = f"the {out.cut_off.by} lets nothing out but to the LAN"
        say(f"{network}: {out.problem}, and so {lets}", f"  try: {out.cut_off.next}")
    elif out.problem and out.hint and not out.past:
        say(f"{network}: everything by {out.node}: {out.problem}", f"  try: {out.hint}")
    if out.kill_switch and not out.kill_switch.laid:
        say(f"{network}: {out.kill_switch.problem}", f"  try: {out.kill_switch.next}")


@contextmanager
def cut_off_told(network: str, *, quiet: bool) -> Iterator[None]:
    """Say it, too, where something could not be done and that is raised."""
    try:
        yield
    except (CommandFailed, ToolMissing):
        tell_cut_off_of(network, quiet=quiet)
        raise


def tell_cut_off_of(network: str, *, quiet: bool) -> None:
    """The same of a network as it is on disk, as far as that can be read."""
    from nmk.agent import state
    from nmk.agent.exits import observe_damaged
    from nmk.system.runner import Runner

    with suppress(NmkError):
        try:
            if me := state.find(network):
                tell_cut_off(me, quiet=quiet)
        except StateDamaged:
            if not quiet:
                _tell(network, observe_damaged(network, Runner(warn=say)))
