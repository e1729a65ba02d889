"""What can be read of a state file, whatever is wrong with the rest of it."""

from __future__ import annotations

import re
from contextlib import suppress
from hashlib import blake2b

from nmk.agent import state
from nmk.agent.membership import Membership
from nmk.core.nesting import read_json
from nmk.core.parse import parse_interface
from nmk.core.tunnel import MARK
from nmk.errors import BadInput, NmkError
from nmk.files import open_regular
from nmk.system import wireguard
from nmk.system.runner import Runner

LONGEST_INTERFACE = 15  # bytes: IFNAMSIZ without its final zero
_HEAD = 64 * 1024  # bytes: all that is salvaged comes before the view
_FIELD = rb'"%b": ?("(?:[^"\\]{1,64})"|[0-9]{1,4}|\{[^{}]*\})'


def interface_for(network: str) -> str:
    """The interface's name: `nmk-<network>`, shortened with a hash where it is too long."""
    name = f"nmk-{network}"
    if len(name) <= LONGEST_INTERFACE:
        return name
    digest = blake2b(network.encode(), digest_size=2).hexdigest()
    return f"{name[: LONGEST_INTERFACE - 5]}-{digest}"


def head_of(network: str) -> bytes:
    """The beginning of its file, as far as there is one."""
    with suppress(OSError), open_regular(state.file_of(network)) as file:
        return file.read(_HEAD)
    return b""


def field_of(head: bytes, name: str) -> object:
    """The first field of that name, whatever else is wrong with the file; None without one."""
    match = re.search(_FIELD % name.encode(), head)
    try:
        return read_json(match[1]) if match else None
    except ValueError:
        return None


def interface_of(head: bytes) -> str | None:
    """The interface that the file names, if it does."""
    with suppress(BadInput):
        return parse_interface(str(field_of(head, "interface") or ""))
    return None


def other_interfaces(me: Membership, others: list[Membership]) -> set[str]:
    """Those of the machine's other networks. `others`: the ones whose state can be read.

    Where a file does not even say its interface, all that carry our mark are taken for nmk's.
    """
    found = {other.interface for other in others}
    damaged = set(state.networks()) - {me.network, *(other.network for other in others)}
    named = {network: interface_of(head_of(network)) for network in damaged}
    found |= {name or interface_for(network) for network, name in named.items()}
    if None in named.values():
        found |= marked(Runner())
    return found - {me.interface}


def marked(run: Runner) -> set[str]:
    """The WireGuard interfaces whose packets carry our mark."""
    found = set[str]()
    with suppress(NmkError):
        for name in wireguard.names(run):
            with suppress(NmkError):
                if wireguard.look(run, name).mark == MARK:
                    found.add(name)
    return found
