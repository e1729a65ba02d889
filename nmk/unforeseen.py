"""Errors that no code of ours has foreseen, as ours: so that each ends no more than it concerns."""

from __future__ import annotations

import errno
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nmk.archive import start_again
from nmk.core.parse import brief, quote
from nmk.errors import FileUnusable, InternalError, MachineUnfit, NmkError

_OF_FILES = {
    *(errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ESTALE, errno.ENOLCK),
}


@contextmanager
def as_ours() -> Iterator[None]:
    """Raises NmkError in the place of anything else; where NMK_DEBUG is set, shows that as well."""
    try:
        yield
    except NmkError:
        raise
    except Exception as error:
        if os.environ.get("NMK_DEBUG"):
            traceback.print_exception(error, file=sys.stderr)
        raise ours(error) from error


def ours(error: BaseException) -> NmkError:
    """What the machine lacks or which file fails, where that can be told; else a mistake of nmk.

    Does not return where what the zipapp unpacked is damaged and can be unpacked anew.
    """
    try:
        start_again(error)
    except Exception as found:  # noqa: BLE001 - its class is the bootstrap's, not imported here
        message, hint, _ = found.args
        return MachineUnfit(message, hint)
    return _unfit(error) or _unusable(error) or InternalError(f"internal error: {brief(error)}")


def _unfit(error: BaseException) -> MachineUnfit | None:
    if isinstance(error, MemoryError) or _number(error) == errno.ENOMEM:
        return MachineUnfit("no memory is left")
    if _number(error) in {errno.EMFILE, errno.ENFILE}:
        return MachineUnfit("no more files can be opened")
    if isinstance(error, RuntimeError) and "start new thread" in str(error):
        return MachineUnfit("no more threads can be started")
    if isinstance(error, OverflowError):
        try:
            time.time()
        except OverflowError:
            return MachineUnfit("the clock is beyond the year 2262", "set the clock: date -s")
    return None


def _number(error: BaseException) -> int | None:
    return error.errno if isinstance(error, OSError) else None


def _unusable(error: BaseException) -> FileUnusable | None:
    """The file that an error of the operating system is about, where a disk or its owner says no.

    What can be told better is told where it happens; this is for what may happen anywhere.
    """
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_nowhere():
        return FileUnusable(
            "the directory that this was started in is gone, and a path is relative to it",
            "cd /, and begin the paths in variables and options with a /",
        )
    if not isinstance(error, OSError) or error.errno not in _OF_FILES:
        return None
    what = quote(os.fsdecode(error.filename)) if error.filename else "a file"
    return FileUnusable(f"{what} cannot be used: {error.strerror}")


def _is_nowhere() -> bool:
    """Whether this process's working directory was removed."""
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False
