"""The admin's commands in this process, against a controller in this process."""

from __future__ import annotations

import io
import sys
from dataclasses import dataclass

import pytest

from nmk.cli.main import run


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str


class Screen(io.StringIO):
    """A terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def nmk(*args: str, stdin: str | None = None, terminal: bool = False) -> Done:
    """Run a command. `terminal`: both outputs are one; `stdin`: what is typed there."""
    out, err = (Screen(), Screen()) if terminal else (io.StringIO(), io.StringIO())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", err)
        if stdin is not None:
            typed = Screen(stdin)
            patch.setattr(sys, "stdin", typed)
        code = run([*args])
    return Done(code, out.getvalue(), err.getvalue())
