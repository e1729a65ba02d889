"""A kill switch is laid, or opened, before all that may fail or hang, and whatever fails."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from nmk.agent import history, state
from nmk.agent.attempts import Attempts
from nmk.agent.desired import desired, desired_when_down
from nmk.agent.history import Reason
from nmk.agent.membership import Membership
from nmk.agent.settings import route_wishes
from nmk.agent.surroundings import (
    RENEW,
    is_filter_other,
    is_settled,
    is_shut,
    not_ours,
    renew_filter,
)
from nmk.core.kill_chains import is_shut as is_shut_in
from nmk.core.kill_chains import opened, shut, silenced
from nmk.core.ruleset import is_ours, table_name
from nmk.core.surroundings import Surroundings
from nmk.core.tunnel import Change
from nmk.errors import CommandFailed, StateUnwritable
from nmk.system import filter as packet_filter
from nmk.system.runner import Runner
from nmk.tools import has_tool

OPEN = "open the kill switch"
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
        settle_first(me, want, run, tried, told)


def settle_first(
    me: Membership, want: Surroundings, run: Runner, tried: Attempts, told: list[Change]
) -> bool:
    """Put the packet filter in place if the kill switch is in it; whether it is as wanted now.

    Else open one that stands. For either nft is enough, whatever else the machine lacks.

    `told`: what is done is added to it. Also where it cannot be noted on disk: a way that is open
    is worse than a table that is left. Of a filter that nft refuses, the kill switch alone: beside
    what there is already, or in its place.
    """
    if run.dry or not has_tool("nft"):
        return False
    alone = desired_when_down(me).ruleset
    if want.ruleset is None or alone is None:
        return _open_first(me, want, run, tried, told)
    if not_ours(me, run):
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


def _open_first(
    me: Membership, want: Surroundings, run: Runner, tried: Attempts, told: list[Change]
) -> bool:
    """Open one that stands; whether the filter is as wanted now."""
    if not ("filter" in me.laid or is_settled(me)):
        return False
    if is_filter_other(me, want.ruleset, run):
        with tried.step():
            told += open_standing(me.network, run)
        return False
    return not (want.ruleset is None or want.is_wall)  # a wall may be left out after all


def open_standing(network: str, run: Runner) -> list[Change]:
    """Take a kill switch that stands out of its table; what was done. Raises CommandFailed."""
    table = table_name(network)
    there = packet_filter.listing(run, table)
    if not (is_shut_in(there) and is_ours(there)):
        return []
    packet_filter.amend(run, opened(table, there))
    return [Change("surroundings", OPEN)]


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
