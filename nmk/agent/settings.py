"""What the machine's owner wishes; it wins over what the controller says.

In this order: environment (`NMK_MTU`), the network's file (`/etc/nmk/home.toml`), the machine's
file (`/etc/nmk/agent.toml`), what `nmk set` has noted; a file holds lines such as `mtu = 1380`.
While a file cannot be read, what it held before goes on: no kill switch opens by a slip.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nmk.agent.membership import Membership
from nmk.agent.places import config_directory
from nmk.core.problems import Problem, problem_of
from nmk.core.routes import RouteWishes
from nmk.core.settings import NETWORK_SETTINGS, WISHES, parse_local
from nmk.errors import BadInput
from nmk.files import read_toml

Value = int | str
Sourced = dict[str, tuple[Value, str]]  # by their names, with where each comes from
NOTED = "nmk set"


def local_settings(network: str, me: Membership | None) -> dict[str, int]:
    """The machine's own word on a network's settings. Raises BadInput that names file and key."""
    found = wished(network, me)
    return {name: int(value) for name, (value, _) in found.items() if name in NETWORK_SETTINGS}


def route_wishes(me: Membership) -> RouteWishes:
    """What the owner wants of routes. Raises BadInput that names the file and the key."""
    found = wished(me.network, me)
    values = {name: str(found.get(name, (w.default, ""))[0]) for name, w in WISHES.items()}
    return RouteWishes(
        accept=values["accept-routes"] == "on",
        roles=values["accept-roles"] == "on",
        exit_node=values["exit-node"] or None,
        kill_switch=values["kill-switch"] == "on",
        guarded="exit-node" in found,
    )


def wished(network: str, me: Membership | None) -> Sourced:
    """All that the owner has set, and where: a variable, a file, or `nmk set`.

    Raises BadInput that names a variable, or a file of which it was never noted what it held.
    """
    noted = me.wishes.settings if me else {}
    found: Sourced = {name: (value, NOTED) for name, value in noted.items()}
    for path in _files(network):
        try:
            found |= _read(path, me)
        except BadInput:
            held = _held(me, path.name)
            if held is None:
                raise
            found |= {name: (value, str(path)) for name, value in held.items()}
    return found | from_environment(os.environ)


def take_note(me: Membership) -> tuple[Membership, tuple[Problem, ...]]:
    """The membership with what the files hold now, and what is wrong with those that tell nothing.

    Raises BadInput where it was never noted what such a file held.
    """
    notes: dict[str, dict[str, Value]] = {}
    problems = []
    for path in _files(me.network):
        try:
            held = {name: value for name, (value, _) in _read(path, me).items()}
        except BadInput as error:
            before = _held(me, path.name)
            if before is None:
                raise
            held = dict(before)
            message = f"{error.message}; what it held before goes on"
            problems.append(problem_of(BadInput(message, error.hint)))
        if held:
            notes[path.name] = held
    return replace(me, as_read=notes), tuple(problems)


def unread(me: Membership) -> tuple[Problem, ...]:
    """What is wrong with files whose last content goes on; none where nothing does."""
    return () if me.as_read is None else take_note(me)[1]


def _read(path: Path, me: Membership | None) -> Sourced:
    """As `read_file`; one that is empty now, and was not, tells nothing either: a power cut."""
    found = read_file(path)
    if not found and _held(me, path.name):
        with suppress(FileNotFoundError):
            if not path.stat().st_size:
                hint = f"write its settings anew; to have none: rm {path}"
                raise BadInput(f"{path} is empty, and was not", hint)
    return found


def _held(me: Membership | None, name: str) -> Mapping[str, Value] | None:
    """What the file held when it could be read; None where nobody knows.

    Nothing, where a kill switch is noted: that must be laid, whatever else a file would say.
    """
    if me is None:
        return None
    if me.as_read is None:
        return {} if me.wishes.settings.get("kill-switch") == "on" else None
    return me.as_read.get(name, {})


def _files(network: str) -> tuple[Path, ...]:
    """The machine's file, and the network's, which wins."""
    directory = config_directory()
    return directory / "agent.toml", directory / f"{network}.toml"


def from_environment(environment: Mapping[str, str]) -> Sourced:
    """The settings in variables such as `NMK_LISTEN_PORT`."""
    found: Sourced = {}
    for name in (*NETWORK_SETTINGS, *WISHES):
        variable = "NMK_" + name.upper().replace("-", "_")
        if text := environment.get(variable):
            try:
                found[name] = (parse_local(name, text), variable)
            except BadInput as error:
                raise BadInput(f"{variable}: {error.message}", error.hint) from None
    return found


def read_file(path: Path) -> Sourced:
    """The settings in a file; none where there is no file."""
    content = read_toml(path)
    try:
        return {name: (parse_local(name, value), str(path)) for name, value in content.items()}
    except BadInput as error:
        hint = f"correct {path}" if error.hint == BadInput.default_hint else error.hint
        raise BadInput(f"{path}: {error.message}", hint) from None
