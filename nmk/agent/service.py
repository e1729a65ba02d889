"""Starting nmk with the machine: systemd, OpenRC, cron, whichever is there."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nmk.core.tunnel import Command
from nmk.core.units import render_cron, render_openrc, render_systemd
from nmk.errors import NmkError, StateUnwritable
from nmk.files import write_file
from nmk.system.runner import Runner, has_tool

SYSTEMD_RUNS = Path("/run/systemd/system")  # sd_booted(3)
OPENRC_RUNS = Path("/run/openrc")
SYSTEMD_UNITS = Path("/etc/systemd/system")
OPENRC_SCRIPTS = Path("/etc/init.d")
CRON_TABLES = Path("/etc/cron.d")
_KEPT_VARIABLES = ("NMK_STATE_DIR", "NMK_CONFIG_DIR")

Say = Callable[[str], None]


class NoServiceManager(NmkError):
    """Nothing on this machine is known to start services."""

    code = "no-service-manager"
    default_hint = "start the printed command with the machine, in its own way"


@dataclass(frozen=True, slots=True)
class Manager:
    """One way to start a service: the file, what is in it, and the commands around it."""

    name: str
    path: Path
    content: str
    mode: int
    start: tuple[Command, ...] = ()
    stop: tuple[Command, ...] = ()
    is_active: tuple[str, ...] = ()


def kept_environment() -> dict[str, str]:
    """The variables that nmk was started with and a service needs as well."""
    return {k: os.environ[k] for k in _KEPT_VARIABLES if k in os.environ}


def find_manager(role: str, program: str) -> Manager | None:
    """How this machine starts a role (`agent` or `server`); None where nothing is known.

    cron starts the agent only, as check-ins.
    """
    environment = kept_environment()
    if SYSTEMD_RUNS.is_dir():
        unit = f"nmk-{role}.service"
        return Manager(
            "systemd",
            SYSTEMD_UNITS / unit,
            render_systemd(role, program, environment),
            0o644,
            (
                Command(("systemctl", "daemon-reload")),
                Command(("systemctl", "enable", "--quiet", unit)),
                Command(("systemctl", "restart", unit)),
            ),
            (Command(("systemctl", "disable", "--quiet", "--now", unit)),),
            ("systemctl", "is-active", unit),
        )
    if OPENRC_RUNS.is_dir():
        script = f"nmk-{role}"
        return Manager(
            "openrc",
            OPENRC_SCRIPTS / script,
            render_openrc(role, program, environment),
            0o755,
            (
                Command(("rc-update", "add", script, "default")),
                Command(("rc-service", script, "restart")),
            ),
            (
                Command(("rc-service", script, "stop")),
                Command(("rc-update", "delete", script, "default")),
            ),
            ("rc-service", script, "status"),
        )
    if role == "agent" and CRON_TABLES.is_dir() and (has_tool("cron") or has_tool("crond")):
        return Manager("cron", CRON_TABLES / "nmk", render_cron(program, environment), 0o644)
    return None


def install(role: str, program: str, run: Runner, say: Say) -> None:
    """Make the service and start it; repeat-safe. Raises NoServiceManager that shows what to do."""
    manager = find_manager(role, program)
    if manager is None:
        say(f"to be started with the machine: {program} {role}")
        if role == "agent":
            say("or from cron, as in /etc/cron.d:\n" + render_cron(program, kept_environment()))
        raise NoServiceManager("this machine has no systemd, OpenRC or cron that nmk knows")
    say(f"{manager.name}: {manager.path}")
    if run.dry:
        say(manager.content)
    else:
        try:
            write_file(manager.path, manager.content.encode(), manager.mode)
        except OSError as error:
            raise StateUnwritable(f"{manager.path} cannot be written: {error.strerror}") from None
    for command in manager.start:
        run.change(command)


def remove(role: str, run: Runner, say: Say) -> bool:
    """Stop the service and remove its file; whether there was one."""
    manager = find_manager(role, "nmk")
    if manager is None or not manager.path.exists():
        return False
    for command in manager.stop:
        run.change(command)
    say(f"removing {manager.path}")
    if not run.dry:
        manager.path.unlink(missing_ok=True)
        if manager.name == "systemd":
            run.change(Command(("systemctl", "daemon-reload")))
    return True


def status(role: str, run: Runner) -> dict[str, object]:
    """By what the role is started, and whether it is installed and running now."""
    manager = find_manager(role, "nmk")
    installed = manager is not None and manager.path.exists()
    active = installed
    if manager is not None and installed and manager.is_active:
        try:
            run.read(manager.is_active)
        except NmkError:
            active = False
    return {
        "role": role,
        "manager": manager.name if manager else None,
        "file": str(manager.path) if manager else None,
        "installed": installed,
        "active": active,
    }
