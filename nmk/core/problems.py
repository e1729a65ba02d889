"""What could not be done, as a value: made where it was tried, shown and told elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

from nmk.errors import BadInput, NmkError

LONGEST_TEXT = 255
MOST_PROBLEMS = 8


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong: its code, as in docs/errors.md, a message for people, what to do about it."""

    code: str
    message: str
    hint: str = ""


def problem_of(error: NmkError) -> Problem:
    """An error as a value."""
    return Problem(error.code, printable(error.message), printable(error.hint))


def problems_json(problems: Iterable[Problem]) -> list[list[str]]:
    """Problems as they are kept and as they travel: three texts each."""
    return [list(astuple(problem)) for problem in problems]


def parse_problems(data: object) -> tuple[Problem, ...]:
    """Problems again, MOST_PROBLEMS at most. Raises BadInput."""
    if not isinstance(data, list):
        raise BadInput("a list of problems cannot be read")
    return tuple(map(parse_problem, data[:MOST_PROBLEMS]))


def parse_problem(data: object) -> Problem:
    """One of them. Raises BadInput."""
    if not isinstance(data, list) or len(data) != 3:
        raise BadInput("a problem cannot be read")
    if not all(isinstance(text, str) and len(text) <= LONGEST_TEXT for text in data):
        raise BadInput("a problem cannot be read")
    return Problem(*map(printable, data))


def printable(text: str) -> str:
    """The text as one line within its bound, without what a terminal would act on."""
    return "".join(c if c.isprintable() else "?" for c in text[:LONGEST_TEXT])
