"""The controller of this machine, if one is there: where its data is, and whether it runs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nmk.agent.places import config_directory, state_directory
from nmk.errors import NmkError
from nmk.files import read_toml
from nmk.locks import held_by
from nmk.processes import PROC, is_of, variables, words_of
from nmk.tools import nmk_command

DATA_DIR = Path("/var/lib/nmk/server")


def data_directory() -> Path:
    """Where the controller of this host keeps its data: as `nmk server` finds it, less the flag.

    NMK_DATA_DIR, else what /etc/nmk/server.toml says as far as it can be read, else the default.
    """
    chosen: object = os.environ.get("NMK_DATA_DIR")
    if not chosen:
        with suppress(NmkError):  # which `nmk server` tells
            chosen = read_toml(config_directory() / "server.toml").get("data-dir")
    return Path(chosen).absolute() if chosen and isinstance(chosen, str) else DATA_DIR


def has_key(directory: Path, name: str = "controller.key") -> bool:
    """Whether a controller has its data there, as far as it may be known."""
    try:
        return (directory / name).exists()
    except OSError:  # no path that can be, or one that only root may look at
        return False


def controllers_below() -> list[Path]:
    """The directories in the state directory in which a controller has its data."""
    with suppress(OSError):
        return [path for path in state_directory().iterdir() if has_key(path, "admin.key")]
    return []


def find_running() -> str | None:
    """A controller that runs here, as a sentence begins; None where there is none.

    One that has its data where this machine's would be or below the state directory, whoever runs
    it, or one with these settings and its data anywhere: root's, this user's, or of the user whose
    is the data of this machine's. Any other user's can look like one. Containers' are theirs.
    """
    for directory in _places():
        if has_key(directory, "admin.key"):
            holder = held_by(directory / "lock")
            if holder is not None:
                return f"a controller runs on {directory}{holder}"
    for process in _controllers(_believed()):
        return f"a controller runs here (nmk server, process {process})"
    return None


def _places() -> set[Path]:
    state = state_directory()
    with suppress(OSError):
        return {data_directory(), *(path for path in state.iterdir() if path.is_dir())}
    return {data_directory()}


def _believed() -> set[int]:
    """The users whose processes tell what they are."""
    users = {0, os.geteuid()}
    with suppress(OSError):
        key = data_directory() / "controller.key"
        users.add(key.stat().st_uid)
    return users


def _controllers(users: set[int]) -> Iterator[str]:
    """Processes of `nmk server` that see these files, and have our settings for theirs."""
    with suppress(OSError):
        ours = (PROC / "self/ns/mnt").stat()
        for place in PROC.glob("[0-9]*"):
            with suppress(OSError):  # another's, or gone
                if (
                    nmk_command(words_of(place)) == "server"
                    and os.path.samestat((place / "ns/mnt").stat(), ours)
                    and is_of(place, users)
                    and _settings_of(place) == config_directory()
                ):
                    yield place.name


def _settings_of(process: Path) -> Path:
    return Path(variables(process).get("NMK_CONFIG_DIR") or "/etc/nmk")
