"""Servers that the tests start: they and their files end with the test, however it ends."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.lab.polling import patient

# Reads until the last process that holds the pipe has ended, and may then remove the files.
JANITOR = 'cat; rm -rf -- "$1"'

# The kernel does not tell of a parent that died before it was asked to.
START = '[ "$PPID" = "$0" ] && exec "$@"'


class Nest:
    """A directory and the processes that live in it."""

    def __init__(self, directory: Path, pipe: int, user: str | None) -> None:
        self.directory = directory
        self._pipe = pipe
        self._user = user
        self._children: list[tuple[subprocess.Popen[bytes], signal.Signals]] = []

    def start(
        self, name: str, command: Sequence[str], end: signal.Signals = signal.SIGKILL
    ) -> subprocess.Popen[bytes]:
        """Start a server whose output goes to `name`.log.

        `end` is the signal that ends it, sent by the kernel when the thread that called this is
        no more.
        """
        tied = ["setpriv", f"--pdeathsig={end.name}", *self._as_user(), "--"]
        tied += ["sh", "-c", START, str(os.getpid())]
        with (self.directory / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*tied, *command],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._pipe],
                start_new_session=True,
            )
        self._children.append((child, end))
        return child

    def run(self, command: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        """Run a command to its end. Raises RuntimeError with what it said when it fails."""
        done = subprocess.run(
            ["setpriv", *self._as_user(), "--", *command],
            cwd=self.directory,
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}: {done.stdout}{done.stderr}")

    def log(self, name: str) -> str:
        """What a server has said."""
        return (self.directory / f"{name}.log").read_text("utf-8", "replace")

    def end_all(self) -> None:
        """End all servers."""
        for child, end in self._children:
            child.send_signal(end)
        for child, _ in self._children:
            try:
                child.wait(patient(10))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    def _as_user(self) -> list[str]:
        if self._user is None:
            return []
        entry = pwd.getpwnam(self._user)
        return [f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


@contextmanager
def nest(name: str, *, rootless: bool = False) -> Iterator[Nest]:
    """A nest; in a rootless one nothing runs as root."""
    user = _somebody() if rootless and os.geteuid() == 0 else None
    directory = Path(tempfile.mkdtemp(prefix=f"nmk-{name}-"))
    if user:
        shutil.chown(directory, user)
    held, pipe = os.pipe()
    janitor = subprocess.Popen(
        ["sh", "-c", JANITOR, "janitor", str(directory)],
        stdin=held,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(held)
    made = Nest(directory, pipe, user)
    try:
        yield made
    finally:
        made.end_all()
        os.close(pipe)
        janitor.wait()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody has at the moment."""
    with_ports = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in with_ports]
    for s in with_ports:
        s.close()
    return ports


def _somebody() -> str:
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
