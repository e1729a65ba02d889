"""Processes of root's, which nobody else has made look like this or that."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from nmk.files import open_regular

_PROC = Path("/proc")
_MOST_PROCESSES = 20_000
_MOST_BYTES = 128 * 1024  # of a command line, of an environment


def roots() -> Iterator[Path]:
    """The directories in /proc of root's processes, as `is_roots`; of 20,000 at most."""
    looked = 0
    for process in _PROC.glob("[0-9]*"):
        if is_roots(process):
            yield process
            looked += 1
        if looked >= _MOST_PROCESSES:
            return


def is_roots(process: Path) -> bool:
    """Whether root has started a process, so that its command line and environment are root's.

    Those of a program that is set-user-ID are chosen by whoever starts it, and its directory in
    /proc is root's all the same (proc(5)).
    """
    try:
        lines = read(process / "status").splitlines()
        users = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
        mode = (process / "exe").stat().st_mode
    except (OSError, StopIteration):  # it has just ended, or is the kernel's
        return False
    return set(users) == {"0"} and not mode & stat.S_ISUID


def words(process: Path) -> list[str]:
    """Its command line. Raises OSError."""
    return read(process / "cmdline").rstrip("\0").split("\0")


def variables(process: Path) -> dict[str, str]:
    """Those that it has been started with. Raises OSError."""
    pairs = read(process / "environ").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)


def read(path: Path) -> str:
    """The beginning of a file there. Raises OSError."""
    with open_regular(path) as file:
        return file.read(_MOST_BYTES).decode(errors="replace")
