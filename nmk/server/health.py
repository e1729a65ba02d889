"""How the check-ins of a node go, as the admin API tells it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from nmk.core.check_in_health import UNKNOWN, hear_health
from nmk.core.problems import Problem
from nmk.errors import BadInput
from nmk.server.log import iso_time
from nmk.server.presence import Presence

_HINT = "nmk doctor"  # on the machine
_NONSENSE = Problem("bad-input", "what it says of its check-ins makes no sense", "")


def check_in_json(presence: Presence, identity: str, newest: int) -> dict[str, Any]:
    """What a node said with its last check-in. `newest`: the network's revision.

    `revision`: the one that it follows, None before its first check-in in this controller's life;
    `worked`: when one last worked, where the last one did not; `failure`: what went wrong since;
    `problems`: what of the revision could not be applied.
    """
    at, text = presence.health(identity) or (0.0, "")
    try:
        health = hear_health(text, at)
        failure, problems = health.failure, health.problems
    except BadInput:
        health, failure, problems = UNKNOWN, None, (_NONSENSE,)
    return {
        "revision": health.revision or presence.revision(identity),
        "newest": newest,
        "worked": iso_time(health.worked),
        "failure": failure
        and {
            **_problem_json(failure.problem),
            "since": iso_time(failure.since),
            "count": failure.count,
        },
        "problems": [_problem_json(problem) for problem in problems],
    }


def _problem_json(problem: Problem) -> dict[str, str]:
    """What a machine said is wrong, with our hint: it says nothing that an admin should run."""
    return asdict(problem) | {"hint": _HINT}
