"""Processes of root's or of others who are believed: nobody else made them look like they do."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from nmk.files import open_regular

PROC = Path("/proc")
_MOST_PROCESSES = 20_000
_MOST_BYTES = 128 * 1024  # of a command line, of an environment


def roots() -> Iterator[Path]:
    """The directories in /proc of root's processes, as `is_roots`; of 20,000 at most."""
    looked = 0
    for process in PROC.glob("[0-9]*"):
        if is_roots(process):
            yield process
            looked += 1
        if looked >= _MOST_PROCESSES:
            return


def is_roots(process: Path) -> bool:
    """Whether it is root's, as `is_of`."""
    return is_of(process, {0})


def is_of(process: Path, users: set[int]) -> bool:
    """Whether one of these users has started it, so that command line and environment are theirs.

    Those of a program that is set-user-ID are chosen by whoever starts it, and its directory in
    /proc is its user's all the same (proc(5)).
    """
    try:
        lines = read(process / "status").splitlines()
        found = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
        mode = (process / "exe").stat().st_mode
    except (OSError, StopIteration):  # it has just ended, or is the kernel's
        return False
    return len(set(found)) == 1 and int(found[0]) in users and not mode & stat.S_ISUID


def words_of(process: Path) -> list[str]:
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
