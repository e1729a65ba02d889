"""Namespaces that cannot outlive the process that wanted them."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError

# The janitor must outlive the lab's process, so it is a process of its own.
JANITOR = 'cat; rm -rf -- "$1"'


class Lifeline:
    """Two pipes that tie the lab's processes and files to this process, however it ends.

    Every holder of namespaces reads the first pipe and ends when it ends: at `cut`, or when
    this process dies, be it by SIGKILL. Every holder keeps the second pipe open; when that one
    ends, no holder is left, and the janitor removes the lab's directory. The kernel closes
    pipes, so there is no signal handler, no race, and one way to clean up for all endings.
    """

    def __init__(self, directory: Path) -> None:
        self._life, self._life_end = os.pipe()
        held, self._held_end = os.pipe()
        self._holders: list[Holder] = []
        self._janitor = subprocess.Popen(
            ["sh", "-c", JANITOR, "janitor", str(directory)],
            stdin=held,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(held)
        self._whole = True

    def hold(self, namespaces: Sequence[str], script: str, *arguments: str) -> Holder:
        """Make namespaces, named by options of unshare(1), and prepare them by a shell script.

        Raises LabError with the script's talk when it fails.
        """
        process = subprocess.Popen(
            ["unshare", *namespaces, "sh", "-euc", HOLD.format(script=script), "sh", *arguments],
            stdin=self._life,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[self._held_end],
            start_new_session=True,
            text=True,
        )
        assert process.stdout
        assert process.stderr
        with process.stdout, process.stderr:
            pid = process.stdout.readline()
            if not pid:
                talk = process.stderr.read()
                process.wait()
                raise LabError(f"cannot make namespaces: {talk.strip()}")
        holder = Holder(process, int(pid))
        self._holders.append(holder)
        return holder

    def cut(self) -> None:
        """End all holders, and wait until they and the directory are gone. Repeat-safe."""
        if not self._whole:
            return
        self._whole = False
        for fd in (self._life, self._life_end, self._held_end):
            os.close(fd)
        for holder in self._holders:
            holder.wait()
        self._janitor.wait()


class Holder:
    """A process that keeps namespaces alive by reading the lifeline."""

    def __init__(self, process: subprocess.Popen[str], pid: int) -> None:
        self._process = process
        self.pid = pid

    def kill(self) -> None:
        """End the namespaces, and all processes in them when they include a PID namespace."""
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        """Wait until the holder, and all that it held, has ended."""
        self._process.wait()


# /proc/self/stat is read before any new /proc is mounted: it holds the number that the process
# has outside. With SIGCHLD ignored, the kernel itself reaps the orphans that `cat` gets as the
# first process of a PID namespace.
HOLD = """\
read -r pid _ </proc/self/stat
{script}
echo "$pid"
exec env --ignore-signal=CHLD cat >/dev/null 2>&1
"""
