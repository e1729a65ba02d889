"""What is built or fetched for tests alone, and kept outside of the clone."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The file or directory `name` of the cache; one that is not there yet is made.

    `make` gets a path beside it to make it at. It is called by one process at a time, and what
    it made is there as a whole or not at all. NMK_TEST_CACHE says where the cache is.
    """
    found = Path(os.environ.get("NMK_TEST_CACHE") or "/var/cache/nmk-tests") / name
    if found.exists():
        return found
    found.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(found.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        if not found.exists():
            with tempfile.TemporaryDirectory(dir=found.parent, prefix=".new-") as scratch:
                made = Path(scratch, found.name)
                make(made)
                made.rename(found)
    finally:
        os.close(handle)
    return found
