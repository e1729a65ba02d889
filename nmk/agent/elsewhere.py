"""State directories besides the one that this command looks in, as their networks are no leftovers.

A variable that is set in one shell, or one line of a crontab, is not set in the next shell, nor by
sudo. Where the machine's state may be is told by notes in /run, by what starts check-ins here, and
by agents that run: root's own, all of them.

What they name is believed as far as nobody else can have put it there: a state is a file of root's
alone that says whose it is, and no link is followed that others could have laid. A note, or an
agent that runs, keeps its network from being a leftover even where no such state is found.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from shlex import quote, shlex

from nmk.agent import kill_note, state
from nmk.agent.places import CHOICES, DEFAULT_STATE, chosen, runtime_directories, state_directory
from nmk.core.parse import parse_label
from nmk.core.text import parse_json
from nmk.errors import AlreadyJoined, BadInput, NmkError
from nmk.files import is_of_root_alone, open_of_root_alone, read_file, write_private
from nmk.system.foreign import Fault, find_foreign, find_replaceable, follow
from nmk.system.starters import agent_environments, start_lines

_MOST_NOTE = 16 * 1024  # bytes
_MOST_PLACES = 64
_MOST_FILES = 1000  # that are looked at in a directory
_MOST_NETWORKS = 64  # in all of them
_HEAD = 4096  # bytes, in which a state says whose it is
_SHOWN = 4  # in a line
_STATE, _CONFIG, _RUNTIME = CHOICES
_SUFFIX = ".state"
_BEGINNING = re.compile(rb'\{"version": ?\d{1,9}, ?"network": ?"([a-z0-9-]+)", ?"remote_name": ?"')
_ASSIGNED = re.compile(rf"\b({'|'.join(CHOICES)})=(.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Claim:
    """What tells of a place. `network`: the one that is there, where it says so.

    `source`: what it is; `release`: what withdraws it, "" where it need not be true.
    """

    variables: dict[str, str]
    source: str = ""
    release: str = ""
    network: str | None = None


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A network whose state is in another directory.

    `network`: None of an agent that nobody can tell it of; `variables`: what leads a command there;
    `claim`: what tells of it; `missing`: why no state is there, though that was noted, "" where one
    is; `fault`: why others than root can put another in its place.
    """

    network: str | None
    directory: Path
    variables: tuple[tuple[str, str], ...]
    claim: _Claim
    missing: str = ""
    fault: Fault | None = None

    @property
    def name(self) -> str:
        """The network, as a message has it."""
        return self.network or "a network"

    @property
    def where(self) -> str:
        """The directory, and what is wrong with it."""
        if self.missing:
            return f"{self.directory} (so says {self.claim.source}; but {self.missing})"
        return f"{self.directory} ({self.fault.reason})" if self.fault else str(self.directory)

    def by(self, command: str) -> str:
        """The command, so that it looks there; what comes before it, where that is needed."""
        if self.missing:
            there = quote(str(self.directory.parent))
            return f"ls -la {there}, and put its state back there; {self.claim.release}"
        led = " ".join([*(f"{name}={quote(value)}" for name, value in self.variables), command])
        is_own = self.fault and not self.fault.is_above
        return f"{self.fault.mend}; then: {led}" if self.fault and is_own else led


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
    return ", ".join([*(f"{e.name} in {e.where}" for e in found[:_SHOWN]), *more])


def elsewhere() -> list[Elsewhere]:
    """The networks of all state directories that can be found, but for those of the one in use.

    First those whose state is there, then those of which it is only known that it should be, in
    the one in use too.
    """
    return _find(_claims())


def noted() -> list[Elsewhere]:
    """Those of them that notes tell of, or that are where everybody looks: found at once."""
    return _find(_notes())


def _find(claims: Iterator[_Claim]) -> list[Elsewhere]:
    found: dict[tuple[str | None, Path], Elsewhere] = {}
    for claim in (*islice(claims, _MOST_PLACES), _Claim({})):
        for there in _look(claim):
            found.setdefault((there.network, there.directory), there)
    return sorted(found.values(), key=lambda there: bool(there.missing))[:_MOST_NETWORKS]


def check_not_elsewhere(network: str | None = None) -> None:
    """Raises AlreadyJoined where another state directory has that network, or any, or should.

    Not should, where a file is here: that is the state, whatever is wrong with it.
    """
    is_here = network is not None and state.file_of(network).exists()
    for there in elsewhere():
        is_in_use = network and _is_same(there.directory, state_directory())  # a place to join in
        is_none = is_in_use or (is_here and there.missing)
        if there.network and network in {None, there.network} and not is_none:
            hint = there.by("nmk status" if network else f"nmk leave -n {there.network}")
            if network and not there.missing and kill_note.is_left(network):
                left = quote(str(kill_note.file_of(network)))
                hint += f"; then remove what was left here: rm {left}"
            what = f"this machine is in {there.name}, whose state is in {there.where}"
            raise AlreadyJoined(what, hint)


def point_there(error: NmkError, network: str) -> None:
    """Of a network that has a state elsewhere, what cannot be read here names that, and its place.

    What would give it up here would take from it there what it has laid.
    """
    try:
        check_not_elsewhere(network)
    except AlreadyJoined as moved:
        error.message, error.hint = f"{error.message}; {moved.message}", moved.hint


def check_one_directory() -> None:
    """Raises AlreadyJoined where a network has its state elsewhere.

    Networks of one machine must know of each other: their rules stand side by side.
    """
    for there in elsewhere():
        if there.network and not there.missing:
            raise AlreadyJoined(
                f"{there.name} has its state in {there.where}, and a machine has those of all its "
                "networks in one directory",
                there.by("nmk join -"),
            )


def _claims() -> Iterator[_Claim]:
    """All that tell of a place, the notes first."""
    yield from _notes()
    for process, variables in agent_environments():
        values = {n: v for n, v in variables.items() if n in CHOICES}
        source = f"`nmk agent`, process {process}"
        yield _Claim(values, source, f"or end process {process}, then the same again")
    yield from (_Claim(found) for line in start_lines() if (found := _assigned(line)))


def _notes() -> Iterator[_Claim]:
    for directory in runtime_directories():
        for name in _files(directory, _SUFFIX) if _closed(str(directory)) else ():
            with suppress(BadInput):
                network, path = parse_label(name.removesuffix(_SUFFIX)), directory / name
                release = (
                    f"to give {network} up here, remove {path}, "
                    f"then: nmk leave -n {network} --force"
                )
                yield _Claim(_noted(_read(path)), str(path), release, network)


def _look(claim: _Claim) -> Iterator[Elsewhere]:
    """The networks that are where it says, or should be."""
    path = Path(claim.variables.get(_STATE) or DEFAULT_STATE)
    is_in_use = _is_same(path, state_directory())
    if not path.is_absolute() or (is_in_use and claim.network in state.networks()):
        return
    directory, missing = _lead(path)
    if missing:
        if _STATE in claim.variables and claim.release:
            yield Elsewhere(claim.network, path, (), claim, missing)
        return
    if is_in_use and not claim.network:
        return
    fault = None
    with suppress(OSError):
        fault = find_foreign(directory, is_run=False)
    for network in [claim.network] if claim.network else _networks(directory):
        pairs = tuple(_variables(claim, network, directory))
        missing = _why_no_state(directory, network) if claim.network else ""
        yield Elsewhere(network, directory, pairs, claim, missing, fault)


def _lead(path: Path) -> tuple[Path, str]:
    """Where a path leads, and why that is no directory that can be looked in."""
    try:
        directory, fault = follow(path)
        is_none = not fault and not directory.is_dir()
        return directory, fault.reason if fault else f"{directory} is no directory" * is_none
    except (OSError, ValueError) as error:
        return path, f"{path} {_why(error)}"


def _variables(claim: _Claim, network: str, directory: Path) -> Iterator[tuple[str, str]]:
    """What leads a command there; a runtime directory only where nmk itself has noted it in it."""
    yield _STATE, str(directory)
    for name in (_CONFIG, _RUNTIME):
        place = _closed(claim.variables.get(name))
        if place and (name == _CONFIG or _is_noted(network, directory, place)):
            yield name, str(place)


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


def _closed(path: str | None) -> Path | None:
    """The directory where it is there and nobody but root can say what is in it."""
    with suppress(OSError, ValueError):
        if path and Path(path).is_absolute() and not find_replaceable(Path(path)):
            directory = follow(Path(path))[0]
            return directory if directory.is_dir() else None
    return None


def _networks(directory: Path) -> list[str]:
    found = []
    for name in _files(directory, ".json"):
        with suppress(BadInput):
            network = parse_label(name.removesuffix(".json"))
            if not _why_no_state(directory, network):
                found.append(network)
    return found


def _why_no_state(directory: Path, network: str) -> str:
    """Why its file there is no state of the network's that root has written; "" where it is."""
    path = directory / f"{network}.json"
    try:
        if not _is_own_file(path):
            return f"{path} is not a file of root's alone"
        with open_of_root_alone(path) as file:
            found = _BEGINNING.match(file.read(_HEAD))
            is_state = found and found[1].decode() == network
            return "" if is_state else f"{path} is no state of {network}"
    except OSError as error:
        return f"{path} {_why(error)}"


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return "is not there"
    return f"cannot be looked at: {getattr(error, 'strerror', None) or error}"


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
    """Whether nobody but root has written it, nor given it its name. Raises OSError."""
    return is_of_root_alone(path.lstat())


def _is_noted(network: str, state: Path, runtime: Path) -> bool:
    """Whether nmk itself has noted in a runtime directory that the network's state is there."""
    path = runtime / f"{network}{_SUFFIX}"
    with suppress(OSError):
        return _is_own_file(path) and _noted(_read(path)).get(_STATE) == str(state)
    return False


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # ValueError: a NUL
        return one == other.absolute()


def _read(path: Path) -> str:
    try:
        return read_file(path, _MOST_NOTE).decode(errors="replace")
    except OSError:
        return ""
