"""One ping by the system's own program, which is iputils' or busybox's."""

from __future__ import annotations

import re
from dataclasses import dataclass

from nmk.errors import CommandFailed
from nmk.system.runner import Runner

_TIME = re.compile(r"\btime=([0-9.]+) ?ms")
_HEADERS = {4: 28, 6: 48}  # bytes of IP and ICMP around what ping's -s counts


@dataclass(frozen=True, slots=True)
class Echo:
    """What came back: after so many milliseconds, or None and why not, as ping says it."""

    milliseconds: float | None
    reason: str = ""


def ping(
    run: Runner, interface: str, address: str, *, size: int | None = None, seconds: int = 2
) -> Echo:
    """Send one echo request by an interface, and wait for its answer. Raises ToolMissing.

    `size`: of the whole IP packet in bytes, which then may not be fragmented; iputils only.
    """
    argv = ["ping", "-n", "-c", "1", "-W", str(seconds), "-I", interface]
    if size is not None:
        headers = _HEADERS[6 if ":" in address else 4]
        argv += ["-M", "do", "-s", str(size - headers)]
    try:
        return parse_ping(run.read([*argv, address]))
    except CommandFailed as error:
        return Echo(None, error.message)


def parse_ping(text: str) -> Echo:
    """The answer in what ping printed."""
    found = _TIME.search(text)
    return Echo(float(found[1])) if found else Echo(None, "no answer")


def can_size(run: Runner) -> bool:
    """Whether this ping can send packets that may not be fragmented. Raises ToolMissing."""
    try:
        return "iputils" in run.read(["ping", "-V"])
    except CommandFailed:
        return False
