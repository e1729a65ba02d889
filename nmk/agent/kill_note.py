"""Whether a kill switch was wanted last, in a file of its own: one that is read where no state is.

`NETWORK.kill-switch`, beside the state. What of a damaged state can still be read decides only
where there is no such file, as nmk before 0.3.0 wrote none.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nmk.agent.membership import Membership
from nmk.agent.places import state_directory
from nmk.agent.settings import route_wishes
from nmk.errors import BadInput, StateUnwritable
from nmk.files import open_of_root_alone, open_regular, read_whole, temporary_of, write_private

SUFFIX = ".kill-switch"
_ON, _OFF = b"on\n", b"off\n"


def noted(network: str, directory: Path | None = None) -> bool | None:
    """Whether one was wanted; None where that was never noted.

    A file that holds anything but `off`, or cannot be read, says that one was. `directory`: where
    its state is, if elsewhere; there one that is not root's alone says so too.
    """
    path = file_of(network, directory)
    try:
        with open_of_root_alone(path) if directory else open_regular(path) as file:
            return read_whole(file, len(_OFF)) != _OFF
    except FileNotFoundError:
        return None
    except OSError:
        return True


def is_left(network: str) -> bool:
    """Whether there is one, and no state beside it."""
    path = file_of(network)
    return path.exists() and not path.with_suffix(".json").exists()


def wanted(me: Membership) -> bool | None:
    """Whether the owner wants one shut; None before the machine is in, or where nobody can tell."""
    with suppress(BadInput):
        wishes = route_wishes(me)
        shut = wishes.kill_switch and wishes.exit_node is not None
        return None if me.phase == "joining" else shut
    return None


def follow(me: Membership) -> None:
    """Note what the membership wants, as far as that can be told. Raises StateUnwritable."""
    if (shut := wanted(me)) is not None:
        note(me.network, on=shut)


def note(network: str, on: bool) -> None:
    """Note it, unless that is so. Raises StateUnwritable."""
    path = file_of(network)
    if noted(network) is not on:
        with _failures(path):
            _make_way(path)
            write_private(path, _ON if on else _OFF)


def forget(network: str) -> None:
    """Remove the note. Raises StateUnwritable."""
    path = file_of(network)
    with _failures(path):
        temporary_of(path).unlink(missing_ok=True)
        _make_way(path)
        path.unlink(missing_ok=True)


def file_of(network: str, directory: Path | None = None) -> Path:
    """The note's file."""
    return beside((directory or state_directory()) / f"{network}.json")


def beside(state: Path) -> Path:
    """The note of the network that has its state in that file."""
    return state.with_suffix(SUFFIX)


def _make_way(path: Path) -> None:
    """A directory is none of ours: an empty one goes, of another the failure tells."""
    if path.is_dir() and not path.is_symlink():
        path.rmdir()


@contextmanager
def _failures(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        hint = f"move it away: mv {path} /root/" if path.is_dir() else None
        raise StateUnwritable(f"{path} cannot be written: {error.strerror}", hint) from None
