"""Files: secrets and state are written whole or not at all, settings are read as TOML."""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from nmk.core.nesting import check_nesting
from nmk.errors import BadInput

Keep = Callable[[bytes], None]
MOST_SETTINGS = 256 * 1024  # bytes of a settings file


def read_toml(path: Path) -> dict[str, Any]:
    """A settings file's content; empty where there is no file. Raises BadInput that names it."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        content: dict[str, Any] = tomllib.loads(read_file(path, MOST_SETTINGS).decode())
        check_nesting(content)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise BadInput(
            f"{path} cannot be read: {error.strerror}", "make it readable, or move it away"
        ) from None
    except (ValueError, RecursionError) as error:
        line = re.search(r"\(at line (\d+),", str(error))
        where = f"line {line[1]} of {path}" if line else str(path)
        raise BadInput(f"{path} is not valid TOML: {error}", f"correct {where}") from None
    return content


@contextmanager
def open_regular(path: Path, flags: int = 0) -> Iterator[IO[bytes]]:
    """A regular file, open to be read. Raises OSError, also of a device, a pipe, a directory.

    `flags`: more of those of open(2).
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | flags)
    with os.fdopen(handle, "rb", closefd=True) as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        yield file


@contextmanager
def open_of_root_alone(path: Path) -> Iterator[IO[bytes]]:
    """As `open_regular`, and nobody but root can have written it, or given it its name.

    Raises OSError, also of any other, and of a link to one.
    """
    with open_regular(path, os.O_NOFOLLOW) as file:
        if not is_of_root_alone(os.fstat(file.fileno())):
            raise PermissionError(errno.EPERM, "it is not a file of root's alone", str(path))
        yield file


def is_of_root_alone(info: os.stat_result) -> bool:
    """Whether a regular file is root's, with one name, and nobody else can write it."""
    is_roots = info.st_uid == 0 and not info.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return is_roots and stat.S_ISREG(info.st_mode) and info.st_nlink == 1


def read_whole(file: IO[bytes], most: int) -> bytes:
    """What is left of a file. Raises OSError where that has more bytes than `most`."""
    raw = file.read(most + 1)
    if len(raw) > most:
        raise OSError(errno.EFBIG, f"it has more than {most} bytes")
    return raw


def read_file(path: Path, most: int) -> bytes:
    """The whole of a regular file, as `open_regular` and `read_whole`. Raises OSError."""
    with open_regular(path) as file:
        return read_whole(file, most)


def temporary_of(path: Path) -> Path:
    """Where a file is written before it takes its name: always the same, so none add up."""
    return path.with_name(f".{path.name}.tmp")


def write_private(path: Path, data: bytes) -> None:
    """Replace the file by one that only its owner can read. As `write_file`."""
    write_file(path, data, 0o600)


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Replace the file by one with this content and mode; survives a crash at any point.

    One writer at a time, which the caller sees to. Raises OSError.
    """
    with draft(path, mode) as keep:
        keep(data)


def sync_directory(path: Path) -> None:
    """See to it that names in it survive a crash (fsync(2)). Raises OSError."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


@contextmanager
def draft(path: Path, mode: int) -> Iterator[Keep]:
    """A file that is going to be: open beside its place, gone at the end unless it was kept.

    So there can be no doubt that it can be made, before anybody has relied on it. What is yielded
    gives it its content and puts it in its place: fsync, rename, fsync of the directory, so that
    after a crash there is the old file or the new one (rename(2)). Both raise OSError.
    """
    temporary = temporary_of(path)
    temporary.unlink(missing_ok=True)  # of a run that was cut short, or laid there by somebody
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    file = os.fdopen(handle, "wb")

    def keep(data: bytes) -> None:
        with file:
            os.fchmod(handle, mode)
            file.write(data)
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
        sync_directory(path.parent)

    try:
        yield keep
    finally:
        file.close()
        temporary.unlink(missing_ok=True)  # where it was not kept
