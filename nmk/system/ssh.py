"""A script run on another machine over ssh, as the admin's own ssh and its settings would."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from typing import IO

from nmk.errors import ToolMissing
from nmk.system.runner import environment, find_tool
from nmk.tools import has_tool, install_hint

MOST_OUTPUT = 1024 * 1024  # bytes of standard output that are read
_OPTIONS = (
    "ConnectTimeout=15",
    "ServerAliveInterval=15",  # seconds; a machine that is gone ends the session after a minute
    "ServerAliveCountMax=4",
    "ClearAllForwardings=yes",
    "RemoteCommand=none",
    "ControlMaster=no",  # a master goes on in the background, and would keep our pipe open
)

Hear = Callable[[str], None]


def ssh_command(machine: str, options: Sequence[str], *, ask: bool) -> list[str]:
    """The command up to what is to be run there.

    `options` are as for `ssh -o` and win over all others (ssh_config(5): the first value counts).
    Unless it may `ask`, ssh fails where it would ask for a password or about a host key.
    """
    given = [*options, *([] if ask else ["BatchMode=yes"]), *_OPTIONS]
    return ["ssh", "-T", "-a", "-x", *(w for o in given for w in ("-o", o)), "--", machine]


def check_ssh() -> None:
    """Raise ToolMissing where there is no ssh."""
    if not has_tool("ssh"):
        raise ToolMissing('the program "ssh" is not installed', install_hint("ssh"))


def run_there(command: Sequence[str], script: str, stdin: bytes, hear: Hear) -> tuple[int, str]:
    """Run a shell script by such a command; its exit code (255: ssh's own) and standard output.

    `hear` gets each line of standard error as it comes. What is secret goes by `stdin`, never in
    the script, which other users there can read.
    """
    with _scratch() as given, _scratch() as output:
        given.write(stdin)
        given.seek(0)
        process = subprocess.Popen(
            [find_tool(command[0]), *command[1:], f"exec sh -c {shlex.quote(script)}"],
            stdin=given,
            stdout=output,
            stderr=subprocess.PIPE,
            env=environment(),
            text=True,
            errors="replace",
        )
        assert process.stderr is not None  # noqa: S101  # it is a pipe
        with process.stderr:
            for line in process.stderr:
                hear(line)
        exit_code = process.wait()
        output.seek(0)
        return exit_code, output.read(MOST_OUTPUT).decode(errors="replace")


def _scratch() -> IO[bytes]:
    return os.fdopen(os.memfd_create("nmk"), "w+b")  # no token on a disk
