"""Where the controller is that an admin's command speaks to, and where else it may be."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import urlsplit

from nmk.agent.own_controller import DATA_DIR, data_directory, has_key
from nmk.errors import NmkError

DEFAULT_SERVER = f"unix://{DATA_DIR}/admin.sock"
_MOST = 3  # hosts that a hint has room for


def own_server() -> str:
    """The admin API of this host's controller."""
    return f"unix://{data_directory()}/admin.sock"


def start_command() -> str:
    """What starts the controller of this host."""
    from nmk.agent.service import find_manager

    return "nmk service install server" if find_manager("server", "nmk") else "nmk server"


def away_hint(server: str) -> str:
    """What to do where nothing answers at an admin API: what is most probable here comes first."""
    if server != own_server():
        return "is `nmk server` running there? Another one is named by --server or NMK_SERVER"
    named = "--server or NMK_SERVER"
    if has_key(data_directory()):
        return f"{start_command()}; or name a controller elsewhere with {named}"
    if hosts := _controllers():
        return (
            f"this machine is a node: run it on the controller, {', '.join(hosts[:_MOST])}, or "
            f"name the admin API of that with {named}"
        )
    return (
        f"start one with `nmk server`; one elsewhere is named by {named}, one of this host that "
        "was given --data-dir by NMK_DATA_DIR"
    )


def _controllers() -> list[str]:
    """The hosts of the controllers whose networks this machine is in, as far as it may be known."""
    from nmk.agent import state

    found: dict[str, None] = {}
    with suppress(NmkError, OSError):
        for network in state.networks():
            with suppress(NmkError):
                found |= {urlsplit(url).hostname or url: None for url in state.load(network).urls}
    return list(found)
