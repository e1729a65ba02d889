"""Programs of the machine's owner, which nmk runs as root: which may be, and within what bounds."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO

from nmk.errors import CommandFailed
from nmk.files import open_regular
from nmk.system import scratch
from nmk.system.foreign import Fault, find_foreign
from nmk.system.runner import environment

MOST_OUTPUT = 64 * 1024  # bytes
_MOST_HEAD = 256  # bytes that Linux looks at for the interpreter (BINPRM_BUF_SIZE)
_POLL = 0.05  # seconds between two looks at the clock

Say = Callable[[str], None]


class TimeIsUp(CommandFailed):
    """A program that was ended because it took too long, or printed too much."""


def find_fault(program: Path) -> Fault | None:
    """Why root must not run a program; None where it may. Raises OSError."""
    if fault := find_foreign(program):
        return fault
    mode, named = program.lstat().st_mode, shlex.quote(str(program))
    if not stat.S_ISREG(mode):
        return Fault(f"{program} is no file", "put a program in its place")
    if not mode & stat.S_IXUSR:
        return Fault(f"{program} is not executable", f"chmod u+x {named}")
    return None


def find_start_fault(program: Path) -> Fault | None:
    """Why the kernel would not start a program (execve(2)); None where it would, or may.

    Raises OSError.
    """
    with open_regular(program) as file:
        head = file.read(_MOST_HEAD)
    if head.startswith(b"\x7fELF"):
        return None
    if not head.startswith(b"#!"):
        reason = f"{program} is no program: its first line does not begin with #!"
        return Fault(reason, "let its first line be #!/bin/sh, or what else runs it")
    words = os.fsdecode(head[2:].partition(b"\n")[0]).strip(" \t").split(maxsplit=1)
    interpreter = words[0] if words else ""
    if head.partition(b"\n")[0].endswith(b"\r"):
        return Fault(f"{program} has lines that end in CR LF", "let its lines end in LF alone")
    if not Path(interpreter).is_file():
        mend = "name an interpreter that is on this machine, such as #!/bin/sh"
        return Fault(f"{program} wants {interpreter or 'nothing'}, which is not there", mend)
    return None


def run_script(program: Path, variables: Mapping[str, str], seconds: float, say: Say) -> None:
    """Run it, and say what it prints, line by line, when it has ended.

    What it leaves running goes on, and can print no more.

    Raises CommandFailed; TimeIsUp after `seconds` or too much output, with its process group
    killed.
    """
    with scratch.empty() as output:
        try:
            _run(program, {**environment(), **variables}, seconds, output)
        finally:
            scratch.seal(output)
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
