"""What keeps root from changing networks here, as in most containers (capabilities(7))."""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

FORBIDDEN = re.compile("operation not permitted|permission denied", re.IGNORECASE)  # EPERM, EACCES
_CAPABILITIES = {"NET_ADMIN": 1 << 12, "NET_RAW": 1 << 13}  # linux/capability.h
_RAW = re.compile("ip6?tables")  # the old one speaks by a raw socket (raw(7))
_STATUS = Path("/proc/self/status")
_NETWORK, _USER = Path("/proc/self/ns/net"), Path("/proc/self/ns/user")
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)
_ELSEWHERE = (
    "this network belongs to another user namespace, where root here may change nothing: run nmk "
    "outside, or in a container with a network of its own"
)


def why_forbidden(program: str, said: str) -> str | None:
    """What to do where a program may not do what it was asked for; None where that is not why.

    `said`: what it printed.
    """
    if os.geteuid() != 0 or not FORBIDDEN.search(said):
        return None
    missing = [name for name in _lacks() if name != "NET_RAW" or _RAW.match(program)]
    if missing:
        given = " ".join(f"--cap-add {name}" for name in missing)
        what = "capability" if len(missing) == 1 else "capabilities"
        return (
            f"give nmk the {what} {' and '.join(missing)}, which it lacks: docker run {given}; "
            "of a service: CapabilityBoundingSet= in its unit"
        )
    return _ELSEWHERE if _is_elsewhere() else None


def _lacks() -> list[str]:
    with suppress(OSError, ValueError):
        lines = _STATUS.read_text().splitlines()
        held = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "")
        return [name for name, bit in _CAPABILITIES.items() if not int(held, 16) & bit]
    return []


def _is_elsewhere() -> bool:
    """Whether the network is not one of our user namespace: its capabilities do not count then."""
    try:
        with _NETWORK.open("rb") as network:
            owner = fcntl.ioctl(network, _NS_GET_USERNS)
    except PermissionError:  # one around ours
        return True
    except OSError:  # a kernel before 4.9
        return False
    try:
        return not os.path.samestat(os.fstat(owner), _USER.stat())
    finally:
        os.close(owner)
