"""Programs of the machine's owner, which nmk runs as root: which may be, and within what bounds."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from nmk.errors import CommandFailed
from nmk.system.runner import environment

MOST_OUTPUT = 64 * 1024  # bytes
_POLL = 0.05  # seconds between two looks at the clock

Say = Callable[[str], None]


class TimeIsUp(CommandFailed):
    """A program that was ended because it took too long, or printed too much."""


def find_fault(program: Path) -> str | None:
    """Why root must not run a program; None where it may.

    It and every directory above it must be root's, and writable by nobody else: whoever can put
    another file in its place can be root.
    """
    for path in (program, *program.parents):
        info = path.lstat()
        if stat.S_ISLNK(info.st_mode):
            return f"{path} is a symbolic link"
        if info.st_uid != 0:
            return f"{path} does not belong to root"
        if info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{path} can be written by others than root"
    mode = program.lstat().st_mode
    if not stat.S_ISREG(mode):
        return f"{program} is no file"
    return None if mode & stat.S_IXUSR else f"{program} is not executable"


def run_script(program: Path, variables: Mapping[str, str], seconds: float, say: Say) -> None:
    """Run it, and say what it prints, line by line, when it has ended.

    What it leaves running goes on.

    Raises CommandFailed; TimeIsUp after `seconds` or too much output, with all of it killed.
    """
    # Not a pipe: what it leaves running may keep that open.
    with os.fdopen(os.memfd_create("nmk"), "w+b") as output:
        try:
            _run(program, {**environment(), **variables}, seconds, output)
        finally:
            output.seek(0)
            for line in output.read(MOST_OUTPUT).decode(errors="replace").splitlines():
                say(line)


def _run(program: Path, variables: Mapping[str, str], seconds: float, output: IO[bytes]) -> None:
    try:
        process = subprocess.Popen(
            [str(program)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=variables,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise CommandFailed(f"it cannot be run: {error.strerror}") from None
    try:
        returncode = _watch(process, time.monotonic() + seconds, output)
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if returncode != 0:
        raise CommandFailed(f"it ended with {returncode}")


def _watch(process: subprocess.Popen[bytes], deadline: float, output: IO[bytes]) -> int:
    """The exit status. Raises TimeIsUp."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.wait(_POLL)
        if time.monotonic() >= deadline:
            raise TimeIsUp("it took too long and was killed")
        if os.fstat(output.fileno()).st_size > MOST_OUTPUT:
            raise TimeIsUp(f"it printed more than {MOST_OUTPUT} bytes and was killed")
