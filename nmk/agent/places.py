"""Where the agent keeps things."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nmk.files import temporary_of
from nmk.system.facts import INSTANCE
from nmk.system.foreign import Fault, find_replaceable

TURN = "hooks.turn"  # the file of the run whose hooks come last
NOTES = ("checkin", "gateways", "health", "laid", "left", "link", "ruleset", "state", "trouble")
"""What is kept of a network in the runtime directory: NETWORK.checkin and so on."""
_EARLIER = ("answered",)  # of nmk 0.2.0

CHOICES = ("NMK_STATE_DIR", "NMK_CONFIG_DIR", "NMK_RUNTIME_DIR")
"""Variables by which the machine's owner chooses places."""

DEFAULT_STATE = Path("/var/lib/nmk")
DEFAULT_CONFIG = Path("/etc/nmk")
_RUNTIME = Path("/run/nmk")
_STATE_MODE = 0o711  # a controller of another user's may live below


def state_directory() -> Path:
    """One JSON file a network: `NMK_STATE_DIR`, else /var/lib/nmk."""
    return Path(os.environ.get("NMK_STATE_DIR") or DEFAULT_STATE)


def find_exposure() -> Fault | None:
    """Why others than root can put another state directory in its place; None where they cannot.

    Nor where there is none yet, or it cannot be looked at.
    """
    with suppress(OSError):
        return find_replaceable(state_directory().absolute())
    return None


def close_to_others(directory: Path) -> None:
    """Let nobody else open our own state directory; one that its owner chose stays as it is.

    Raises FileNotFoundError.
    """
    mode = directory.stat().st_mode & 0o777
    if directory == DEFAULT_STATE and mode & ~_STATE_MODE:
        with suppress(OSError):  # on a read-only disk
            directory.chmod(mode & _STATE_MODE)


def runtime_directory() -> Path:
    """What need not outlive a reboot: `NMK_RUNTIME_DIR`, else /run/nmk."""
    return Path(os.environ.get("NMK_RUNTIME_DIR") or _RUNTIME)


def runtime_directories() -> list[Path]:
    """The same, then that of others who have not chosen one."""
    return list(dict.fromkeys((runtime_directory(), _RUNTIME)))


def chosen() -> dict[str, str]:
    """The variables that lead to the places in use, without links; "" counts as none."""
    values = {name: os.environ.get(name) for name in CHOICES}
    return {name: os.path.realpath(value) for name, value in values.items() if value}


def make_runtime_directory() -> Path:
    """The same, made, and ours closed to others and open to us, whatever the umask was.

    Raises OSError.
    """
    directory = runtime_directory()
    is_new = not directory.exists()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if is_new or (directory == _RUNTIME and directory.stat().st_mode & 0o777 != 0o700):
        directory.chmod(0o700)
    return directory


def forget_runtime(network: str, *, is_last: bool = False) -> None:
    """Remove what is there of a network that is left, and the directory with the last."""
    directory = runtime_directory()
    with suppress(OSError):
        if is_last:
            for name in (INSTANCE, TURN):
                (directory / name).unlink(missing_ok=True)
        for kind in (*NOTES, *_EARLIER):  # no other: what else has its name here is not ours
            path = directory / f"{network}.{kind}"
            path.unlink(missing_ok=True)
            temporary_of(path).unlink(missing_ok=True)
        directory.rmdir()
    for other in runtime_directories()[1:]:  # where its state is, is noted there too
        with suppress(OSError):
            (other / f"{network}.state").unlink()
            other.rmdir()


def config_directory() -> Path:
    """What the machine's owner wishes: `NMK_CONFIG_DIR`, else /etc/nmk."""
    return Path(os.environ.get("NMK_CONFIG_DIR") or DEFAULT_CONFIG)
