"""Clocks and meters of other processes (proc(5), clock_gettime(2))."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

_CPUCLOCK_SCHED = 2


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all its threads', in user and kernel, to the nanosecond."""
    return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)  # as clock_getcpuclockid(3) makes it


def resident_bytes(pid: int) -> int:
    """Memory of a process that is in RAM now."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(kilobytes) * 1024


def cpu_of(pid: int, work: Callable[[], object]) -> float:
    """CPU seconds that a process spends while `work` runs, in this process."""
    before = cpu_seconds(pid)
    work()
    return cpu_seconds(pid) - before


def own_cpu_of(work: Callable[[], object]) -> float:
    """CPU seconds of this thread for `work`."""
    before = time.thread_time()
    work()
    return time.thread_time() - before


class Series:
    """Samples by side, taken in turns, so that whatever else the machine does hits all alike."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}

    def add(self, side: str, sample: float) -> None:
        """One sample of one side."""
        self._samples.setdefault(side, []).append(sample)

    def median(self, side: str) -> float:
        """The side's median."""
        return median(self._samples[side])

    def ratio(self, side: str, other: str) -> float:
        """One side's median by the other's."""
        return self.median(side) / self.median(other)
