"""The one place that runs commands.

A `Runner` tells commands that only look (`read`) from those that change the machine (`change`),
so that the latter can be shown, or shown instead of run. No secret is ever in a command's
arguments: those travel on standard input.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from nmk.core.parse import quote
from nmk.core.tunnel import Command
from nmk.errors import BatchFailed, CommandFailed, CommandUnanswered, ToolMissing
from nmk.system import scratch
from nmk.system.capabilities import FORBIDDEN, why_forbidden
from nmk.tools import install_hint, search_path

# Far above what any of our commands takes, which a lock is held for: `wg` asks the process of a
# userspace WireGuard, which may be stopped, and `ip` or `nft` may be wrappers of somebody's.
_LIMIT = 8.0  # seconds
_LIMITS = dict.fromkeys(("systemctl", "rc-service"), 60.0)  # seconds; they wait for services
_AGAIN = 1.0  # seconds, for a program that did not answer the last time
_NOT_RUN = {126, 127}  # exit statuses of what could not be started, or lacks a library
_FAILED = re.compile(r"Command failed -:(\d{1,6})", re.ASCII)
_WORDS = re.compile(r"[^\W\d_]")
_FRAMES = ("\u2502", "\u2503", "\u2551", "|")
_POLL = 0.02  # seconds between two looks

Show = Callable[[str], None]


class Runner:
    """Runs commands on this machine.

    `show` is told of each one that changes it, `warn` what its owner must hear in any case, `note`
    what somebody who looks on may like to know. `limit`: seconds that a command is waited for.
    """

    dry = False

    def __init__(
        self,
        show: Show | None = None,
        warn: Show | None = None,
        note: Show | None = None,
        limit: float = _LIMIT,
    ) -> None:
        self._limit = limit
        self.show = show or _say_nothing
        self.warn = warn or _say_nothing
        self.note = note or _say_nothing
        self._silent: set[str] = set()  # programs that did not answer the last time

    def read(self, argv: Sequence[str]) -> str:
        """What a command prints that only looks. Raises ToolMissing, CommandFailed.

        CommandUnanswered where it was cut short, and so says nothing of what it was to look at.
        """
        return self._run(argv, None)

    def change(self, command: Command) -> None:
        """Run a command that changes the machine. Raises ToolMissing, CommandFailed."""
        self.show(describe(command))
        try:
            self._run(command.argv, command.stdin)
        except CommandFailed as error:
            if failed := failed_lines(command.stdin or "", error.said):
                batch = BatchFailed(_describe_failed(command, failed), failed)
                batch.hint = error.hint
                raise batch from None
            raise

    def _run(self, argv: Sequence[str], stdin: str | None) -> str:
        program = argv[0]
        limit = _AGAIN if program in self._silent else _LIMITS.get(program, self._limit)
        try:
            said = _run(argv, stdin, limit)
        except CommandUnanswered:
            self._silent.add(program)
            raise
        self._silent.discard(program)
        return said

    def wait(self, what: str, ready: Callable[[], bool], seconds: float = 5) -> None:
        """Return as soon as `ready` holds. Raises CommandFailed when it does not in time."""
        deadline = time.monotonic() + seconds
        while not ready():
            if time.monotonic() >= deadline:
                raise CommandFailed(f"waited {seconds:g} s in vain: {what}")
            time.sleep(_POLL)


class DryRunner(Runner):
    """Looks at the machine, and shows what it would change instead of changing it."""

    dry = True

    def change(self, command: Command) -> None:
        """Show the command."""
        self.show(describe(command))

    def wait(self, what: str, ready: Callable[[], bool], seconds: float = 5) -> None:
        """Nothing was changed, so there is nothing to wait for."""


def describe(command: Command) -> str:
    """The command as it is shown, with what `ip` and `nft` read; what `wg` reads has keys in it."""
    lines = (command.stdin or "").splitlines() if command.argv[0] != "wg" else []
    return "\n    ".join([f"[#] {command}", *lines])


def failed_lines(batch: str, said: str) -> dict[str, str]:
    """Which lines of a batch failed and why, as `ip -force -batch -` says it (ip(8))."""
    lines, found, reason = batch.splitlines(), dict[str, str](), ""
    for line in said.splitlines():
        match = _FAILED.fullmatch(line.strip())
        if match is None:
            reason = line.strip()
        elif 0 < int(match[1]) <= len(lines):
            found[lines[int(match[1]) - 1]] = reason
    return found


def _describe_failed(command: Command, failed: dict[str, str]) -> str:
    [(line, reason), *more] = failed.items()
    others = f"; and {len(more)} more lines" if more else ""
    return f"{quote(f'{command.argv[0]} {line}')}: {reason}{others}"


def find_tool(name: str) -> str:
    """The path of a program. Raises ToolMissing that names the package."""
    path = shutil.which(name, path=search_path())
    if path is None:
        raise ToolMissing(f"the program {quote(name)} is not installed", install_hint(name))
    return path


def _run(argv: Sequence[str], stdin: str | None, limit: float) -> str:
    path = find_tool(argv[0])
    shown = quote(" ".join(argv))
    # A userspace WireGuard stays in the background, and may keep them open.
    with (
        scratch.holding((stdin or "").encode()) as given,
        scratch.empty() as out,
        scratch.empty() as err,
    ):
        try:
            process = subprocess.Popen(
                [path, *argv[1:]],
                stdin=given,
                stdout=out,
                stderr=err,
                env=environment(),
                cwd="/",
                start_new_session=True,  # so that Ctrl-C ends nmk and not the tunnel
            )
        except OSError as error:
            raise CommandUnanswered(f"{shown} cannot be run: {error.strerror}") from None
        try:
            returncode = _wait(process, limit)
        except subprocess.TimeoutExpired:
            raise CommandUnanswered(f"{shown} did not answer in {limit:g} s") from None
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
            scratch.seal(out)
            scratch.seal(err)
        if returncode < 0:
            raise CommandUnanswered(f"{shown} was killed by signal {-returncode}")
        if returncode != 0:
            out.seek(0)
            err.seek(0)
            printed, said = (file.read().decode(errors="replace") for file in (out, err))
            kept = why_forbidden(argv[0], f"{printed}\n{said}")
            kind = CommandUnanswered if returncode in _NOT_RUN or kept else CommandFailed
            reason = _last_line(printed, said, FORBIDDEN if kept else _WORDS)
            failure = kind(f"{shown} ended with {returncode}: {reason}")
            failure.said = said
            if "BusyBox" in said:  # a program of this name that is not the one that is meant
                failure.hint = install_hint(argv[0])
            failure.hint = kept or failure.hint
            raise failure
        out.seek(0)
        return out.read().decode(errors="replace")


def _wait(process: subprocess.Popen[bytes], limit: float) -> int:
    """The exit status, as soon as there is one. Raises TimeoutExpired.

    Python's own wait looks now and then, up to 50 ms late; pidfd_open(2) needs Linux 5.3.
    """
    with suppress(OSError):
        handle = os.pidfd_open(process.pid)
        try:
            select.select([handle], [], [], limit)
        finally:
            os.close(handle)
        return process.wait(0)
    return process.wait(limit)


def _say_nothing(_text: str) -> None:
    pass


def environment() -> dict[str, str]:
    """Ours without nmk's secrets, which a tunnel's process would keep for as long as it lives."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("NMK_")}
    # WG_SUDO: boringtun shall not give up root, which it needs to make its interface.
    return {**kept, "PATH": search_path(), "LC_ALL": "C", "WG_SUDO": "1"}


def _last_line(printed: str, said: str, sought: re.Pattern[str]) -> str:
    """The last that has what is sought, of standard error if it has any.

    Some programs draw a frame around what they say: wireguard-go around advice, while the reason is
    on standard output. What is framed is only taken where there is nothing else.
    """
    lines = [line.strip() for text in (printed, said) for line in text.splitlines()]
    lines = [line for line in lines if sought.search(line)]
    plain = [line for line in lines if not line.startswith(_FRAMES)]
    return (plain or lines or ["it does not say why"])[-1].strip(f"{''.join(_FRAMES)} ")
