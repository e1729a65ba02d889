"""When a check-in under cron speaks: only when a person is needed, and once.

What is temporary may pass by itself, so the first failures of it are silent, of whatever kind they
are; a trouble that a person must mend is told at once. Either is told one time, until it is over or
another one comes.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from nmk.agent.places import make_runtime_directory, runtime_directory
from nmk.core.nesting import read_json
from nmk.errors import EXIT_TEMPORARY, CheckInUnderWay, NmkError
from nmk.files import read_file, write_private

_MOST_BYTES = 4096  # of what is noted
SILENT_RUNS = 10  # failures of a temporary kind in a row; the next one is told


def speaks(network: str, error: NmkError) -> bool:
    """Whether this failure of a network's check-in is to be told; remembers that it was.

    A check-in that was left to another run is counted apart: that one counts what becomes of it.
    """
    temporary = error.exit_code == EXIT_TEMPORARY
    trouble = "temporary" if temporary else error.code
    is_left = isinstance(error, CheckInUnderWay)
    file = _left_file(network) if is_left else _file(network)
    before, count = _read(file)
    count = count + 1 if before == trouble else 1
    try:
        if not is_left:
            _left_file(network).unlink(missing_ok=True)
        make_runtime_directory()
        write_private(file, json.dumps([trouble, count]).encode())
    except OSError:
        return True  # a machine that cannot write needs a person
    return count == (SILENT_RUNS + 1 if temporary else 1)


def over(network: str) -> None:
    """The network's check-in has worked, or the network is left."""
    for file in (_file(network), _left_file(network)):
        with suppress(OSError):  # most often there is nothing to forget
            file.unlink()
            runtime_directory().rmdir()


def _read(file: Path) -> tuple[str, int]:
    try:
        code, count = read_json(read_file(file, _MOST_BYTES))
        return str(code), int(count)
    except (OSError, ValueError, TypeError, OverflowError):
        return "", 0


def _file(network: str) -> Path:
    return runtime_directory() / f"{network}.trouble"


def _left_file(network: str) -> Path:
    return runtime_directory() / f"{network}.left"
