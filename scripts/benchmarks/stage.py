"""Where it all happens: a host of the lab with controllers and a bare server on it."""

from __future__ import annotations

import os
import shutil
import socket
from functools import cached_property
from itertools import count
from pathlib import Path
from types import TracebackType

from nmk.wire.messages import CheckIn

from scripts.benchmarks.crowd import NOWHERE, Crowd
from scripts.benchmarks.http import Line, post_all
from scripts.benchmarks.population import FILES, NETWORK, populate
from tests.lab import Host, Lab, Process, poll
from tests.mesh import NMK

INSIDE = Path(__file__).parent / "inside"
LINES = 8  # requests under way at a time, as many as the controller has threads
_START_SECONDS = 60


class Server:
    """A process on the stage that answers POSTs on a port of its own."""

    def __init__(self, host: Host, process: Process, port: int) -> None:
        self.process = process
        self._host = host
        self._port = port
        poll(self._answers, _START_SECONDS, f"{process.command}: {process.output}")
        self.pid = _find(host, process.command[-1])
        self.lines = [self.line() for _ in range(LINES)]

    def line(self) -> Line:
        """A new connection."""
        return Line(self._host.socket(socket.SOCK_STREAM), self._port)

    def _answers(self) -> bool:
        assert self.process.running, self.process.output
        try:
            self.line().close()
        except OSError:
            return False
        return True


class Controller(Server):
    """`nmk server` on a database with many nodes, each of which has checked in once."""

    def __init__(self, host: Host, process: Process, port: int, crowd: Crowd) -> None:
        super().__init__(host, process, port)
        self.crowd = crowd
        self.at = NOWHERE
        self.look()
        everybody = crowd.check_ins(self.at, range(len(crowd)))
        for message, reply in zip(
            everybody, post_all(self.lines, CHECK_IN, [m.body for m in everybody]), strict=True
        ):
            assert message.open(reply) == {"at": [self.at.revision, self.at.commit_id]}

    def look(self) -> None:
        """Find out where the network stands: one agent asks for a full view."""
        [message] = self.crowd.check_ins(NOWHERE, [0])
        [reply] = post_all(self.lines[:1], CHECK_IN, [message.body])
        view = message.open(reply)
        self.crowd.epoch = bytes.fromhex(view["epoch"])
        self.at = CheckIn(*view["at"])


CHECK_IN = "/v1/checkin"


class Stage:
    def __init__(self) -> None:
        self._lab = Lab()
        self._ports = count(50100)
        self._controllers: dict[int, Controller] = {}

    def close(self) -> None:
        self._lab.close()

    @cached_property
    def host(self) -> Host:
        host = self._lab.host("bench")
        host.run("install", "-m", "755", str(NMK), "/usr/local/bin/nmk")
        host.run("nmk", "version")
        return host

    @cached_property
    def packages(self) -> str:
        """The directory on the host with what the file `nmk` carries, unpacked."""
        return self.host.run("sh", "-c", "echo /var/cache/nmk/*").stdout.strip()

    def controller(self, nodes: int) -> Controller:
        if nodes not in self._controllers:
            self._controllers[nodes] = self._controller(nodes)
        return self._controllers[nodes]

    def bare(self, size: int) -> Server:
        port = next(self._ports)
        process = self.host.start(
            "python3", str(INSIDE / "bare.py"), str(port), str(size), env={"PYTHONPATH": self.packages}
        )
        return Server(self.host, process, port)

    def _controller(self, nodes: int) -> Controller:
        made = self._lab.directory / f"made-{nodes}"
        population = populate(made, nodes)
        port = next(self._ports)
        target = f"/var/lib/nmk/{port}"
        self.host.run("mkdir", "-p", "-m", "700", target)
        for name in FILES:
            shutil.copyfile(made / name, f"/proc/{self.host.pid}/root{target}/{name}")
        process = self.host.start(
            "nmk", "server", "--admin-listen", "off", "--listen", f"127.0.0.1:{port}", "--data-dir", target
        )
        return Controller(self.host, process, port, Crowd(population))


def _find(host: Host, word: str) -> int:
    """The number, outside, of the host's process with that last word in its command line."""
    inside = os.readlink(f"/proc/{host.pid}/ns/pid")
    for process in Path("/proc").glob("[0-9]*"):
        words = (process / "cmdline").read_bytes().split(b"\0")
        if words[-2:-1] == [word.encode()] and os.readlink(process / "ns/pid") == inside:
            return int(process.name)
    raise AssertionError(f"no process with {word}")
