"""How the check-ins of a machine go: a value that the machine keeps, shows and tells."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nmk.core.nesting import read_json
from nmk.core.problems import (
    MOST_PROBLEMS,
    Problem,
    parse_problem,
    parse_problems,
    problems_json,
)
from nmk.errors import BadInput

LONGEST_TOLD = 4096  # bytes; a check-in has room for 16 KiB
_HIGHEST = 2**53


@dataclass(frozen=True, slots=True)
class Failure:
    """What was wrong with the last check-in, and since when, and how often in a row, one failed."""

    problem: Problem
    since: int
    count: int = 1


@dataclass(frozen=True, slots=True)
class CheckInHealth:
    """How check-ins go. Times are seconds since 1970, by the machine's clock.

    `worked`: when one last did all that it shall, None where that is not known. `failure`: what
    went wrong since, None where nothing did. `revision`: the one that the machine follows, of the
    network's; 0 for none. `problems`: what of that could not be applied, MOST_PROBLEMS at most.
    """

    worked: int | None = None
    failure: Failure | None = None
    revision: int = 0
    problems: tuple[Problem, ...] = ()

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to say."""
        return self.failure is None and not self.problems


UNKNOWN = CheckInHealth()


def after_success(now: float, revision: int, problems: Sequence[Problem]) -> CheckInHealth:
    """The health after a check-in that was answered, taken in and applied, but for `problems`."""
    return CheckInHealth(int(now), None, revision, tuple(problems[:MOST_PROBLEMS]))


def after_failure(before: CheckInHealth, now: float, problem: Problem) -> CheckInHealth:
    """The health after a check-in that failed; the machine follows what it followed before."""
    row = before.failure
    failure = Failure(problem, row.since, row.count + 1) if row else Failure(problem, int(now))
    return replace(before, failure=failure)


def is_other_kind(one: CheckInHealth, other: CheckInHealth) -> bool:
    """Whether more than times and counts differ: worth a line in a log, and the disk."""

    def kind(health: CheckInHealth) -> tuple[object, ...]:
        failed = health.failure.problem.code if health.failure else None
        return failed, health.revision, health.problems

    return kind(one) != kind(other)


def tell_health(health: CheckInHealth, now: float) -> str:
    """What a check-in says of itself, "" where all is well: times as seconds before `now`."""
    if health.is_well:
        return ""
    if health.worked is not None and health.worked > now:  # the clock was put back
        health = replace(health, worked=None)
    told = _moved(health, lambda at: max(0, int(now) - at))
    problems = told.problems
    while True:
        text = json.dumps(
            health_json(replace(told, problems=problems)),
            separators=(",", ":"),
            ensure_ascii=False,
        )
        if len(text.encode(errors="replace")) <= LONGEST_TOLD:
            return text
        problems = problems[:-1]


def hear_health(text: str, now: float) -> CheckInHealth:
    """What a check-in that came at `now` said, "" for all is well. Raises BadInput."""
    if not text:
        return UNKNOWN
    try:
        told = parse_health(read_json(text))
    except ValueError:
        raise BadInput("what a check-in says of itself is no JSON") from None
    return _moved(told, lambda age: max(0, int(now) - age))


def health_json(health: CheckInHealth) -> dict[str, Any]:
    """The value as it travels and as it is kept."""
    failure = health.failure
    return {
        "worked": health.worked,
        "failure": failure and [*problems_json([failure.problem]), failure.since, failure.count],
        "revision": health.revision,
        "problems": problems_json(health.problems),
    }


def parse_health(data: object) -> CheckInHealth:
    """The value again. Raises BadInput."""
    try:
        worked, failure, revision, problems = (
            data[k]  # type: ignore[index]  # what is no dict is refused below
            for k in ("worked", "failure", "revision", "problems")
        )
        found = None
        if failure is not None:
            problem, since, count = failure
            found = Failure(parse_problem(problem), _number(since), _number(count))
        return CheckInHealth(
            worked=None if worked is None else _number(worked),
            failure=found,
            revision=_number(revision),
            problems=parse_problems(problems),
        )
    except (KeyError, TypeError, ValueError):
        raise BadInput("how check-ins go cannot be read") from None


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _HIGHEST:
        raise ValueError
    return value


def _moved(health: CheckInHealth, move: Callable[[int], int]) -> CheckInHealth:
    failure = health.failure
    return replace(
        health,
        worked=None if health.worked is None else move(health.worked),
        failure=failure and replace(failure, since=move(failure.since)),
    )
