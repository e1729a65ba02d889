"""The owner's own programs, run when the interface has changed: `/etc/nmk/hooks/up` and the like.

One file an event, named for it: up, down, peer-added, peer-removed. Nothing that a controller
says is ever executed; what a hook is told of it comes in its environment. A hook can fail, hang
or be refused, which is said, and the mesh goes on.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from nmk.agent.membership import Membership
from nmk.agent.places import config_directory
from nmk.core.hooks import Event, environment_of
from nmk.errors import CommandFailed
from nmk.system.runner import Runner
from nmk.system.script import TimeIsUp, find_fault, run_script

SECONDS = 30.0  # that a hook may take; the machine's other check-ins wait for it
_PASSED_ON = (
    "NMK_STATE_DIR",
    "NMK_CONFIG_DIR",
    "NMK_RUNTIME_DIR",
)  # so that `nmk status` works in a hook


def call(events: Sequence[Event], me: Membership, names: Mapping[str, str], run: Runner) -> None:
    """Run the hooks for the events in their order. `names`: of peers, by their keys.

    One that is refused or hangs is not tried again for the events after.
    """
    given_up = set()
    places = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    view = me.known.view if me.known else None
    for event in events:
        program = config_directory().absolute() / "hooks" / event.name
        if event.name in given_up or not os.path.lexists(program):
            continue
        told = environment_of(event, me.network, me.interface, view, names)
        if not _call(program, {**places, **told}, run):
            given_up.add(event.name)


def _call(program: Path, variables: Mapping[str, str], run: Runner) -> bool:
    """Run one hook; whether it may be run again."""
    name = f"hook {program.name}"
    try:
        fault = find_fault(program)
    except OSError as error:
        fault = f"{program}: {error.strerror}"
    if fault:
        run.warn(f"{name} is not run: {fault}")
        return False
    run.show(f"[#] {program} {variables.get('NMK_PEER', '')}".rstrip())
    if run.dry:
        return True
    try:
        run_script(program, variables, SECONDS, lambda line: run.warn(f"{name}: {line}"))
    except CommandFailed as error:
        run.warn(f"{name}: {error.message}")
        return not isinstance(error, TimeIsUp)
    return True
