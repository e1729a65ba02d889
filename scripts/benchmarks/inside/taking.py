"""Checks in once, and makes of the view what a tick does, up to the commands that would run.

Prints as JSON: the most memory that this process had, its CPU seconds since it began to ask, and
what the check-in failed with.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click  # noqa: F401  # as `nmk checkin` has it

from nmk.agent import state
from nmk.agent.desired import desired
from nmk.agent.exchange import check_in
from nmk.agent.tick import api_of, collect_facts
from nmk.core.tunnel import diff_tunnel, plan_changes
from nmk.errors import NmkError


def take() -> str | None:
    """The code of the failure."""
    me = state.load("home")
    try:
        after = check_in(me, api_of(me), collect_facts(me, {}))
        state.save(after)
    except NmkError as error:
        return error.code
    if after.known != me.known:
        tunnel = desired(after, {}, ("192.168.1.7/24",)).tunnel
        plan_changes(tunnel, None, diff_tunnel(tunnel, None, {}), {}, ("true",))
    return None


def peak_bytes() -> int:
    """The most that was in RAM (proc(5)); getrusage(2) would count who started this process."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


before = time.process_time()
failed = take()
print(
    json.dumps(
        {
            "cpu": time.process_time() - before,
            "peak": peak_bytes(),
            "failed": failed,
        }
    )
)
