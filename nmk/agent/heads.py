"""What can be read of a state file, whatever is wrong with the rest of it."""

from __future__ import annotations

import re
import socket
from collections.abc import Collection, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from nmk.agent import kill_note, own_link, state
from nmk.agent.places import state_directory
from nmk.core.nesting import read_json
from nmk.core.parse import parse_interface, parse_label
from nmk.core.tunnel import MARK
from nmk.errors import BadInput, NmkError, StateUnwritable
from nmk.files import open_of_root_alone, open_regular, read_file, write_private
from nmk.system import wireguard
from nmk.system.runner import Runner

LONGEST_INTERFACE = 15  # bytes: IFNAMSIZ without its final zero
_HEAD = 64 * 1024  # bytes: all that is salvaged comes before the view
_OBJECT = rb"\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}"  # with others in it, and those with none
_FIELD = rb'"%b": ?("(?:[^"\\]{1,64})"|[0-9]{1,4}|\[[^][{}]*\]|%b)'
_PAIR = rb'"%b": ?("[^"\\]{0,64}")\s*[],}]'  # with what ends it: all of its value is there
_KILL_SWITCH_ON = re.compile(rb'("kill-switch": ?)"on"')


def interface_for(network: str) -> str:
    """The interface's name: `nmk-<network>`, shortened with a hash where it is too long."""
    name = f"nmk-{network}"
    if len(name) <= LONGEST_INTERFACE:
        return name
    digest = blake2b(network.encode(), digest_size=2).hexdigest()
    return f"{name[: LONGEST_INTERFACE - 5]}-{digest}"


def head_of(network: str, directory: Path | None = None) -> bytes:
    """The beginning of its file, as far as there is one and it is the network's.

    `directory`: where its state is, if elsewhere; there only of a file of root's alone.
    """
    path = (directory or state_directory()) / f"{network}.json"
    with suppress(OSError), open_of_root_alone(path) if directory else open_regular(path) as file:
        head = file.read(_HEAD)
        if (_named_in(head) or network) == network:
            return head.partition(b'"successor":')[0]  # which has the same fields
    return b""


def is_copy(network: str) -> bool:
    """Whether its file is the state of another network of this machine, and never was its own."""
    with suppress(OSError), open_regular(state.file_of(network)) as file:
        named = _named_in(file.read(_HEAD)) or network
        is_here = named != network and state.file_of(named).exists()
        return is_here and kill_note.noted(network) is None
    return False


def _named_in(head: bytes) -> str | None:
    """The network that a file says it is of. Of another's, all may be in use by that."""
    with suppress(BadInput):
        return parse_label(str(field_of(head, "network") or ""))
    return None


def field_of(head: bytes, name: str) -> object:
    """The first field of that name, whatever else is wrong with the file; None without one."""
    match = re.search(_FIELD % (name.encode(), _OBJECT), head)
    try:
        return read_json(match[1]) if match else None
    except ValueError:
        return None


def noted_in(head: bytes) -> tuple[Mapping[str, object], bool]:
    """The settings that `nmk set` has noted, and whether these are all.

    Where they cannot be read as a whole, exit node and kill switch, each by itself; None for a
    value that cannot be read.
    """
    whole = field_of(head, "settings")
    if isinstance(whole, dict):
        return whole, True
    place = re.split(rb'"(?:ranges|as_read)"', head, maxsplit=1)[0]  # what files held comes later
    found: dict[str, object] = {}
    for name in ("exit-node", "kill-switch"):
        if b'"%b"' % name.encode() in place:
            pair = re.search(_PAIR % name.encode(), place)
            found[name] = None
            with suppress(ValueError):
                found[name] = read_json(pair[1]) if pair else None
    if _KILL_SWITCH_ON.search(place):
        found["kill-switch"] = "on"
    return found, False


def note_opened(network: str) -> None:
    """Note that its owner has opened the kill switch, in the file too: the rest stays as it is.

    Raises StateUnwritable.
    """
    path = state.file_of(network)
    try:
        kill_note.note(network, on=False)
        raw = read_file(path, state.MOST_BYTES)
        head = _KILL_SWITCH_ON.sub(rb'\1"off"', raw[:_HEAD])
        if head != raw[:_HEAD]:
            write_private(path, head + raw[_HEAD:])
    except FileNotFoundError:
        kill_note.forget(network)  # there is no network any more
    except OSError as error:
        raise StateUnwritable(f"{path} cannot be written: {error.strerror}") from None


def interface_of(network: str, head: bytes, run: Runner) -> str:
    """The interface that the file names, where that can be ours; else the one it would have got."""
    named = _named(head)
    if named and (not wireguard.exists(named) or _is_ours(network, named, head, run)):
        return named
    return interface_for(network)


def holder_of(name: str, beside: str) -> str | None:
    """The network, other than `beside`, whose interface has that name here, be it up or not."""
    others = (network for network in state.networks() if network != beside)
    return next((n for n in others if (_named(head_of(n)) or interface_for(n)) == name), None)


def _named(head: bytes) -> str | None:
    with suppress(BadInput):
        return parse_interface(str(field_of(head, "interface") or ""))
    return None


def _is_ours(network: str, name: str, head: bytes, run: Runner) -> bool:
    """Whether an interface is the network's: as it was noted, by our mark, or by the file's key.

    A damaged file may name any: one that is no WireGuard interface is never ours.
    """
    with suppress(OSError):
        if socket.if_nametoindex(name) == own_link.noted(network):
            return True
    with suppress(NmkError):
        live = wireguard.look(run, name)
        return live.mark == MARK or live.private_key == field_of(head, "private_key")
    return False


def interfaces_in(head: bytes, network: str, run: Runner) -> set[str]:
    """The one that a network has whose state cannot be read, or the usual name where it is free."""
    name = interface_of(network, head, run)
    if wireguard.exists(name):
        return {name} if _is_ours(network, name, head, run) else set()
    return {name} & {interface_for(network)}


def marked(run: Runner, but: Collection[str] = ()) -> set[str]:
    """The WireGuard interfaces whose packets carry our mark; `but` are not looked at."""
    found = set[str]()
    with suppress(NmkError):
        for name in wireguard.names(run) - {*but}:
            with suppress(NmkError):
                if wireguard.look(run, name).mark == MARK:
                    found.add(name)
    return found
