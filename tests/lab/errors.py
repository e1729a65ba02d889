"""What the lab raises."""

from __future__ import annotations

from collections.abc import Sequence
from shlex import join


class LabError(Exception):
    """The lab was asked for something it cannot do, or could not be built."""


class CommandFailed(LabError):
    """A command in a host ended with an error, or not in time.

    `returncode` is None when it ran out of time and was killed.
    """

    def __init__(
        self, host: str, command: Sequence[str], returncode: int | None, stdout: str, stderr: str
    ) -> None:
        ending = "ran out of time" if returncode is None else f"ended with {returncode}"
        super().__init__(
            f"{host}$ {join(command)}\n{ending}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
        self.host = host
        self.command = tuple(command)
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr
