"""What was changed on this machine, when and why: `nmk log`, one file a network.

Written only where a plan was carried out, as a whole, so that a crash leaves the old file or the
new one. It holds the last entries within a bound, and nothing that is secret. A log that cannot
be written never stops what it tells of.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from nmk.agent.attempts import Attempts
from nmk.agent.membership import Membership
from nmk.agent.places import state_directory
from nmk.core.nesting import read_json
from nmk.core.parse import parse_int
from nmk.core.peers import View
from nmk.core.tunnel import Change
from nmk.errors import BadInput, NmkError
from nmk.files import read_file, temporary_of, write_private
from nmk.system.runner import Runner

MOST_ENTRIES = 100
MOST_BYTES = 64 * 1024
_MOST_READ = 4 * MOST_BYTES
_LATEST = 253_402_300_799  # seconds since 1970, in the year 9999
_MOST = 2**53
MOST_LINES = 20  # of one entry: a thousand peers that come at once need no thousand lines

Cause = Literal[
    "join",
    "check-in",
    "failed-check-in",
    "mended",
    "restore",
    "change",
    "up",
    "down",
    "set",
    "gateway",
    "deleted",
]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why the machine is about to be changed.

    `before`: the view until now, for peers' names; `news`: what has led to it besides, a line each.
    """

    cause: Cause
    before: View | None = None
    news: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """A plan that was carried out.

    `at`: seconds since 1970; `revision`: of the view it followed, 0 without one; `changes`: a line
    each, after what has led to them, `more` the number of those left out; `failed`: the code of
    the error that cut it short; `times`: how often in a row just this was done, the last time at
    `at`.
    """

    at: int
    cause: str
    revision: int
    changes: tuple[str, ...]
    more: int = 0
    failed: str | None = None
    times: int = 1


@contextmanager
def recording(
    me: Membership, reason: Reason, changes: Sequence[Change], run: Runner, tried: Attempts
) -> Iterator[None]:
    """Remember the changes that are made inside, whether they come to their end or not."""
    failed = None
    try:
        yield
        failed = tried.errors[0].code if tried.errors else None
    except NmkError as error:
        failed = error.code  # the message may quote what a command was given
        raise
    finally:
        if changes and not run.dry:
            names = names_of(me, reason)
            lines = (*reason.news, *(describe(c, names) for c in changes[:MOST_LINES]))
            _append(
                me.network,
                Entry(
                    at=int(time.time()),
                    cause=reason.cause,
                    revision=me.known.revision if me.known else 0,
                    changes=lines[:MOST_LINES],
                    more=max(0, len(reason.news) + len(changes) - MOST_LINES),
                    failed=failed,
                ),
            )


def names_of(me: Membership, reason: Reason) -> dict[str, str]:
    """Peers' names by their keys, of those that go as well."""
    views = (reason.before, me.known.view if me.known else None)
    return {p.key: p.name for view in views if view for p in view.others}


def describe(change: Change, names: dict[str, str]) -> str:
    """A change's line, with the peer's name instead of its key."""
    name = names.get(change.subject)
    return change.line.replace(change.subject, name) if name else change.line


def read(network: str) -> list[Entry]:
    """The entries, the oldest first; lines that are damaged are left out."""
    try:
        text = read_file(file_of(network), _MOST_READ).decode(errors="replace")
    except OSError:
        return []
    return [entry for entry in map(parse_entry, text.splitlines()) if entry]


def forget(network: str) -> None:
    """Remove the network's log. Raises OSError."""
    temporary_of(file_of(network)).unlink(missing_ok=True)
    file_of(network).unlink(missing_ok=True)


def file_of(network: str) -> Path:
    """The network's log: a JSON object a line, beside its state."""
    return state_directory() / f"{network}.log"


def bounded(lines: Sequence[str]) -> list[str]:
    """The newest lines, as many as may be kept."""
    kept: list[str] = []
    size = 0
    for line in reversed(lines[-MOST_ENTRIES:]):
        size += len(line.encode()) + 1
        if size > MOST_BYTES:
            break
        kept.append(line)
    return kept[::-1]


def _append(network: str, entry: Entry) -> None:
    before = read(network)
    if before and replace(before[-1], at=entry.at, times=1) == entry:
        entry = replace(entry, times=before.pop().times + 1)
    lines = [json.dumps(asdict(e)) for e in (*before, entry)]
    with suppress(OSError):
        write_private(file_of(network), "".join(f"{x}\n" for x in bounded(lines)).encode())


def parse_entry(line: str) -> Entry | None:
    """An entry of the log, None where the line is none."""
    try:
        data: dict[str, Any] = read_json(line)
        failed = data["failed"]
        return Entry(
            at=parse_int(data["at"], 0, _LATEST, "time"),
            cause=str(data["cause"]),
            revision=parse_int(data["revision"], 0, _MOST, "revision"),
            changes=tuple(map(str, data["changes"])),
            more=parse_int(data["more"], 0, _MOST, "rest"),
            failed=None if failed is None else str(failed),
            times=int(data.get("times", 1)),  # not in files of nmk 0.2.0
        )
    except (BadInput, ValueError, TypeError, KeyError):
        return None
