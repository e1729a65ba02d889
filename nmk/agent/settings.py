"""What the machine's owner wishes; it wins over what the controller says.

In this order: environment (`NMK_MTU`), the network's file (`/etc/nmk/home.toml`), the machine's
file (`/etc/nmk/agent.toml`), what `nmk set` has noted; a file holds lines such as `mtu = 1380`.
A port that `nmk join` was given goes before them all, until `nmk set` takes its place.
While a file cannot be read, or a variable has a mistake, what it held before goes on: no kill
switch opens by a slip.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nmk.agent.membership import Membership
from nmk.agent.places import config_directory
from nmk.core.commands import command as shell
from nmk.core.problems import Problem, problem_of
from nmk.core.routes import RouteWishes
from nmk.core.settings import NETWORK_SETTINGS, WISHES, parse_local
from nmk.errors import BadInput
from nmk.files import read_toml

Value = int | str
Sourced = dict[str, tuple[Value, str]]  # by their names, with where each comes from
NOTED = "nmk set"
JOINED = "nmk join"
ENVIRONMENT = "environment"  # beside the files' names, which all end in .toml


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
    """All that the owner has set, and where: a variable, a file, `nmk set` or `nmk join`.

    Raises BadInput that names a variable before the machine has joined, or a file of which it was
    never noted what it held.
    """
    noted = me.wishes.settings if me else {}
    found: Sourced = {name: (value, NOTED) for name, value in noted.items()}
    for read in _look(network, me)[0].values():
        found |= read
    if me and me.wishes.listen_port:
        found["listen-port"] = (me.wishes.listen_port, JOINED)
    return found


def take_note(me: Membership) -> tuple[Membership, tuple[Problem, ...]]:
    """The membership with what files and variables hold now, and what is wrong with them.

    Raises BadInput where it was never noted what a file held that tells nothing.
    """
    found, problems = _look(me.network, me)
    notes = {
        place: {name: value for name, (value, _) in read.items()}
        for place, read in found.items()
        if read
    }
    return replace(me, as_read=notes), problems


def unread(me: Membership) -> tuple[Problem, ...]:
    """What is wrong with files whose last content goes on; none where nothing does."""
    return () if me.as_read is None else take_note(me)[1]


def command(me: Membership, name: str, value: str) -> str:
    """What sets a setting, wherever it was set before."""
    if me.phase == "deleted":
        return f"nmk leave -n {me.network}"
    _, source = wished(me.network, me).get(name, ("", NOTED))
    if source != NOTED:
        return f"take {name} out of {source}, then: nmk checkin -n {me.network}"
    return f"nmk set -n {me.network} {name}={value}"


def appending(network: str, *lines: str) -> str:
    """The command that adds lines to the network's file, also where its directory is not there."""
    file = config_directory() / f"{network}.toml"
    text = "".join(f"{line}\\n" for line in lines)
    make = "" if file.parent.is_dir() else f"{shell('install', '-d', file.parent)} && "
    return f"{make}{shell('printf', text)} >> {shell(file)}"


def _look(network: str, me: Membership | None) -> tuple[dict[str, Sourced], tuple[Problem, ...]]:
    """What each file and the environment hold, the one that wins last, and what is wrong there.

    Of one that tells nothing what it held goes on. Raises BadInput as `wished`.
    """
    found: dict[str, Sourced] = {}
    problems = []
    for path in _files(network):
        try:
            found[path.name] = _read(path, me)
        except BadInput as error:
            held = _held(me, path.name)
            if held is None:
                raise
            found[path.name] = {name: (value, str(path)) for name, value in held.items()}
            goes_on = "what it held before goes on" if held else "it counts as empty"
            problems.append(_gone_on(error, goes_on))
    found[ENVIRONMENT], bad = from_environment(os.environ)
    before = (me.as_read or {}).get(ENVIRONMENT, {}) if me else {}
    for name, mistake in bad.items():
        if me is None:
            raise mistake
        if name in before:
            found[ENVIRONMENT][name] = (before[name], variable_of(name))
        goes_on = "what it was before goes on" if name in before else "it counts as not set"
        problems.append(_gone_on(mistake, goes_on))
    return found, tuple(problems)


def _gone_on(error: BadInput, how: str) -> Problem:
    return problem_of(BadInput(f"{error.message}; {how}", error.hint))


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


def variable_of(name: str) -> str:
    """The variable of a setting, such as `NMK_LISTEN_PORT`."""
    return "NMK_" + name.upper().replace("-", "_")


def from_environment(environment: Mapping[str, str]) -> tuple[Sourced, dict[str, BadInput]]:
    """The settings in variables, and by their names what is wrong with those that cannot be."""
    found: Sourced = {}
    bad = {}
    for name in (*NETWORK_SETTINGS, *WISHES):
        variable = variable_of(name)
        if text := environment.get(variable):
            try:
                found[name] = (parse_local(name, text), variable)
            except BadInput as error:
                bad[name] = BadInput(f"{variable}: {error.message}", error.hint)
    return found, bad


def read_file(path: Path) -> Sourced:
    """The settings in a file; none where there is no file."""
    content = read_toml(path)
    try:
        return {name: (parse_local(name, value), str(path)) for name, value in content.items()}
    except BadInput as error:
        hint = f"correct {path}" if error.hint == BadInput.default_hint else error.hint
        raise BadInput(f"{path}: {error.message}", hint) from None
