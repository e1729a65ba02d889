"""What on this machine makes check-ins happen: a running agent, or cron."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nmk.files import open_regular
from nmk.tools import nmk_command

_PROC = Path("/proc")
_CRONTABS = (
    "/etc/crontab",
    "/etc/cron.d/*",
    "/etc/crontabs/root",
    "/var/spool/cron/root",
    "/var/spool/cron/crontabs/root",
)
_MOST_BYTES = 256 * 1024  # of a crontab
_CRONS = {"cron", "crond", "fcron", "cronie", "busybox crond"}


def agent_runs() -> bool:
    """Whether an `nmk agent` is running."""
    return any(nmk_command(words) == "agent" for words in _command_lines())


def cron_runs() -> bool:
    """Whether a cron daemon is running."""
    return any(
        words and (words[0].rpartition("/")[2] in _CRONS or "crond" in words[1:2])
        for words in _command_lines()
    )


def crontab() -> str | None:
    """The path of a table that has cron run `nmk checkin`; None where there is none."""
    for pattern in _CRONTABS:
        for path in sorted(Path("/").glob(pattern.lstrip("/"))):
            if any(is_check_in(line) for line in _lines(path)):
                return str(path)
    return None


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
