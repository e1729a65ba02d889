"""How the check-ins of a node go, as the admin API tells it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from nmk.core.check_in_health import UNKNOWN, hear_health
from nmk.core.problems import Problem
from nmk.errors import BadInput
from nmk.server.log import iso_time
from nmk.server.presence import Presence

LISTED = 1024  # bytes of JSON that a list has of what one node says is wrong
_LEAST = 200  # bytes in which a problem is worth telling
_LONGEST_CODE = 64  # bytes of JSON
_HINT = "nmk doctor"  # on the machine
_NONSENSE = Problem("bad-input", "what it says of its check-ins makes no sense", "")


def check_in_json(
    presence: Presence, identity: str, newest: int, most: int | None = None
) -> dict[str, Any]:
    """What a node said with its last check-in. `newest`: the network's revision.

    `most`: the bytes of JSON that problems may have in it, all of them where it is None; `more`
    counts those for which there was no room.

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
    said = [*([failure.problem] if failure else []), *problems]
    shown = list(map(_problem_json, said if most is None else _within(said, most)))
    return {
        "revision": health.revision or presence.revision(identity),
        "newest": newest,
        "worked": iso_time(health.worked),
        "failure": failure
        and {
            **shown[0],
            "since": iso_time(failure.since),
            "count": failure.count,
        },
        "problems": shown[1:] if failure else shown,
        "more": len(said) - len(shown),
    }


def _within(problems: Sequence[Problem], room: int) -> list[Problem]:
    """The first of them that have room, the message of the last one cut short."""
    found: list[Problem] = []
    for problem in problems:
        if room < _LEAST:
            break
        code = _cut(problem.code, _LONGEST_CODE)
        one = replace(problem, code=code)
        frame = _size(_problem_json(replace(one, message="")))
        one = replace(one, message=_cut(one.message, room - frame))
        room -= _size(_problem_json(one))
        found.append(one)
    return found


def _cut(text: str, room: int) -> str:
    """The text, or its beginning, in so many bytes of JSON."""
    if _size(text) <= room:
        return text
    while _size(f"{text}...") > room:
        text = text[: len(text) * 9 // 10]
    return f"{text}..."


def _size(value: object) -> int:
    return len(json.dumps(value))


def _problem_json(problem: Problem) -> dict[str, str]:
    """What a machine said is wrong, with our hint: it says nothing that an admin should run."""
    return asdict(problem) | {"hint": _HINT}
