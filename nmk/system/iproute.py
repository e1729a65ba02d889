"""Whether the program `ip` is one that nmk can work with: iproute2's, from 4.17 on.

BusyBox has an `ip` of its own, without `-json` and `-batch`; older ones of iproute2 print no JSON
of rules.
"""

from __future__ import annotations

import re

from nmk.core.nesting import read_json
from nmk.core.parse import quote
from nmk.errors import CommandFailed, CommandUnanswered, ToolMissing
from nmk.system.runner import Runner, find_tool
from nmk.tools import install_hint

_PROBE = ("ip", "-json", "-4", "rule", "show")
# What a program says of options that it does not have; a kernel's "no" begins with RTNETLINK.
_NO_OPTION = re.compile(r"busybox|usage|option|json", re.IGNORECASE)


def check_ip(run: Runner) -> None:
    """Raises ToolMissing where there is no `ip`, or another one; what else fails is left to use."""
    path = find_tool("ip")
    try:
        text = run.read(_PROBE)
    except CommandUnanswered:
        return
    except CommandFailed as error:
        said = error.said
        fault = "is BusyBox's" if "BusyBox" in said else "does not know -json"
        if not _NO_OPTION.search(said):
            return
    else:
        if _is_json(text):
            return
        fault = "prints no JSON"
    raise ToolMissing(
        f"the program {quote(path)} {fault}: nmk needs that of iproute2, 4.17 or later",
        install_hint("ip"),
    )


def _is_json(text: str) -> bool:
    try:
        return isinstance(read_json(text or "[]"), list)
    except ValueError:
        return False
