"""How check-ins go, from one to the next.

Kept where nothing outlives a reboot, and in the state file when more has changed than a time: a
check-in without news writes to no disk, and a disk that takes nothing shows all the same.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nmk.agent import state
from nmk.agent.membership import Membership
from nmk.agent.places import make_runtime_directory, runtime_directory
from nmk.core.amounts import age_of
from nmk.core.check_in_health import (
    UNKNOWN,
    CheckInHealth,
    after_failure,
    after_success,
    health_json,
    is_other_kind,
    parse_health,
    tell_health,
)
from nmk.core.nesting import read_json
from nmk.core.problems import Problem
from nmk.errors import (
    BadInput,
    BadReply,
    RateLimited,
    StateDamaged,
    StateUnwritable,
    StoreUnavailable,
    Unreachable,
    Unreadable,
)
from nmk.files import read_file, write_private

_MOST_BYTES = 64 * 1024
_OF_THE_WAY = {e.code for e in (Unreachable, BadReply, RateLimited, Unreadable, StoreUnavailable)}


def load(network: str, me: Membership | None) -> CheckInHealth:
    """How check-ins go. `me`: the state, None where it cannot be read."""
    found = _read(network)
    if found is None:
        found = me.health if me else UNKNOWN
        if found.failure is None:
            found = replace(found, worked=None)  # since then there were others
    return replace(found, problems=me.problems) if me else found


def worked(me: Membership) -> Membership:
    """Note that a check-in has done all that it shall; the membership, to be saved if it changed.

    Hold the lock.
    """
    revision = me.known.revision if me.known else 0
    health = after_success(time.time(), revision, me.problems)
    _write(me.network, health)
    return replace(me, health=health) if is_other_kind(health, me.health) else me


def failed(network: str, problem: Problem) -> None:
    """Note that one failed. Hold the lock."""
    me = None
    with suppress(StateDamaged):
        me = state.find(network)
        if me is None:
            return  # it was left meanwhile
    health = after_failure(load(network, me), time.time(), problem)
    _write(network, health)
    if me and is_other_kind(health, me.health):
        with suppress(StateUnwritable):
            state.save(replace(me, health=health))


def kept_out(network: str, problem: Problem) -> None:
    """Note that none can begin, as another run holds the lock; the state file is that one's."""
    with suppress(StateDamaged):
        _write(network, after_failure(load(network, state.find(network)), time.time(), problem))


def told(me: Membership, now: float) -> str:
    """What a check-in says of those before it, as in `wire.messages`.

    That the controller was not reached, or did not answer, is over when this one arrives.
    """
    health = load(me.network, me)
    if health.failure and health.failure.problem.code in _OF_THE_WAY:
        health = replace(health, failure=None)
    return tell_health(health, now)


def age(network: str, me: Membership | None, now: float) -> int | None:
    """Seconds since one worked, negative where the clock was put back; None: not known."""
    at = load(network, me).worked
    return None if at is None else age_of(at, now)


def _write(network: str, health: CheckInHealth) -> None:
    with suppress(OSError):
        make_runtime_directory()
        write_private(_file(network), json.dumps(health_json(health)).encode())


def _read(network: str) -> CheckInHealth | None:
    try:
        return parse_health(read_json(read_file(_file(network), _MOST_BYTES)))
    except (OSError, ValueError, BadInput):
        return None


def _file(network: str) -> Path:
    return runtime_directory() / f"{network}.health"
