"""What every error has, and the exit codes."""

from __future__ import annotations

from typing import ClassVar

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TEMPORARY = 75  # sysexits(3) EX_TEMPFAIL: the same command may work later


class NmkError(Exception):
    """Something went wrong that a person or a script can act on."""

    code: ClassVar[str] = "failed"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = EXIT_FAILED
    default_hint: ClassVar[str] = "nmk --help"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.default_hint
