"""Starting nmk with the machine: systemd, OpenRC, cron, whichever is there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from nmk.agent.places import CHOICES, config_directory
from nmk.archive import running_build
from nmk.core.commands import command
from nmk.core.tunnel import Command
from nmk.core.units import cron_line, openrc_log, render_cron, render_openrc, render_systemd
from nmk.errors import FileUnusable, NmkError
from nmk.files import read_toml, write_file
from nmk.system import starters
from nmk.system.runner import Runner, find_tool
from nmk.system.starters import CRONS, cron_runs, starts_cron
from nmk.tools import has_tool, systemd_runs

OPENRC_RUNS = Path("/run/openrc")
SYSTEMD_UNITS = Path("/etc/systemd/system")
OPENRC_SCRIPTS = Path("/etc/init.d")
CRON_TABLES = Path("/etc/cron.d")
CRONTAB = Path("/etc/crontab")
_KEPT_VARIABLES = {
    "agent": CHOICES,
    "server": ("NMK_DATA_DIR", "NMK_CONFIG_DIR"),
}

Say = Callable[[str], None]


class NoServiceManager(NmkError):
    """Nothing on this machine is known to start services."""

    code = "no-service-manager"
    default_hint = "start the printed command with the machine, in its own way"


@dataclass(frozen=True, slots=True)
class Manager:
    """One way to start a service: the file, what is in it, and the commands around it.

    `log` is where the service writes what it says; None where the manager sees to that.
    """

    name: str
    path: Path
    content: str
    mode: int
    start: tuple[Command, ...] = ()
    stop: tuple[Command, ...] = ()
    is_active: tuple[str, ...] = ()
    log: Path | None = None


def kept_environment(role: str = "agent") -> dict[str, str]:
    """The variables that nmk was started with and a service needs as well: places, absolute."""
    chosen = {k: os.environ.get(k) for k in _KEPT_VARIABLES[role]}
    return {k: str(Path(v).absolute()) for k, v in chosen.items() if v}


def own_directories(role: str, environment: Mapping[str, str]) -> list[str]:
    """Where the role writes, where its owner has chosen the place."""
    if role == "agent":
        chosen = [environment.get("NMK_STATE_DIR"), environment.get("NMK_RUNTIME_DIR")]
    else:
        configured = read_toml(config_directory() / "server.toml").get("data-dir")
        chosen = [environment.get("NMK_DATA_DIR") or configured]
    return [str(Path(path).absolute()) for path in chosen if path]


def find_manager(role: str, program: str) -> Manager | None:
    """How this machine starts a role (`agent` or `server`); None where nothing is known.

    cron starts the agent only, as check-ins.
    """
    environment = kept_environment(role)
    if systemd_runs():
        return _systemd(role, program, environment)
    if OPENRC_RUNS.is_dir():
        return _openrc(role, program, environment)
    if role == "agent" and CRON_TABLES.is_dir() and _reads_cron_d():
        return Manager("cron", CRON_TABLES / "nmk", render_cron(program, environment), 0o644)
    return None


def _reads_cron_d() -> bool:
    """Whether a cron is installed that knows that directory; busybox's has crontabs only."""
    if has_tool("cron"):
        return True
    return has_tool("crond") and Path(find_tool("crond")).resolve().name != "busybox"


def _systemd(role: str, program: str, environment: Mapping[str, str]) -> Manager:
    unit = f"nmk-{role}.service"
    return Manager(
        "systemd",
        SYSTEMD_UNITS / unit,
        render_systemd(role, program, environment, own_directories(role, environment)),
        0o644,
        (
            Command(("systemctl", "daemon-reload")),
            Command(("systemctl", "enable", "--quiet", unit)),
            Command(("systemctl", "restart", unit)),
        ),
        (Command(("systemctl", "disable", "--quiet", "--now", unit)),),
        ("systemctl", "is-active", unit),
    )


def _openrc(role: str, program: str, environment: Mapping[str, str]) -> Manager:
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
        Path(openrc_log(role)),
    )


def keep_hint(program: str) -> str:
    """What has this machine check in from now on: a command where there is one, else in words."""
    environment = kept_environment()
    if find_manager("agent", program):
        return "nmk service install agent"
    line = cron_line(program, environment, user="")
    has_cron = any(map(has_tool, CRONS)) or cron_runs()
    if has_cron and has_tool("crontab"):
        return f"(crontab -l; echo {quote(line)}) | crontab -"
    started = f"have this machine start `{program} agent` as it starts other programs"
    if has_cron and CRONTAB.exists():
        line = cron_line(program, environment)
        return f"{started}; or put this into {CRONTAB} and restart cron: {line}"
    return started


def idle_cron(program: str) -> str | None:
    """What starts cron where check-ins are its to make, and neither it nor an agent runs."""
    manager = find_manager("agent", program)
    if (manager is None or manager.name == "cron") and not (cron_runs() or starters.agent_runs()):
        return starts_cron()
    return None


def install(role: str, program: str, run: Runner, say: Say) -> None:
    """Make the service and start it; repeat-safe. Raises NoServiceManager that shows what to do."""
    manager = find_manager(role, program)
    if manager is None:
        say(f"to be started with the machine: {program} {role}")
        reason = "this machine has no systemd, OpenRC or cron that nmk knows"
        if role == "server":
            reason = "this machine has no systemd or OpenRC that nmk knows"
            if find_manager("agent", program):
                reason = "cron cannot keep a controller running"
        raise NoServiceManager(reason, keep_hint(program) if role == "agent" else None)
    say(f"{manager.name}: {manager.path}")
    if run.dry:
        say(manager.content)
    else:
        _write(manager, own_directories(role, kept_environment(role)))
    for step in manager.start:
        run.change(step)
    if manager.name == "cron" and (starting := idle_cron(program)):
        say(f"cron is not running, so nothing checks in yet\n  try: {starting}")


def _write(manager: Manager, directories: list[str]) -> None:
    """Write the file; a directory must be there before a unit can be allowed to write to it."""
    try:
        for directory in directories:
            Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
        write_file(manager.path, manager.content.encode(), manager.mode)
    except OSError as error:
        path = error.filename or manager.path
        raise FileUnusable(f"{path} cannot be written: {error.strerror}") from None


def outdated(role: str) -> Iterator[tuple[int, str]]:
    """The processes of that role that are another build than this one, and what restarts each.

    Such as one that was started before the file nmk was replaced.
    """
    build, manager = running_build(), find_manager(role, "nmk")
    for process in starters.running(role) if build else ():
        with suppress(OSError):  # it has just ended
            if starters.build_of(process) in {None, build}:
                continue
            again = starters.command_of(process, _KEPT_VARIABLES[role])
            restart = f"kill {process.name}; unless something starts it again by itself: {again} &"
            if manager and manager.path.exists() and starters.is_service(process, f"nmk-{role}"):
                restart = command(*manager.start[-1].argv)
            yield int(process.name), restart


def remove(role: str, run: Runner, say: Say) -> list[Path]:
    """Stop the service and remove its files: these; none where there is no service."""
    manager = find_manager(role, "nmk")
    if manager is None or not manager.path.exists():
        return []
    for step in manager.stop:
        run.change(step)
    files = [path for path in (manager.path, manager.log) if path]
    for path in files:
        say(f"removing {path}")
        if not run.dry:
            _unlink(path)
    if manager.name == "systemd":
        run.change(Command(("systemctl", "daemon-reload")))
    return files


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise FileUnusable(f"{path} cannot be removed: {error.strerror}") from None


def status(role: str, run: Runner) -> dict[str, object]:
    """By what the role is started, and whether it is installed and running now."""
    manager = find_manager(role, "nmk")
    installed = manager is not None and manager.path.exists()
    return {
        "role": role,
        "manager": manager.name if manager else None,
        "file": str(manager.path) if manager else None,
        "installed": installed,
        "active": manager is not None and installed and _is_active(manager, run),
    }


def _is_active(manager: Manager, run: Runner) -> bool:
    if not manager.is_active:
        return cron_runs()
    try:
        run.read(manager.is_active)
    except NmkError:
        return False
    return True
