"""The number of our interface, noted: it keeps that whatever another program calls it.

By it one that was renamed is told from one that somebody else has made, with our key or without.
"""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

from nmk.agent import elsewhere
from nmk.agent.membership import Membership
from nmk.agent.places import make_runtime_directory, runtime_directory
from nmk.core.commands import command
from nmk.core.parse import parse_int
from nmk.core.problems import Problem, printable
from nmk.errors import BadInput
from nmk.files import read_file, write_private
from nmk.system import wireguard
from nmk.system.facts import machine_instance
from nmk.system.runner import Runner

_MOST = 64  # bytes of a note
_HIGHEST = 2**31 - 1  # the kernel counts interfaces with an int


def note(me: Membership, run: Runner) -> None:
    """Note which interface is ours. Where that cannot be, it is not found once it is renamed."""
    if run.dry:
        return
    elsewhere.note(me.network)
    with suppress(OSError):
        text = f"{socket.if_nametoindex(me.interface)} {machine_instance(runtime_directory())}"
        if _read(me.network) != text:
            make_runtime_directory()
            write_private(_file(me.network), text.encode())


def noted(network: str) -> int | None:
    """The number of the interface that was ours last, in this life of the machine."""
    number, _, instance = _read(network).partition(" ")
    with suppress(BadInput, OSError):
        if instance and instance == machine_instance(runtime_directory()):
            return parse_int(number, 1, _HIGHEST, "number of an interface")
    return None


def is_noted(me: Membership) -> bool:
    """Whether the interface of our name is the one that was ours last."""
    with suppress(OSError):
        return noted(me.network) == socket.if_nametoindex(me.interface)
    return False


def find_doubles(me: Membership, run: Runner) -> list[Problem]:
    """Other interfaces with our key: ours under another name, or one that its owner made.

    Which of them, nothing tells where no note does: so it is neither named again nor removed.
    """
    if name := wireguard.renamed(run, me.interface, me.private_key, noted(me.network)):
        said = f"{me.interface} has been renamed: it is {name} now"
        return [Problem("renamed", printable(said), f"nmk checkin -n {me.network}")]
    is_there = wireguard.exists(me.interface)
    found = []
    for name in sorted(wireguard.of_key(run, me.private_key) - {me.interface}):
        remove = command("ip", "link", "delete", "dev", name)
        said = f"the interface {name} has the key of {me.network}"
        if is_there:
            said += ", as " + me.interface + " has: peers answer one of them"
            hint = f"where it is {me.interface} from before it was renamed: {remove}"
        else:
            rename = command("ip", "link", "set", "dev", name, "name", me.interface)
            hint = (
                f"where it is that, renamed: {rename}; else remove it: {remove}; "
                f"then: nmk checkin -n {me.network}"
            )
        found.append(Problem("renamed", printable(said), printable(hint)))
    return found


def forget(me: Membership, run: Runner) -> None:
    """It is gone: nothing that comes later is ours, whatever its key."""
    if not run.dry:
        with suppress(OSError):
            _file(me.network).unlink()
            runtime_directory().rmdir()


def _read(network: str) -> str:
    try:
        return read_file(_file(network), _MOST).decode(errors="replace")
    except OSError:
        return ""


def _file(network: str) -> Path:
    return runtime_directory() / f"{network}.link"
