"""What others than root could have put in a place: whoever chooses what root uses can be root."""

from __future__ import annotations

import errno
import grp
import os
import shlex
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_MOST_LINKS = 40  # as Linux follows (path_resolution(7))


class Fault(NamedTuple):
    """What others than root can do, and what mends that."""

    reason: str
    mend: str
    is_above: bool = False  # of a directory above the one that was asked about, which others use


def find_foreign(path: Path, *, is_run: bool = True) -> Fault | None:
    """Why others than root can say what is there; None where they cannot. Raises OSError.

    It and every directory above it must be root's, and writable by nobody else. Where root runs it,
    that is all; else a group root of nobody else may write, and a directory above may be sticky, so
    that nobody moves what is root's in it (inode(7)).
    """

    def fault(place: Path, what: str, mend: str) -> Fault:
        if is_run or place == path:
            return Fault(f"{place} {what}", mend)
        moved = f"keep it where only root can write: stop nmk, then move {shlex.quote(str(path))}"
        return Fault(f"{place} {what}", moved, is_above=True)

    for place in (path, *path.parents):
        info, named = place.lstat(), shlex.quote(str(place))
        if stat.S_ISLNK(info.st_mode):
            return Fault(f"{place} is a symbolic link", "put in its place what it leads to")
        if info.st_uid != 0:
            mend = f"where it has what you want root to use: chown root {named}"
            return fault(place, "does not belong to root", mend)
        others = stat.S_IWOTH
        if is_run or info.st_gid != 0 or _has_others() or _has_acl(place):
            others |= stat.S_IWGRP
        is_kept = not is_run and place != path and info.st_mode & stat.S_ISVTX
        if info.st_mode & others and not is_kept:
            return fault(place, "can be written by others than root", f"chmod go-w {named}")
    return None


def find_replaceable(path: Path) -> Fault | None:
    """Why others than root can put another directory in the place of one that root uses.

    Raises OSError.
    """
    place, fault = follow(path)
    return fault or find_foreign(place, is_run=False)


def follow(path: Path) -> tuple[Path, Fault | None]:
    """Where an absolute path leads, and the first link on its way that others could have laid.

    Nothing behind such a link is looked at. Raises OSError.
    """
    at, links = Path("/"), 0
    ahead = list(reversed(path.parts[1:]))
    while ahead:
        name = ahead.pop()
        step = at.parent if name == ".." else at / name
        if name == ".." or not stat.S_ISLNK(step.lstat().st_mode):
            at = step
            continue
        if find_foreign(at, is_run=False):
            reason = f"{step} is a symbolic link that others than root can have laid"
            return step, Fault(reason, "put in its place what it leads to")
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
        target = step.readlink()
        at = Path("/") if target.is_absolute() else at
        ahead += reversed(target.parts[target.is_absolute() :])
    return at, None


def _has_others() -> bool:
    """Whether the group root has members beside root."""
    with suppress(KeyError):
        return bool(set(grp.getgrgid(0).gr_mem) - {"root"})
    return False


def _has_acl(path: Path) -> bool:
    """Whether its group's bits are those of an access list, for users of any name (acl(5))."""
    with suppress(OSError):
        return bool(os.getxattr(path, "system.posix_acl_access"))
    return False
