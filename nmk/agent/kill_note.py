"""Whether a kill switch was wanted last, in a file of its own: one that is read where no state is.

`NETWORK.kill-switch`, beside the state. What of a damaged state can still be read decides only
where there is no such file, as nmk before 0.3.0 wrote none.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nmk.agent.membership import Membership
from nmk.agent.places import state_directory
from nmk.agent.settings import route_wishes
from nmk.errors import BadInput
from nmk.files import read_file, temporary_of, write_private

_ON, _OFF = b"on\n", b"off\n"


def noted(network: str) -> bool | None:
    """Whether one was wanted; None where that was never noted.

    A file that holds anything but `off`, or cannot be read, says that one was.
    """
    try:
        return read_file(_file_of(network), len(_OFF)) != _OFF
    except FileNotFoundError:
        return None
    except OSError:
        return True


def wanted(me: Membership) -> bool | None:
    """Whether the owner wants one shut; None before the machine is in, or where nobody can tell."""
    with suppress(BadInput):
        wishes = route_wishes(me)
        shut = wishes.kill_switch and wishes.exit_node is not None
        return None if me.phase == "joining" else shut
    return None


def note(network: str, on: bool) -> None:
    """Note it, unless that is so. Raises OSError."""
    if noted(network) is not on:
        write_private(_file_of(network), _ON if on else _OFF)


def forget(network: str) -> None:
    """Remove the note. Raises OSError."""
    path = _file_of(network)
    temporary_of(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _file_of(network: str) -> Path:
    return state_directory() / f"{network}.kill-switch"
