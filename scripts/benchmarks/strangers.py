"""What strangers can make a controller hold: memory, files, and the time of others."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series, resident_bytes
from scripts.benchmarks.server import Controller
from scripts.benchmarks.stage import Stage

NODES = 100
CHECK_INS = 50
WATCHED_SECONDS = 2
_PROGRAM = b"GET /nmk HTTP/1.1\r\nHost: nmk\r\n\r\n" * 20
_POST = b"POST /v1/checkin HTTP/1.1\r\nHost: nmk\r\n"
_HEAD = _POST + b"X: " + b"x" * 8000
_BODY = _POST + b"Content-Length: 260000\r\n\r\n" + b"x" * 259_000
_ATTACKS = {
    "unread": ((_PROGRAM, 4, 1), (_PROGRAM, 60, 1)),
    "unsent": ((_HEAD, 50, 4), (_BODY, 163, 4)),
}
"""By the names of their figures: what is sent, on how many connections, from how many addresses."""


def measure_strangers(stage: Stage, rounds: Iterable[int]) -> Values:
    """The most that the controller has while strangers are at it, above what it had before."""
    controller = stage.controller(NODES)
    memory, disk, wall = Series(), Series(), Series()
    for _ in rounds:
        for name, attack in _ATTACKS.items():
            controller.restart()
            before = controller.check_in(range(CHECK_INS)).wall
            idle = resident_bytes(controller.pid)
            with strangers(stage, controller, attack):
                most, files = _watch(controller.pid)
                wall.add(name, controller.check_in(range(CHECK_INS)).wall / before)
            memory.add(name, (most - idle) / 1e6)
            disk.add(name, files / 1e6)
    controller.restart()
    return {
        **{f"stranger-memory-{name}": memory.median(name) for name in _ATTACKS},
        **{f"stranger-wait-{name}": wall.median(name) for name in _ATTACKS},
        "stranger-disk": max(disk.median(name) for name in _ATTACKS),
    }


@contextmanager
def strangers(
    stage: Stage, controller: Controller, attack: Iterable[tuple[bytes, int, int]]
) -> Iterator[None]:
    """Connections on which something was sent and nothing is read."""
    with ExitStack() as stack:
        for data, connections, addresses in attack:
            for number in range(connections * addresses):
                made = stack.enter_context(stage.servers.socket(socket.SOCK_STREAM))
                made.bind((f"127.0.1.{number % addresses + 1}", 0))
                made.settimeout(10)
                made.connect(("127.0.0.1", controller.port))
                made.setblocking(False)
                with suppress(OSError):  # cut off already
                    made.send(data)
        yield


def _watch(pid: int) -> tuple[int, int]:
    """The most bytes in RAM, and in files without a name, for a while."""
    end, memory, files = time.monotonic() + WATCHED_SECONDS, 0, 0
    while time.monotonic() < end:
        memory = max(memory, resident_bytes(pid))
        files = max(files, _nameless_bytes(pid))
        time.sleep(0.05)
    return memory, files


def _nameless_bytes(pid: int) -> int:
    size = 0
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if str(descriptor.readlink()).endswith(" (deleted)"):
                size += descriptor.stat().st_size
    return size


STRANGERS = Group(
    (
        Figure("stranger-memory-unread", "MB", 20, "RAM for 64 clients that read no reply"),
        Figure("stranger-memory-unsent", "MB", 110, "RAM for 852 requests that never end"),
        Figure("stranger-wait-unread", "x", 3, "time of check-ins beside the former / without"),
        Figure("stranger-wait-unsent", "x", 25, "time of check-ins beside the latter / without"),
        Figure("stranger-disk", "MB", 0, "files for either"),
    ),
    rounds=3,
    measure=measure_strangers,
)
