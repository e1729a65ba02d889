"""Taking nmk off the machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from shlex import quote

from nmk import archive
from nmk.agent import salvage, service, state
from nmk.agent.elsewhere import check_not_elsewhere
from nmk.agent.leave import leave, leave_lost
from nmk.agent.own_controller import controllers_below, find_running
from nmk.agent.places import DEFAULT_CONFIG, DEFAULT_STATE, config_directory, state_directory
from nmk.core.ruleset import table_name
from nmk.core.units import ROLES
from nmk.errors import (
    CommandFailed,
    FileUnusable,
    Locked,
    NmkError,
    NotJoined,
    StateUnwritable,
    ToolMissing,
)
from nmk.system import starters
from nmk.system.filter import DELETE
from nmk.system.runner import Runner
from nmk.tools import install_hint

INSTALLED = Path("/usr/local/bin/nmk")
CRON_FILE = Path("/etc/cron.d/nmk")
CACHES = (Path("/var/cache/nmk"), Path("/run/nmk"))

Say = Callable[[str], None]


def uninstall(run: Runner, say: Say, *, purge: bool = False) -> None:
    """Leave every network as well as it can be done, then remove what nmk put on the machine.

    A controller's data and the owner's settings in /etc/nmk stay unless `purge`. Raises what kept
    a part of it there, once all else is gone; Locked where a controller would lose its data: its
    service is stopped, one that somebody has started is not.
    """
    check_not_elsewhere()
    gone, failures = _stop_services(run, say, purge=purge)
    failures += [error for network in state.networks() for error in _leave(network, run, say)]
    lost = salvage.leftovers(run)
    for network in lost.networks or (salvage.LOST,) * bool(lost):
        try:
            leave_lost(network, run, say)
        except (CommandFailed, NotJoined, StateUnwritable, ToolMissing) as error:
            failures.append(error)
    for path in leftovers(purge=purge):
        if path in gone:  # of a dry run, in which it is still there
            continue
        say(f"removing {path}")
        if not run.dry and (problem := _remove(path)):
            failures.append(problem)
    with suppress(OSError):  # a place of its owner's choice, in which there is more
        if purge and not run.dry:
            state_directory().rmdir()
    for line in (*kept_files(), *(kept_places() if purge else ())):
        say(line)
    _tell_what_goes_on(run, say, purge=purge)
    if failures:
        failures[0].message = "; ".join(failure.message for failure in failures)
        failures[0].hint = "; ".join(dict.fromkeys(failure.hint for failure in failures))
        raise failures[0]


def _stop_services(run: Runner, say: Say, *, purge: bool) -> tuple[list[Path], list[NmkError]]:
    """Their files that are gone, and what kept one there.

    Raises Locked where a controller is no service, or outlives it, and would lose its data.
    """
    if purge and not service.status("server", run)["active"]:
        _refuse_beside_controller()
    gone, failures = list[Path](), list[NmkError]()
    for role in ROLES:
        try:
            gone += service.remove(role, run, say)
        except (CommandFailed, FileUnusable) as error:
            failures.append(error)
    if purge and not run.dry:
        _refuse_beside_controller()
    return gone, failures


def _tell_what_goes_on(run: Runner, say: Say, *, purge: bool) -> None:
    """What runs on without nmk's file, and what stays: with commands that need no nmk."""
    running = None if run.dry else find_running()
    if running:
        say(f"{running}: it goes on")
    for process in () if run.dry else starters.running("agent"):
        say(f"an agent runs on (nmk agent, process {process.name}): kill {process.name}")
    server = state_directory() / "server"
    if server.exists() and not purge:
        ended = ", once the controller has ended" if running else ""
        remove = f"to remove it{ended}: rm -r {quote(str(server))}"
        say(f"the controller's data stays in {server}; {remove}")


def _refuse_beside_controller() -> None:
    if running := find_running():
        raise Locked(running, "stop it first, or leave --purge out: its data stays then")


def leftovers(*, purge: bool) -> list[Path]:
    """The files and directories to remove: those of them that exist."""
    paths = [*CACHES, CRON_FILE]
    if archive.running_file() == INSTALLED:
        paths.append(INSTALLED)
    if purge:
        paths += [DEFAULT_STATE] if state_directory() == DEFAULT_STATE else controllers_below()
        paths += [DEFAULT_CONFIG] if config_directory() == DEFAULT_CONFIG else []
    return [path for path in paths if path.exists()]


def kept_places() -> list[str]:
    """What is said of places of the owner's choice: who knows what else is in there."""
    kept = (state_directory(), DEFAULT_STATE), (config_directory(), DEFAULT_CONFIG)
    return [
        f"{path} stays, as its place is of your choice; to remove it: rm -r {quote(str(path))}"
        for path, default in kept
        if path != default and path.exists()
    ]


def kept_files() -> list[str]:
    """What is said of files nmk that stay, as it was another one that was asked to uninstall."""
    running, found = archive.running_file(), []
    if running == INSTALLED:
        return []
    if INSTALLED.exists():
        found.append(f"{INSTALLED} stays, as another copy runs; to remove it: rm {INSTALLED}")
    if running:
        found.append(f"this copy stays; to remove it: rm {quote(str(running))}")
    return found


def _leave(network: str, run: Runner, say: Say) -> list[NmkError]:
    """What kept something of it on the machine; its state goes if it can. Raises Locked."""
    try:
        leave(network, run, say, force=True)
    except Locked:
        raise
    except NmkError as error:
        table = table_name(network)
        if isinstance(error, ToolMissing) and table in error.message:
            # There will be no nmk that could do the same again.
            error.hint = f"{install_hint('nft')}; then: {DELETE.format(table)}"
        found: list[NmkError] = [] if isinstance(error, StateUnwritable) else [error]
        try:
            if not run.dry:
                state.remove(network)
        except StateUnwritable as kept:
            kept.hint = f"make it writable, then: rm {quote(str(state.file_of(network)))}"
            found.append(kept)
        return found
    return []


def _remove(path: Path) -> FileUnusable | None:
    """Why it stays, or a part of it."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
            path.rmdir()
        else:
            path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        return FileUnusable(f"{path} cannot be removed: {error.strerror}")
    return None
