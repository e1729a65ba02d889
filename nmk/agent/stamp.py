"""When a network's last check-in was answered.

That is the time of an empty file where nothing outlives a reboot: a check-in without news writes
nothing to a disk.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from nmk.agent.places import runtime_directory


def renew(network: str) -> None:
    """A check-in has just been answered."""
    with suppress(OSError):  # what it is good for is looking, no more
        runtime_directory().mkdir(mode=0o755, parents=True, exist_ok=True)
        _file(network).touch()


def age(network: str, now: float) -> int | None:
    """Seconds since then; None where there was none since the machine started."""
    try:
        return max(0, int(now - _file(network).stat().st_mtime))
    except OSError:
        return None


def forget(network: str) -> None:
    """The network is left."""
    with suppress(OSError):
        _file(network).unlink()
        runtime_directory().rmdir()


def _file(network: str) -> Path:
    return runtime_directory() / f"{network}.answered"
