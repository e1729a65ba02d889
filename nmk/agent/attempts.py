"""Steps that do not need one another: where one fails, the others are taken all the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from nmk.core.problems import Problem, problem_of
from nmk.errors import CommandFailed, NmkError, NoteUnwritable, StateUnwritable, ToolMissing


class Attempts:
    """What could not be done, in the order in which it was tried."""

    def __init__(self) -> None:
        self.errors: list[NmkError] = []

    @contextmanager
    def step(self) -> Iterator[None]:
        """Note what fails inside, a command or to write the state, and go on."""
        try:
            yield
        except (CommandFailed, StateUnwritable, ToolMissing) as error:
            self.errors.append(error)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The same as values, each once."""
        return tuple(dict.fromkeys(map(problem_of, self.errors)))

    def complain(self) -> None:
        """Raise the first of them, if there is one, but for a note that could not be written."""
        for error in self.errors:
            if not isinstance(error, NoteUnwritable):
                raise error
