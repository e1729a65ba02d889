"""Files in memory for the programs that nmk runs: no disk that may be full, and no key on it.

Not pipes: a program that stays in the background may keep those open. But it keeps these too, and
what it wrote would be memory for as long as it lives; so they are sealed (fcntl(2)).
"""

from __future__ import annotations

import fcntl
import os
from typing import IO

_WHOLE = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def empty() -> IO[bytes]:
    """A file that a program can write into, until it is sealed."""
    return os.fdopen(os.memfd_create("nmk", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "w+b")


def holding(content: bytes) -> IO[bytes]:
    """A file to read from its start; nobody can change it."""
    file = empty()
    file.write(content)
    file.seek(0)  # which writes out what is buffered
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, _WHOLE)
    return file


def seal(file: IO[bytes]) -> None:
    """From now on whoever has it open can write no more into it: EPERM.

    Not before the program has ended: `echo >/dev/stderr` cuts the file off, and writes it anew.
    """
    fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW)
