"""State directories besides the one that this command looks in, as their networks are no leftovers.

A variable that is set in one shell, or one line of a crontab, is not set in the next shell, nor by
sudo. Where the machine's state may be is told by notes in /run, by what starts check-ins here, and
by agents that run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from nmk.agent.places import CHOICES, DEFAULT_STATE, chosen, runtime_directories, state_directory
from nmk.core.parse import parse_label
from nmk.errors import AlreadyJoined, BadInput
from nmk.files import read_file, write_private
from nmk.system.starters import agent_environments, start_lines

_MOST_NOTE = 16 * 1024  # bytes
_SUFFIX = ".state"
_ASSIGNED = re.compile(rf"\b({'|'.join(CHOICES)})=(\"[^\"]*\"|'[^']*'|[^\s\"';]+)")


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
    """Note in /run where the network's state is, if its owner has chosen the place."""
    if state_directory() == DEFAULT_STATE:
        return  # where everybody looks
    text = "".join(f"{name}={quote(value)}\n" for name, value in chosen().items())
    path = runtime_directories()[0] / f"{network}{_SUFFIX}"
    with suppress(OSError):
        if not path.exists() or _read(path) != text:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(path, text.encode())


def elsewhere() -> list[Elsewhere]:
    """The networks of all state directories that can be found, but for the one in use."""
    found: dict[Path, Elsewhere] = {}
    for variables in _places():
        directory = Path(variables.get(CHOICES[0], str(DEFAULT_STATE)))
        if not directory.is_absolute() or _is_same(directory, state_directory()):
            continue
        pairs = tuple(variables.items()) or ((CHOICES[0], str(directory)),)
        for network in _networks(directory):
            found.setdefault(directory / network, Elsewhere(network, directory, pairs))
    return list(found.values())


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
        for path in sorted(directory.glob(f"*{_SUFFIX}")):
            yield _assigned(_read(path))
    yield from map(_assigned, start_lines())
    yield from ({n: v for n, v in e.items() if n in CHOICES} for e in agent_environments())
    yield {}


def _assigned(text: str) -> dict[str, str]:
    return {name: value.strip("\"'") for name, value in _ASSIGNED.findall(text)}


def _networks(directory: Path) -> list[str]:
    found = []
    with suppress(OSError):
        for path in sorted(directory.glob("*.json")):
            with suppress(BadInput):
                found.append(parse_label(path.stem))
    return found


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
