"""Stops a command by SIGKILL at one system call after the other.

strace(1) injects the signal as the command enters a call, so that call does not happen and those
before it have. The programs that the command runs are not traced: they outlive it, as they would
when the machine kills it for want of memory.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.lab import Host

EFFECTS = (
    *("write", "pwrite64", "writev", "pwritev", "ftruncate", "fsync", "fdatasync", "sync"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "unlink", "unlinkat"),
    *("mkdir", "mkdirat", "rmdir", "connect", "sendto", "sendmsg"),
    *("vfork", "fork", "clone", "clone3", "wait4"),
)
"""The calls that are counted: those that change something outside the process, and the wait for
a program that it runs."""

_ASKS_KERNEL = "nlmsg"  # netlink's questions after the machine's addresses; they change nothing


@dataclass(frozen=True, slots=True)
class Point:
    """A moment of a run: just before its `number`th call of that name."""

    name: str
    number: int
    line: str


@dataclass(frozen=True, slots=True)
class Subject:
    """A command to stop on a host, how to get ready for it, and what must hold afterwards.

    `prepare` gives what the command reads on standard input. `check` is told the same; it runs
    the command again where that is what its owner would do.
    """

    host: Host
    command: Sequence[str]
    prepare: Callable[[], str]
    check: Callable[[str], None]

    def sweep(self, *, full: bool) -> int:
        """Stop it at every point, or at some of them; how often that was."""
        given = self.prepare()
        points = self.points(given)
        self.check(given)
        stopped = 0
        for point in points if full else some_of(points):
            given = self.prepare()
            stopped += self.kill_at(point, given)
            try:
                self.check(given)
            except Exception as error:
                raise AssertionError(f"stopped before {point.line}\n{error}") from error
        return stopped

    def points(self, given: str) -> list[Point]:
        """Run it to its end: the points that it passed."""
        log = "/run/trace"
        self._run("-o", log, given=given, must_work=True)
        return list(parse_trace(self.host.read(log)))

    def kill_at(self, point: Point, given: str) -> bool:
        """Run it until it comes to that point; whether it did."""
        inject = f"inject={point.name}:signal=KILL:when={point.number}"
        return self._run("-o", "/dev/null", "-e", inject, given=given) == -signal.SIGKILL

    def _run(self, *options: str, given: str, must_work: bool = False) -> int:
        traced = ["-e", f"trace={','.join(EFFECTS)}", "-e", "signal=none", *options]
        python = ["/usr/bin/python3", "/usr/local/bin/nmk"]  # not by way of `env`: its calls count
        done = self.host.run(
            "strace", "-qq", *traced, *python, *self.command, input=given, check=must_work
        )
        return done.returncode


def parse_trace(text: str) -> Iterator[Point]:
    """The points in what strace writes."""
    met: Counter[str] = Counter()
    for line in text.splitlines():
        name, call, _ = line.partition("(")
        if call and name.isidentifier():
            met[name] += 1
            yield Point(name, met[name], line)


def some_of(points: Sequence[Point], most: int = 4) -> Sequence[Point]:
    """Some of the points where something is about to change, evenly spread."""
    telling = [p for p in points if _ASKS_KERNEL not in p.line]
    stride = -(-len(telling) // most)
    return telling[stride // 2 :: stride]
