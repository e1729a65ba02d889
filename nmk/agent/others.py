"""All other networks of this machine, whoever has their states: what each of them goes by.

Those in another state directory, and those whose state is damaged, have interfaces, ranges and
rules all the same. What their owners want only the notes of their kill switches tell: settings may
be elsewhere, too.
"""

from __future__ import annotations

import time
from contextlib import suppress
from math import inf
from pathlib import Path

from nmk.agent import kill_note, state
from nmk.agent.elsewhere import noted
from nmk.agent.heads import field_of, head_of, interfaces_in, marked
from nmk.agent.membership import Membership
from nmk.core.route_table import is_order
from nmk.errors import StateDamaged
from nmk.system import wireguard
from nmk.system.runner import Runner

_LIMIT = 1.0  # seconds that `wg` is waited for; another program's WireGuard may hang
_STILL_TRUE = 5.0  # seconds that what it said is taken to be so
_marked: dict[frozenset[str], tuple[float, set[str]]] = {}  # by what was known, and when

Place = tuple[str, Path | None]  # a network, and the directory of its state, if elsewhere


def others_of(network: str) -> list[Membership]:
    """Those whose state can be read, in this directory or in another one."""
    found = state.others(network)
    names = {network, *state.networks()}
    for name, directory in _elsewhere(names):
        with suppress(OSError, StateDamaged):
            if directory:
                found.append(state.read(directory / f"{name}.json", name))
    return found


def untold_of(network: str) -> list[Place]:
    """Those of which nobody can tell here what they want."""
    told = {network, *(other.network for other in state.others(network))}
    here = state.networks()
    damaged: list[Place] = [(name, None) for name in here if name not in told]
    return [*damaged, *_elsewhere({network, *here})]


def interfaces_of(me: Membership) -> set[str]:
    """Their interfaces, and whatever carries our mark: of networks that nothing tells of, too.

    Of a damaged one its own interface, or the usual name where that is free.
    """
    run = Runner(limit=_LIMIT)
    found = {other.interface for other in others_of(me.network)}
    untold = untold_of(me.network)
    for name, directory in untold:
        found |= interfaces_in(head_of(name, directory), name, run)
    if untold or wireguard.is_there_other({me.interface, *found}):
        found |= _marked_beside(frozenset({me.interface, *found}), run)
    return found - {me.interface}


def _marked_beside(known: frozenset[str], run: Runner) -> set[str]:
    at, found = _marked.get(known, (-inf, set[str]()))
    if time.monotonic() - at > _STILL_TRUE:
        found = marked(run, known)
        _marked.clear()
        _marked[known] = time.monotonic(), found
    return found


def places_of(network: str) -> dict[str, int]:
    """Their places, as far as these can be told."""
    found = {other.network: other.order for other in others_of(network)}
    for name, directory in untold_of(network):
        order = field_of(head_of(name, directory), "order")
        if is_order(order):
            found.setdefault(name, order)
    return found


def is_any_noted_shut(network: str) -> bool:
    """Whether a kill switch is noted as wanted, of one of which nothing else tells."""
    return any(kill_note.noted(name, directory) for name, directory in untold_of(network))


def _elsewhere(here: set[str]) -> list[Place]:
    """Of one that is only noted, and is not there, the name is all that is believed."""
    there = [e for e in noted() if e.network and e.network not in here]
    return [(str(e.network), None if e.missing else e.directory) for e in there]
