"""A kill switch that is wanted comes before all that may fail or hang, and whatever fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from nmk.agent import history, state
from nmk.agent.attempts import Attempts
from nmk.agent.desired import desired, desired_when_down
from nmk.agent.history import Reason
from nmk.agent.membership import Membership
from nmk.agent.settings import route_wishes
from nmk.agent.surroundings import RENEW, is_filter_other, is_shut, not_ours, renew_filter
from nmk.core.kill_chains import is_shut as is_shut_in
from nmk.core.kill_chains import opened, shut, silenced
from nmk.core.ruleset import is_ours, table_name
from nmk.core.surroundings import Surroundings
from nmk.core.tunnel import Change
from nmk.errors import CommandFailed, NmkError, StateUnwritable
from nmk.system import filter as packet_filter
from nmk.system.runner import Runner
from nmk.tools import has_tool

_shut_alone: dict[str, tuple[str, str]] = {}  # by networks: what was laid, and what nft made of it


def is_wanted(me: Membership) -> bool:
    """Whether the owner wants one, in a network that let this machine in. Raises BadInput."""
    return me.phase != "joining" and route_wishes(me).kill_switch


def is_open(me: Membership, run: Runner) -> bool:
    """Whether one is wanted and is not in the kernel, whatever was noted. Raises BadInput."""
    return is_wanted(me) and not is_shut(me, run)


def lay(me: Membership, run: Runner) -> None:
    """Lay it if it is wanted, and nothing else.

    Where it cannot be laid, what comes next tries it again, and says why.
    """
    if not is_wanted(me):
        return
    is_up = me.known is not None and me.phase == "joined" and not me.down
    want = desired(me, {}, ()).surroundings if is_up else desired_when_down(me)
    tried, told = Attempts(), list[Change]()
    with history.recording(me, Reason("restore"), told, run, tried):
        lay_first(me, want, run, tried, told)


def lay_first(
    me: Membership, want: Surroundings, run: Runner, tried: Attempts, told: list[Change]
) -> bool:
    """Put the packet filter in place if the kill switch is in it; whether it is there now.

    `told`: what is done is added to it. Also where it cannot be noted on disk: a way that is open
    is worse than a table that is left. Of a filter that nft refuses, the kill switch alone: beside
    what there is already, or in its place.
    """
    if run.dry or want.ruleset is None or not has_tool("nft"):
        return False
    alone = desired_when_down(me).ruleset
    if alone is None or not_ours(me, run):
        return False
    if not is_filter_other(me, want.ruleset, run):
        return True
    _silence_others(me.network, run)
    if "filter" not in me.laid:
        with suppress(StateUnwritable):
            state.save(replace(me, laid=me.laid | {"filter"}))
    with suppress(CommandFailed):  # which is tried again in its turn, and said
        try:
            renew_filter(me, want.ruleset, run, tried)
        except CommandFailed:
            if alone != want.ruleset:
                _shut(me.network, want.ruleset, alone, run)
            raise
        told.append(Change("surroundings", RENEW))
        return True
    return False


@contextmanager
def open_at_least(me: Membership, run: Runner) -> Iterator[None]:
    """Open one that its owner does not want any more, though the rest cannot be carried out."""
    try:
        yield
    except NmkError:
        table = table_name(me.network)
        with suppress(NmkError):
            there = packet_filter.listing(run, table)
            wishes = route_wishes(me)
            is_wanted = wishes.kill_switch and wishes.exit_node is not None
            if is_shut_in(there) and is_ours(there) and not is_wanted:
                packet_filter.amend(run, opened(table, there))
        raise


def lay_alone(me: Membership, run: Runner) -> None:
    """Lay it where the network's state cannot be read, unless one is there.

    `me`: what can be read of that; nothing of it is written. Raises BadInput, CommandFailed.
    """
    alone = desired_when_down(me).ruleset
    if run.dry or alone is None or not (is_wanted(me) and has_tool("nft")):
        return
    if is_shut(me, run) or not_ours(me, run):
        return
    _silence_others(me.network, run)
    told = [Change("surroundings", RENEW)]
    with history.recording(me, Reason("restore"), told, run, Attempts()):
        _shut(me.network, alone, alone, run)


def _silence_others(network: str, run: Runner) -> None:
    """The tables of other networks let nothing past from now on; what they become is their own."""
    for table, there in packet_filter.beside(run, table_name(network)).items():
        if text := silenced(table, there):
            with suppress(CommandFailed):
                packet_filter.amend(run, text)


def _shut(network: str, want: str, alone: str, run: Runner) -> None:
    """Lay the kill switch alone, unless this process did. Raises CommandFailed.

    Not noted on disk: it is not what is wanted.
    """
    table = table_name(network)
    there = packet_filter.listing(run, table)
    if there and _shut_alone.get(network) == (alone, there):
        return
    try:
        if not there:
            packet_filter.replace(run, table, alone)
        else:
            packet_filter.amend(run, shut(table, there, want))
    except CommandFailed:
        packet_filter.replace(run, table, alone)
    _shut_alone[network] = (alone, packet_filter.listing(run, table))
