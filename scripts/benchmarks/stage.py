"""Where it all happens: hosts of the lab, gone with everything on them when the process ends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, cached_property
from itertools import count
from pathlib import Path

from scripts.benchmarks.crowd import Crowd
from scripts.benchmarks.population import FILES, populate
from scripts.benchmarks.server import Controller, Server
from tests.lab import Host, Lab, Process
from tests.mesh import NMK, Mesh

SIZES = {"100": 100, "1k": 1_000, "10k": 10_000}
MANY = SIZES["10k"]
_ROOT = Path(__file__).parents[2]


class Stage:
    """What groups of figures need, made when one first asks for it and kept for the next."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._ports = count(50100)
        self._controllers: dict[int, Controller] = {}

    @cached_property
    def servers(self) -> Host:
        """The host of all servers; they are spoken to on its loopback."""
        return self.machine("servers")

    @cached_property
    def mesh(self) -> Mesh:
        """A controller on an internet of its own, with the network `home`."""
        return Mesh(self.lab)

    def machine(self, name: str) -> Host:
        """A host by itself, with the file `nmk` installed and unpacked."""
        host = self.lab.host(name)
        host.run("install", "-m", "755", str(NMK), "/usr/local/bin/nmk")
        host.run("nmk", "version")
        return host

    def controller(self, nodes: int) -> Controller:
        """`nmk server` with so many nodes, each of which has checked in."""
        if nodes not in self._controllers:
            self._controllers[nodes] = self._make_controller(nodes)
        return self._controllers[nodes]

    def bare(self, size: int) -> Server:
        """A bare Waitress application that answers with so many bytes."""
        port = next(self._ports)
        command = inside("bare", str(port), str(size))
        environment = paths(self.servers)
        return Server(self.servers, port, lambda: self.servers.start(*command, env=environment))

    def _make_controller(self, nodes: int) -> Controller:
        made = self.lab.directory / f"population-{nodes}"
        population = populate(made, nodes)
        host, port = self.servers, next(self._ports)
        target = f"/var/lib/nmk/{port}"
        host.run("mkdir", "-p", "-m", "700", target)
        for name in FILES:
            shutil.copyfile(made / name, f"/proc/{host.pid}/root{target}/{name}")
        listen = ("--listen", f"127.0.0.1:{port}", "--admin-listen", "off")

        def start() -> Process:
            return host.start("nmk", "server", *listen, "--data-dir", target)

        return Controller(host, port, start, Crowd(population))


@contextmanager
def open_stage() -> Iterator[Stage]:
    """A stage; all that is on it ends with it."""
    with Lab() as lab:
        yield Stage(lab)


def run_inside(host: Host, program: str, *arguments: str, stdin: str = "") -> str:
    """What a program of `inside/` prints."""
    return host.run(*inside(program, *arguments), env=paths(host), input=stdin).stdout


def inside(program: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a program of `inside/` on a host."""
    return ("python3", "-m", f"scripts.benchmarks.inside.{program}", *arguments)


def paths(host: Host) -> dict[str, str]:
    """Where Python finds what the file `nmk` carries, first, and then these programs."""
    return {"PYTHONPATH": f"{unpacked(host)}:{_ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}


@cache
def unpacked(host: Host) -> str:
    """The directory on a host with all that the file `nmk` carries."""
    return host.run("sh", "-c", "echo /var/cache/nmk/*").stdout.strip()
