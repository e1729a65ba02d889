"""Clocks and meters of other processes, and medians of what they show."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

T = TypeVar("T")
_CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds that some work took: of CPU, and on the clock."""

    cpu: float
    wall: float


def spend(pid: int, work: Callable[[], T]) -> tuple[T, Spent]:
    """What `work` gives, and what another process spent while it ran."""
    cpu, wall = cpu_seconds(pid), time.perf_counter()
    done = work()
    wall = time.perf_counter() - wall
    return done, Spent(cpu_seconds(pid) - cpu, wall)


def own_cpu(work: Callable[[], object]) -> float:
    """CPU seconds of this thread for `work`."""
    before = time.thread_time()
    work()
    return time.thread_time() - before


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all its threads', in user and kernel, in nanoseconds' steps."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)  # as clock_getcpuclockid(3) makes it


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM now (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kilobytes) * 1024


class Series:
    """Samples of several sides, one of each a round.

    A ratio is taken within a round, so that whatever else the machine does hits both sides of it.
    """

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}

    def add(self, side: str, sample: float) -> None:
        """This round's sample of one side."""
        self._samples.setdefault(side, []).append(sample)

    def median(self, side: str) -> float:
        """The side's median."""
        return median(self._samples[side])

    def ratio(self, side: str, other: str) -> float:
        """The median of one side divided by the other."""
        pairs = zip(self._samples[side], self._samples[other], strict=True)
        return median(one / two for one, two in pairs)
