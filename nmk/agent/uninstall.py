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
from nmk.errors import CommandFailed, FileUnusable, Locked, NmkError, ToolMissing
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
    _stop_services(run, say, purge=purge)
    failures = [error for network in state.networks() if (error := _leave(network, run, say))]
    lost = salvage.leftovers(run)
    for network in lost.networks or (salvage.LOST,) * bool(lost):
        try:
            leave_lost(network, run, say)
        except (CommandFailed, ToolMissing) as error:
            failures.append(error)
    for path in leftovers(purge=purge):
        say(f"removing {path}")
        if not run.dry and (problem := _remove(path)):
            failures.append(problem)
    with suppress(OSError):  # a place of its owner's choice, in which there is more
        if purge and not run.dry:
            state_directory().rmdir()
    for line in (*kept_files(), *(kept_places() if purge else ())):
        say(line)
    if not run.dry and (running := find_running()):
        say(f"{running}: it goes on")
    server = state_directory() / "server"
    if server.exists() and not purge:
        say(f"the controller's data stays in {server}; with --purge it goes too")
    if failures:
        failures[0].message = "; ".join(failure.message for failure in failures)
        raise failures[0]


def _stop_services(run: Runner, say: Say, *, purge: bool) -> None:
    """Raises Locked where a controller is no service, or outlives it, and would lose its data."""
    if purge and not service.status("server", run)["active"]:
        _refuse_beside_controller()
    for role in ROLES:
        service.remove(role, run, say)
    if purge and not run.dry:
        _refuse_beside_controller()


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


def _leave(network: str, run: Runner, say: Say) -> NmkError | None:
    """What kept something of it on the machine; its state goes in any case. Raises Locked."""
    try:
        leave(network, run, say, force=True)
    except Locked:
        raise
    except NmkError as error:
        table = table_name(network)
        if isinstance(error, ToolMissing) and table in error.message:
            # There will be no nmk that could do the same again.
            error.hint = f"{install_hint('nft')}; then: {DELETE.format(table)}"
        if not run.dry:
            state.remove(network)
        return error
    return None


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
