"""The owner's own programs, run when the interface has changed: `/etc/nmk/hooks/up` and the like.

One file an event, named for it: up, down, peer-added, peer-removed. Nothing that a controller
says is ever executed; what a hook is told of it comes in its environment. A hook can fail, hang
or be refused, which is said, and the mesh goes on. They run when the machine's lock has been given
back, so none keeps another run from its work, and in the order in which things happened.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nmk.agent.lock import after_release
from nmk.agent.membership import Membership
from nmk.agent.places import TURN, config_directory, make_runtime_directory
from nmk.core.hooks import Event, environment_of
from nmk.errors import CommandFailed
from nmk.locks import line_up, take
from nmk.system.runner import Runner
from nmk.system.script import TimeIsUp, find_fault, run_script

SECONDS = 30.0  # that a hook may take
TURN_SECONDS = 30.0  # that hooks wait for those of the run before
_Call = tuple[Path, Mapping[str, str]]
_PASSED_ON = (
    "NMK_STATE_DIR",
    "NMK_CONFIG_DIR",
    "NMK_RUNTIME_DIR",
)  # so that `nmk status` works in a hook


def call(events: Sequence[Event], me: Membership, names: Mapping[str, str], run: Runner) -> None:
    """Run the hooks for the events in their order. `names`: of peers, by their keys.

    One that is refused or hangs is not tried again for the events after. What a hook does calls
    none: it would wait for itself. Hold the lock; they run after it.
    """
    if "NMK_EVENT" in os.environ:
        return
    places = {k: os.environ[k] for k in _PASSED_ON if k in os.environ}
    view = me.known.view if me.known else None
    directory = hooks_directory()
    calls: list[_Call] = [
        (
            directory / event.name,
            {**places, **environment_of(event, me.network, me.interface, view, names)},
        )
        for event in events
        if os.path.lexists(directory / event.name)
    ]
    if calls:
        turn = None if run.dry else _line_up()
        after_release(lambda: _call_all(calls, turn, run))


def hooks_directory() -> Path:
    """Where the owner puts hooks."""
    return config_directory().absolute() / "hooks"


def _line_up() -> tuple[int | None, int] | None:
    with suppress(OSError):  # nowhere to note whose turn it is
        return line_up(make_runtime_directory() / TURN)
    return None


def _call_all(calls: list[_Call], turn: tuple[int | None, int] | None, run: Runner) -> None:
    before, mine = turn or (None, None)
    try:
        if before is not None and not take(before, TURN_SECONDS):
            run.warn(f"hooks of another run go on for longer than {TURN_SECONDS:.0f} s")
        given_up = set()
        for program, variables in calls:
            if program not in given_up and not _call(program, variables, run):
                given_up.add(program)
    finally:
        for handle in (before, mine):
            if handle is not None:
                os.close(handle)


def _call(program: Path, variables: Mapping[str, str], run: Runner) -> bool:
    """Run one hook; whether it may be run again."""
    name = f"hook {program.name}"
    try:
        fault = find_fault(program)
        reason = fault and fault.reason
    except OSError as error:
        reason = f"{program}: {error.strerror}"
    if reason:
        run.warn(f"{name} is not run: {reason}")
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
