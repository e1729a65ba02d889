"""Running commands inside namespaces."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

from .errors import CommandFailed
from .polling import patient, poll

PATIENCE_SECONDS = patient(10)

# All that a command in a host sees; nothing of the caller's environment leaks in.
ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
}


def enter(pid: int, *namespaces: str) -> list[str]:
    """The words before a command that make it run in the namespaces of `pid`."""
    return ["nsenter", f"--target={pid}", *(f"--{name}" for name in namespaces), "--"]


def run(
    host: str,
    inside: Sequence[str],
    command: Sequence[str],
    *,
    check: bool,
    stdin: str | None,
    env: Mapping[str, str] | None,
    timeout: float,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Raises CommandFailed as `Host.run` says."""
    # Files instead of pipes: a daemon that the command leaves behind may keep its output open,
    # and the end of a pipe would then never come.
    with TemporaryFile() as typed, TemporaryFile() as stdout, TemporaryFile() as stderr:
        typed.write((stdin or "").encode())
        typed.seek(0)
        process = _spawn(inside, command, typed, stdout, stderr, env)
        returncode: int | None
        try:
            returncode = process.wait(timeout)
        except subprocess.TimeoutExpired:
            returncode = None
        finally:
            _signal(process, signal.SIGKILL)
            process.wait()
        out, err = _text(stdout), _text(stderr)
    if returncode is None or (check and returncode):
        raise CommandFailed(host, command, returncode, out, err)
    return subprocess.CompletedProcess(list(command), returncode, out, err)


class Process:
    """A command that runs in the background of a host; its output goes to the file `log`."""

    def __init__(
        self,
        host: str,
        inside: Sequence[str],
        command: Sequence[str],
        env: Mapping[str, str] | None,
        log: Path,
    ) -> None:
        self.host = host
        self.command = tuple(command)
        self.log = log
        with log.open("wb") as output:
            self._process = _spawn(inside, command, subprocess.DEVNULL, output, output, env)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What it has written so far, to stdout and stderr."""
        return self.log.read_text("utf-8", "replace")

    def terminate(self) -> None:
        """Ask it to end, by SIGTERM."""
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it, by SIGKILL."""
        self.signal(signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; nothing happens when it has ended."""
        _signal(self._process, number)

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Its exit status (negative: the signal). Raises CommandFailed after `timeout` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CommandFailed(self.host, self.command, None, self.output, "") from None

    def wait_for(self, text: str, seconds: float = 10) -> None:
        """Wait, as `poll` does, until its output contains `text`.

        Raises CommandFailed if it ends before.
        """

        def seen() -> bool:
            ended = not self.running
            if text in self.output:
                return True
            if ended:
                raise CommandFailed(self.host, self.command, self.wait(), self.output, "")
            return False

        poll(seen, seconds, f"{text!r} in the output of {self.command[0]} on {self.host}")


def _spawn(
    inside: Sequence[str],
    command: Sequence[str],
    stdin: IO[bytes] | int,
    stdout: IO[bytes],
    stderr: IO[bytes],
    env: Mapping[str, str] | None,
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*inside, *command],
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env={**ENVIRONMENT, **(env or {})},
        start_new_session=True,
    )


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to the command that a process of ours runs in a host.

    That process is nsenter, which has forked to enter the PID namespace and ends as the command
    does. It must live to reap the command: nobody else would, and the host could not end.
    """
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        with suppress(FileNotFoundError, ProcessLookupError):
            for pid in children.read_text().split():
                os.kill(int(pid), number)
                return


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode("utf-8", "replace")
