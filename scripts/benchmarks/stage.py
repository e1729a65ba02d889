"""Where it all happens: hosts of the lab, gone with everything on them when the process ends."""

from __future__ import annotations

import shutil
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from types import TracebackType

from scripts.benchmarks.crowd import Crowd
from scripts.benchmarks.population import FILES, populate
from scripts.benchmarks.server import Controller, Server
from tests.lab import Host, Lab, Process
from tests.mesh import NMK

INSIDE = Path(__file__).parent / "inside"
SIZES = {"100": 100, "1k": 1_000, "10k": 10_000}
MANY = SIZES["10k"]


class Stage:
    """What groups of figures need, made when one first asks for it and kept for the next."""

    def __init__(self) -> None:
        self.lab = Lab()
        self._ports = count(50100)
        self._controllers: dict[int, Controller] = {}

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.lab.close()

    @cached_property
    def host(self) -> Host:
        """A host of its own for the servers; they are spoken to on its loopback."""
        host = self.lab.host("servers")
        host.run("install", "-m", "755", str(NMK), "/usr/local/bin/nmk")
        return host

    def controller(self, nodes: int) -> Controller:
        """`nmk server` with so many nodes, each of which has checked in."""
        if nodes not in self._controllers:
            self._controllers[nodes] = self._make_controller(nodes)
        return self._controllers[nodes]

    def bare(self, size: int) -> Server:
        """A bare Waitress application that answers with so many bytes."""
        port = next(self._ports)
        command = ("python3", str(INSIDE / "bare.py"), str(port), str(size))
        packages = unpacked(self.host)
        return Server(
            self.host, port, lambda: self.host.start(*command, env={"PYTHONPATH": packages})
        )

    def _make_controller(self, nodes: int) -> Controller:
        made = self.lab.directory / f"population-{nodes}"
        population = populate(made, nodes)
        port = next(self._ports)
        target = f"/var/lib/nmk/{port}"
        self.host.run("mkdir", "-p", "-m", "700", target)
        for name in FILES:
            shutil.copyfile(made / name, f"/proc/{self.host.pid}/root{target}/{name}")
        listen = ("--listen", f"127.0.0.1:{port}", "--admin-listen", "off")

        def start() -> Process:
            return self.host.start("nmk", "server", *listen, "--data-dir", target)

        return Controller(self.host, port, start, Crowd(population))


@cache
def unpacked(host: Host) -> str:
    """The directory on a host with all that the file `nmk` carries, as it unpacks itself."""
    host.run("nmk", "version")
    return host.run("sh", "-c", "echo /var/cache/nmk/*").stdout.strip()
