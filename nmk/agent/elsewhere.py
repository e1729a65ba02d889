"""State directories besides the one that this command looks in, as their networks are no leftovers.

A variable that is set in one shell, or one line of a crontab, is not set in the next shell, nor by
sudo. Where the machine's state may be is told by notes in /run, by what starts check-ins here, and
by agents that run.

All of these are root's, and so is each directory that they lead to, and all above it: no other user
of the machine keeps root from a command, or leads it anywhere.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote, shlex

from nmk.agent.places import CHOICES, DEFAULT_STATE, chosen, runtime_directories, state_directory
from nmk.agent.state import is_others
from nmk.core.parse import parse_label
from nmk.core.text import parse_json
from nmk.errors import AlreadyJoined, BadInput
from nmk.files import read_file, write_private
from nmk.system.script import find_foreign
from nmk.system.starters import agent_environments, start_lines

_MOST_NOTE = 16 * 1024  # bytes
_MOST_PLACES = 64
_MOST_FILES = 1000  # that are looked at in a directory
_MOST_NETWORKS = 64  # in all of them
_SHOWN = 4  # in a line
_STATE, _CONFIG, _RUNTIME = CHOICES
_SUFFIX = ".state"
_ASSIGNED = re.compile(rf"\b({'|'.join(CHOICES)})=(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A network whose state is in another directory. `variables`: what leads a command there."""

    network: str
    directory: Path
    variables: tuple[tuple[str, str], ...]

    def by(self, command: str) -> str:
        """The command, so that it looks there."""
        return " ".join([*(f"{name}={quote(value)}" for name, value in self.variables), command])


def note(network: str) -> None:
    """Note where the network's state is, if its owner has chosen the place.

    In /run/nmk, where everybody looks, whatever runtime directory was chosen; and in that.
    """
    if state_directory() == DEFAULT_STATE:
        return  # where everybody looks
    text = json.dumps(chosen())
    for directory in runtime_directories():
        path = directory / f"{network}{_SUFFIX}"
        with suppress(OSError):
            if not path.exists() or _read(path) != text:
                directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(path, text.encode())


def told(found: Sequence[Elsewhere]) -> str:
    """The networks and where they are, the first of them."""
    more = [f"{len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return ", ".join([*(f"{e.network} in {e.directory}" for e in found[:_SHOWN]), *more])


def elsewhere() -> list[Elsewhere]:
    """The networks of all state directories that can be found, but for the one in use."""
    found: dict[Path, Elsewhere] = {}
    for variables in (*islice(_places(), _MOST_PLACES), {}):
        led = {_STATE: str(DEFAULT_STATE), **variables}
        named = {name: at for name in CHOICES if (at := _own(led.get(name)))}
        directory = named.get(_STATE)
        if directory is None or _is_same(directory, state_directory()):
            continue
        for network in _networks(directory):
            pairs = tuple(
                (name, str(place))
                for name, place in named.items()
                if name != _RUNTIME or _is_noted(network, directory, place)
            )
            found.setdefault(directory / network, Elsewhere(network, directory, pairs))
    return list(islice(found.values(), _MOST_NETWORKS))


def check_not_elsewhere(network: str | None = None) -> None:
    """Raises AlreadyJoined where another state directory has that network, or any."""
    for there in elsewhere():
        if network in {None, there.network}:
            raise AlreadyJoined(
                f"this machine is in {there.network}, whose state is in {there.directory}",
                there.by("nmk status" if network else f"nmk leave -n {there.network}"),
            )


def _places() -> Iterator[dict[str, str]]:
    for directory in runtime_directories():
        if _own(str(directory)):
            for name in _files(directory, _SUFFIX):
                yield _noted(_read(directory / name))
    yield from (found for line in start_lines() if (found := _assigned(line)))
    yield from ({n: v for n, v in e.items() if n in CHOICES} for e in agent_environments())


def _noted(text: str) -> dict[str, str]:
    """What a note says; nothing where it is none."""
    with suppress(BadInput):
        said = parse_json(text.encode(), "the note")
        if isinstance(said, dict):
            return {n: v for n, v in said.items() if n in CHOICES and isinstance(v, str)}
    return {}


def _assigned(line: str) -> dict[str, str]:
    """What a line sets, of a shell, a crontab or a unit."""
    words = shlex(line, posix=True, punctuation_chars=";&|")
    words.whitespace_split, words.commenters = True, ""
    with suppress(ValueError):  # a quote without its other one
        return {m[1]: m[2] for word in words if (m := _ASSIGNED.search(word))}
    return {}


def _own(path: str | None) -> Path | None:
    """The directory where it is there and root's, and nobody else can write there."""
    with suppress(OSError, ValueError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
        if path and Path(path).is_absolute():
            directory = Path(path).resolve(strict=True)
            if directory.is_dir() and not find_foreign(directory, is_in_share=True):
                return directory
    return None


def _networks(directory: Path) -> list[str]:
    found = []
    for name in _files(directory, ".json"):
        with suppress(BadInput):
            network = parse_label(name.removesuffix(".json"))
            if not is_others(directory / name):
                found.append(network)
    return found


def _files(directory: Path, suffix: str) -> list[str]:
    """Root's own among the files there, those of a thousand at most."""
    with suppress(OSError), os.scandir(directory) as entries:
        return sorted(
            entry.name
            for entry in islice(entries, _MOST_FILES)
            if entry.name.endswith(suffix) and _is_own_file(Path(entry.path))
        )
    return []


def _is_own_file(path: Path) -> bool:
    with suppress(OSError):
        info = path.lstat()
        return info.st_uid == 0 and stat.S_ISREG(info.st_mode)
    return False


def _is_noted(network: str, state: Path, runtime: Path) -> bool:
    """Whether nmk itself has noted in a runtime directory that the network's state is there."""
    path = runtime / f"{network}{_SUFFIX}"
    noted = _noted(_read(path)).get(_STATE) if _is_own_file(path) else None
    return _own(noted) == state


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return one == other.absolute()


def _read(path: Path) -> str:
    try:
        return read_file(path, _MOST_NOTE).decode(errors="replace")
    except OSError:
        return ""
