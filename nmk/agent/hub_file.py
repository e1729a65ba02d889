"""The file of a WireGuard hub of this machine: read before the hub is taken over, renamed after."""

from __future__ import annotations

import os
import re
import shlex
import stat
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from nmk.core.parse import quote
from nmk.core.quick import MOST_BYTES
from nmk.core.sections import WRONG_FILE
from nmk.errors import BadInput
from nmk.files import read_file

SUFFIX = ".taken-over"
_NAME = re.compile(  # wg-quick(8), and what `put_aside` makes of it
    rf"([A-Za-z0-9_=+.-]{{1,15}})\.conf({re.escape(SUFFIX)}(?:\.[0-9]+)?)?", re.ASCII
)


@dataclass(frozen=True, slots=True)
class HubFile:
    """The file, the interface that it is named for, and whether it was put aside before."""

    path: Path
    interface: str
    aside: bool


def parse_hub_file(text: str) -> HubFile:
    """A file that is named as wg-quick(8) wants it, whatever is there. Raises BadInput."""
    path = Path(text)
    found = _NAME.fullmatch(path.name)
    if not found:
        likely = path.with_suffix(".conf") if path.name else None
        raise BadInput(
            f"{quote(path)} is no hub's file: those are named INTERFACE.conf",
            _import(likely) if likely and os.access(likely, os.R_OK) else WRONG_FILE,
        )
    return HubFile(path, found[1], bool(found[2]))


def read_hub_file(file: HubFile) -> bytes:
    """What it holds, and a byte more than it may hold where it is too long.

    Raises BadInput where it cannot be read, or could not be renamed afterwards.
    """
    path = file.path
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            regular = stat.S_ISREG(os.fstat(handle).st_mode)
            raw = _read(handle, MOST_BYTES + 1) if regular else b""
        finally:
            os.close(handle)
    except OSError as error:
        raise _unreadable(path, error) from None
    if not regular:
        raise BadInput(f"{quote(path)} is no regular file", WRONG_FILE)
    if not file.aside and not os.access(path.parent, os.W_OK):
        copy = Path("/root", path.name)
        raise BadInput(
            f"{quote(path)} is where nothing can be renamed, and would start the hub again",
            f"cp {shlex.quote(str(path))} {copy}; {_import(copy)}",
        )
    return raw


def put_aside(path: Path) -> Path:
    """Rename the file, so that nothing starts the hub again; its new path. Raises OSError.

    One that was put aside before stays, unless it is the same: it may have the only copy of a key.
    """
    first = path.with_name(path.name + SUFFIX)
    numbered = (first.with_name(f"{first.name}.{n}") for n in count(2))
    kept = next(p for p in chain([first], numbered) if not os.path.lexists(p) or _are_same(p, path))
    path.replace(kept)
    return kept


def _are_same(one: Path, other: Path) -> bool:
    try:
        return read_file(one, MOST_BYTES) == read_file(other, MOST_BYTES)
    except OSError:
        return False


def _read(handle: int, most: int) -> bytes:
    found = b""
    while len(found) < most and (more := os.read(handle, most - len(found))):
        found += more
    return found


def _unreadable(path: Path, error: OSError) -> BadInput:
    aside = path.with_name(path.name + SUFFIX)
    if isinstance(error, FileNotFoundError) and aside.is_file():
        return BadInput(f"{quote(path)} was taken over before: it is {aside.name}", _import(aside))
    hint = f"ls -l {shlex.quote(str(path.absolute().parent))}"
    return BadInput(f"{quote(path)} cannot be read: {error.strerror}", hint)


def _import(path: Path) -> str:
    return f"nmk extclient import {shlex.quote(str(path))}"
