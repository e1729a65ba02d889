"""Locks on files that nobody but their owner can open: flock(2), gone with their process."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from nmk.processes import PROC, is_of, read, words_of
from nmk.tools import nmk_command

_LOOK = 0.05  # seconds between two attempts
_OTHERS = 0o077


def open_lock(path: Path) -> int:
    """A descriptor of the lock file, made where it is absent; closing it gives the lock back.

    Whoever can open a file can lock it, so a file that others can open is closed to them. Raises
    OSError, for whatever else is at the path too.
    """
    handle = _opened(path, os.O_CREAT)
    if os.fstat(handle).st_mode & _OTHERS:
        os.fchmod(handle, 0o600)
    return handle


def _opened(path: Path, flags: int = 0) -> int:
    """A descriptor of a regular file; a FIFO would be waited for (fifo(7))."""
    flags |= os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    handle = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, f"{path} is no regular file")
    return handle


def take(handle: int, seconds: float = 0.0) -> bool:
    """Take the lock; False where another process still has it after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_LOOK)
        else:
            return True


def is_at(handle: int, path: Path) -> bool:
    """Whether the file that is open is the one at the path: another process may remove it."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except OSError:
        return False


@contextmanager
def passing_lock(path: Path, seconds: float) -> Iterator[None]:
    """Hold a lock whose file is there only as long as somebody holds it. Raises OSError."""
    deadline = time.monotonic() + seconds
    handle = open_lock(path)
    try:
        while not take(handle, deadline - time.monotonic()) or not is_at(handle, path):
            if time.monotonic() >= deadline:
                raise TimeoutError(errno.ETIMEDOUT, f"{path} is locked{holder(handle) or ''}")
            os.close(handle)
            handle = open_lock(path)
        try:
            yield
        finally:
            with suppress(OSError):  # one that stays is taken as well by the next one
                path.unlink()
    finally:
        os.close(handle)


def line_up(path: Path) -> tuple[int | None, int]:
    """A place at the end of a line: descriptors of the one before, if there is one, and of ours.

    `take` of the one before waits for it; closing ours, or the end of this process, lets the next
    one go. One process at a time lines up, which the caller sees to. Raises OSError.
    """
    before = None
    with suppress(FileNotFoundError):
        before = _opened(path)
    path.unlink(missing_ok=True)
    mine = open_lock(path)
    take(mine)
    return before, mine


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a lock. `name`: "nmk down", or its program; "" where it is not known."""

    process: int
    name: str
    is_stopped: bool

    def __str__(self) -> str:
        """As the end of a sentence: " (nmk down, process 123)"."""
        parts = [self.name, f"process {self.process}", "stopped" if self.is_stopped else ""]
        return f" ({', '.join(filter(None, parts))})"

    @property
    def hint(self) -> str:
        """What a person can do; a run of nmk that is killed is made good by the next one."""
        if self.is_stopped:
            return f"kill -CONT {self.process} lets it go on, kill -KILL {self.process} ends it"
        return f"wait for the other run to end; if it does not: kill -KILL {self.process}"


def holder(handle: int) -> Holder | None:
    """Who has the lock, if that can be told.

    /proc/locks names devices by numbers that are not stat's on some filesystems, so the inode has
    to do: another file's may be the same, such as that of the unpacked build, which this process
    shares with others, or one that some user has made for it. So it is a process of root's, of this
    user's or of the file's owner. It has no word of processes in other containers.
    """
    status = os.fstat(handle)
    inode, users = f":{status.st_ino}", {0, os.geteuid(), status.st_uid}
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return None
    for words in map(str.split, lines):  # 1: FLOCK ADVISORY WRITE 123 fe:00:4711 0 EOF
        if len(words) < 6 or (words[1], words[3]) != ("FLOCK", "WRITE") or words[4] <= "0":
            continue
        if words[5].endswith(inode) and is_of(PROC / words[4], users):
            return Holder(int(words[4]), _name(words[4]), _is_stopped(words[4]))
    return None


def holder_of(path: Path) -> Holder | None:
    """The same of the lock at a path, which may be a directory. Takes nothing, makes nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        return holder(handle)
    finally:
        os.close(handle)


def held_by(path: Path) -> str | None:
    """Who has the lock at a path, as the end of a sentence; None where nobody has it.

    "" where the system does not tell who. Makes nothing.
    """
    try:
        handle = _opened(path)
    except OSError:
        return None
    try:
        return None if take(handle) else str(holder(handle) or "")
    finally:
        os.close(handle)


def _name(process: str) -> str:
    """What the process is: the command of nmk, without its arguments, else the program's name."""
    try:
        words = words_of(PROC / process)
        name = read(PROC / process / "comm").strip()
    except OSError:
        return ""  # hidden, or gone
    if command := nmk_command(words):
        name = f"nmk {command}"
    return "".join(c if c.isprintable() else "?" for c in name)


def _is_stopped(process: str) -> bool:
    """Whether a signal or a tracer has stopped it (proc_pid_stat(5))."""
    try:
        status = read(PROC / process / "stat")
    except OSError:
        return False
    return status.rpartition(")")[2].split()[:1] in (["T"], ["t"])
