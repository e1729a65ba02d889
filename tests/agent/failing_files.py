"""Runs a command again and again, and has one file after the other fail; see `test_files_fail`.

`python -m tests.agent.failing_files ERRNO DIRECTORY COMMAND...` prints an outcome a line, as JSON.
What Python does with files below the directory is met by an audit hook (PEP 578), so this needs a
process of its own: hooks stay.
"""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

from nmk.agent import state
from nmk.cli import machine, machine_seeing, main, wishes
from nmk.core.tunnel import Command
from nmk.errors import CommandFailed
from nmk.system import facts, sysctl
from nmk.system.runner import Runner
from nmk.wire.token import encode_token
from tests.agent.controllers import RealController
from tests.agent.memberships import joined, peer
from tests.isolation import see_nothing_here

EVENTS = {
    *("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.link"),
    *("os.listdir", "os.scandir", "fcntl.flock"),
}
MOST = 200  # points of a command


class Deaf(Runner):
    """A machine on which no program does anything, and `ip` finds nothing."""

    def read(self, argv: Sequence[str]) -> str:
        if argv[0] == "ip":
            return ""
        raise CommandFailed(f"{argv[0]} says nothing")

    def change(self, command: Command) -> None:
        raise CommandFailed(f"{command.argv[0]} does nothing")


class Fault:
    """The hook: the `number`th thing that is done with one of our files fails."""

    def __init__(self, directory: str, code: int) -> None:
        self.directory = directory
        self.code = code
        self.number = 0
        self.met: str | None = None
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.number <= 0 or event not in EVENTS:
            return
        path = Path(f"/proc/self/fd/{args[0]}").readlink() if event == "fcntl.flock" else args[0]
        if not isinstance(path, str | os.PathLike) or not str(path).startswith(self.directory):
            return
        self.number -= 1
        if self.number == 0:
            self.met = f"{event} {path}"
            raise OSError(self.code, os.strerror(self.code), str(path))


def run(command: list[str]) -> tuple[int, str]:
    said = io.StringIO()
    with redirect_stdout(io.StringIO()), redirect_stderr(said):
        code = main.run(command)
    return code, said.getvalue()


def sweep(fault: Fault, directory: Path, command: list[str]) -> None:
    (directory / "controller").mkdir()
    with RealController(directory / "controller") as controller:
        os.environ["NMK_JOIN_TOKEN"] = encode_token(controller.token(1000))
        for number in range(1, MOST):
            for name in ("state", "run", "etc"):
                shutil.rmtree(directory / "ours" / name, ignore_errors=True)
            if command[0] != "join":
                (directory / "ours" / "state").mkdir(parents=True)
                state.save(replace(joined(peer(2)), interface="nmk-none", urls=(controller.url,)))
            controller.asked.clear()
            fault.number, fault.met = number, None
            code, said = run(command)
            fault.number = 0
            if fault.met is None:
                return
            left = sorted(path.name for path in (directory / "ours" / "state").glob("*"))
            asked = bool(controller.asked)
            sys.stdout.write(json.dumps([fault.met, code, said, left, asked]) + "\n")


def prepare(directory: Path) -> None:
    for variable, name in (("STATE", "state"), ("RUNTIME", "run"), ("CONFIG", "etc")):
        os.environ[f"NMK_{variable}_DIR"] = str(directory / "ours" / name)
    see_nothing_here(directory / "ours")
    for module in (machine, machine_seeing, wishes):
        vars(module)["runner"] = lambda *_, **__: Deaf()
        vars(module)["check_root"] = lambda _: None
    vars(facts)["check_root"] = lambda _: None
    vars(sysctl)["write"] = lambda *_: None


if __name__ == "__main__":
    code, place, *command = sys.argv[1:]
    prepare(Path(place))
    sweep(Fault(f"{place}/ours", getattr(errno, code)), Path(place), command)
