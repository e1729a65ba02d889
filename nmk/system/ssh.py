"""A script run on another machine over ssh, as the admin's own ssh and its settings would."""

from __future__ import annotations

import os
import selectors
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence

from nmk.errors import CommandFailed, ToolMissing
from nmk.system import scratch
from nmk.system.runner import environment, find_tool
from nmk.tools import has_tool, install_hint

MOST_OUTPUT = 4 * 1024 * 1024  # bytes of standard output
MOST_SAID = 256 * 1024  # bytes of standard error, which apt-get writes to as well
LONGEST = 900.0  # seconds for one machine, installing what is missing included
_LONGEST_LINE = 1000  # bytes; the rest of a line is left out
_CHUNK = 64 * 1024
_GRACE = 5.0  # seconds for ssh to end when it is asked to
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


def run_there(
    command: Sequence[str], script: str, stdin: bytes, hear: Hear, seconds: float = LONGEST
) -> tuple[int, str]:
    """Run a shell script by such a command; its exit code (255: ssh's own) and standard output.

    `hear` gets each line of standard error as it comes. What is secret goes by `stdin`, never in
    the script, which other users there can read. Raises CommandFailed where the machine says more
    than MOST_OUTPUT or MOST_SAID, or has not ended after so many `seconds`.
    """
    with scratch.holding(stdin) as given:
        process = subprocess.Popen(
            [find_tool(command[0]), *command[1:], f"exec sh -c {shlex.quote(script)}"],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        deadline = time.monotonic() + seconds
        try:
            output = _listen(process, hear, deadline)
            return process.wait(max(0.0, deadline - time.monotonic())), output
        except (_TooLong, subprocess.TimeoutExpired):
            raise CommandFailed(f"it has not ended after {seconds:g} seconds") from None
        finally:
            _end(process)


class _TooLong(Exception):
    """The time is over."""


def _listen(process: subprocess.Popen[bytes], hear: Hear, deadline: float) -> str:
    """Standard output, when both streams have ended. Raises CommandFailed, _TooLong."""
    assert process.stdout is not None  # noqa: S101  # they are pipes
    assert process.stderr is not None  # noqa: S101
    output, said, rest = bytearray(), 0, b""
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0:
                raise _TooLong
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, _CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    output += chunk
                else:
                    said += len(chunk)
                    *lines, rest = (rest + chunk).replace(b"\r", b"\n").split(b"\n")
                    rest = rest[:_LONGEST_LINE]
                    for line in filter(None, lines):
                        hear(_text(line))
            if len(output) > MOST_OUTPUT or said > MOST_SAID:
                raise CommandFailed("it says more than an invitation needs")
    if rest:
        hear(_text(rest))
    return output.decode(errors="replace")


def _text(line: bytes) -> str:
    return line[:_LONGEST_LINE].decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let nothing of the session go on. ssh ends its own helpers when it is asked to."""
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()
    process.terminate()  # nothing, where it has ended
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
