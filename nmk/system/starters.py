"""What on this machine makes check-ins happen: a running agent, or cron."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nmk.files import open_regular
from nmk.tools import has_tool, nmk_command

_PROC = Path("/proc")
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
CRONS = ("cron", "crond", "fcron")
"""Daemons; cronie's, dcron's and busybox's are called crond."""


def agent_runs() -> bool:
    """Whether an `nmk agent` is running."""
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


def agent_environments() -> Iterator[dict[str, str]]:
    """What each `nmk agent` in this network namespace has been started with, as variables."""
    for path in _PROC.glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
            here = path.with_name("ns").joinpath("net").samefile("/proc/self/ns/net")
            if here and nmk_command(words) == "agent":
                raw = path.with_name("environ").read_bytes().decode(errors="replace")
                yield dict(pair.split("=", 1) for pair in raw.split("\0") if "=" in pair)
        except OSError:  # it has just ended, or is another's
            continue


def is_check_in(line: str) -> bool:
    """Whether a line of a crontab runs a check-in."""
    return not line.lstrip().startswith("#") and "nmk" in line and " checkin" in line


def _command_lines() -> Iterator[list[str]]:
    for path in _PROC.glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:  # it has just ended
            continue


def _lines(path: Path) -> list[str]:
    try:
        with open_regular(path) as file:
            return file.read(_MOST_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
