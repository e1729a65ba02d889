"""Two runs of nmk never change one machine at the same time."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmk.errors import Locked, NotJoined


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the state directory's lock, or raise Locked at once; NotJoined where there is none.

    The lock is on the directory itself, so no file is left; the kernel drops it with the process.
    """
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise NotJoined(f"there is no state in {directory}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            current = os.path.samestat(os.fstat(handle), directory.stat())
        except (BlockingIOError, FileNotFoundError):
            current = False
        if not current:  # held, or removed by another run since we opened it
            raise Locked(f"another run of nmk is at work in {directory}")
        yield
    finally:
        os.close(handle)
