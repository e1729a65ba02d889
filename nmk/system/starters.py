"""What on this machine makes check-ins happen: a running agent, or cron."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from nmk import processes
from nmk.core.commands import command
from nmk.files import open_regular
from nmk.tools import has_tool, nmk_command

_TIMERS = Path("/run/systemd/generator")  # where systemd-cron turns crontabs into timers
_SCRIPTS = Path("/etc/init.d")
_CRONTABS = (
    "/etc/crontab",
    "/etc/cron.d/*",
    "/etc/crontabs/root",
    "/var/spool/cron/root",
    "/var/spool/cron/crontabs/root",
)
_SERVICES = ("/etc/systemd/system/nmk-agent.service", "/etc/init.d/nmk-agent")
_MOST_BYTES = 256 * 1024  # of a crontab
_BUILD = re.compile(r"[0-9a-f]{16}|\.new-[0-9a-f]{16}")  # as `nmk.bootstrap` names them
CRONS = ("cron", "crond", "fcron")
"""Daemons; cronie's, dcron's and busybox's are called crond."""


def agent_runs() -> bool:
    """Whether an `nmk agent` of root's is running."""
    return any(nmk_command(words) == "agent" for words in _command_lines())


def cron_runs() -> bool:
    """Whether a cron daemon is running, or systemd has its part."""
    if any(_TIMERS.glob("cron-*.timer")):
        return True
    return any(
        words[0].rpartition("/")[2] in CRONS or "crond" in words[1:2] for words in _command_lines()
    )


def starts_cron() -> str | None:
    """What starts the cron that is installed here; None where none is."""
    for name in filter(has_tool, CRONS):
        script = next((p for n in (name, "cron") if (p := _SCRIPTS / n).exists()), None)
        return f"{script} start" if script else f"{name}, and have this machine start it as well"
    return None


def crontab() -> str | None:
    """The path of a table that has cron run `nmk checkin`; None where there is none."""
    for pattern in _CRONTABS:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            if any(is_check_in(line) for line in _lines(path)):
                return str(path)
    return None


def start_lines() -> Iterator[str]:
    """Lines of what starts nmk on this machine: crontabs, a unit, a script of OpenRC."""
    for pattern in (*_CRONTABS, *_SERVICES):
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            yield from (x for x in _lines(path) if not x.lstrip().startswith("#"))


def agent_environments() -> Iterator[tuple[str, dict[str, str]]]:
    """Each `nmk agent` of root's in this network namespace, and its variables from its start."""
    for process in running("agent"):
        with suppress(OSError):  # it has just ended
            yield process.name, processes.variables(process)


def running(role: str) -> Iterator[Path]:
    """The directories in /proc of root's `nmk agent`, or `server`, in this network namespace."""
    for process in processes.roots():
        with suppress(OSError):  # it has just ended
            here = (process / "ns/net").samefile("/proc/self/ns/net")
            if here and nmk_command(processes.words_of(process)) == role:
                yield process


def build_of(process: Path) -> str | None:
    """Which build of nmk a process is, by the directory that it holds; None where none tells.

    A name that no build has, where that directory was put out of the way. Raises OSError.
    """
    for link in sorted((process / "fd").iterdir()):
        held = Path(str(link.readlink()).removesuffix(" (deleted)"))
        if held.parent.name == "nmk" and _BUILD.fullmatch(held.name):
            return held.name
    return None


def command_of(process: Path, kept: Collection[str]) -> str:
    """The command that starts such a process anew, with those variables. Raises OSError."""
    words = processes.words_of(process)
    start = next(n for n, word in enumerate(words) if word.rpartition("/")[2] == "nmk")
    chosen = [f"{n}={v}" for n, v in processes.variables(process).items() if n in kept]
    return command(*(["env", *chosen] if chosen else []), *words[start:])


def is_service(process: Path, name: str) -> bool:
    """Whether systemd or OpenRC has started it as that service. Raises OSError."""
    status = processes.read(process / "status").splitlines()
    [parent] = [line.split()[1] for line in status if line.startswith("PPid:")]
    above = " ".join(processes.words_of(process.parent / parent)) if parent != "0" else ""
    return name in processes.read(process / "cgroup") or name in above


def is_check_in(line: str) -> bool:
    """Whether a line of a crontab runs a check-in."""
    return not line.lstrip().startswith("#") and "nmk" in line and " checkin" in line


def _command_lines() -> Iterator[list[str]]:
    for process in processes.roots():
        with suppress(OSError):  # it has just ended
            yield processes.words_of(process)


def _lines(path: Path) -> list[str]:
    """Those of a file that nobody but root has written."""
    try:
        with open_regular(path) as file:
            info = os.fstat(file.fileno())
            if info.st_uid != 0 or info.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                return []
            return file.read(_MOST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
