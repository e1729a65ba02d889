"""A controller and machines in the lab, driven by the one file as their owners would."""

from __future__ import annotations

import functools
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.lab import CommandFailed, Host, Lab, Network, Process, patient, poll

NMK = Path(__file__).parent.parent / "dist" / "nmk"
PORT = 50051
INTERFACE = "nmk-home"
CACHE = "/var/cache/nmk"
UNPACKED = NMK.with_name("unpacked")  # CACHE as a first start leaves it, where that takes too long


@functools.cache
def unpacked() -> Path:
    """What the file has unpacked at its first start, on a host that is there as long as we are.

    That takes longer than most of what tests do with the file.
    """
    host = Lab().host("first")
    if UNPACKED.exists():
        subprocess.run(["cp", "-aT", UNPACKED, f"/proc/{host.pid}/root{CACHE}"], check=True)
    host.run(str(NMK), "--version")
    return host.disk.at(CACHE)


class Mesh:
    """A controller on a host of the internet, and the network `home`.

    Machines join with `join`; each runs the installed file, `nmk`.
    """

    def __init__(self, lab: Lab, *ranges: str, settings: tuple[str, ...] = ()) -> None:
        self.lab = lab
        self.internet: Network = lab.internet()
        self.controller = self.machine("controller")
        self.server: Process | None = None
        self.start()
        self.admin("network", "create", "home", *ranges)
        if settings:
            self.admin("network", "set", "home", *settings)

    @property
    def urls(self) -> tuple[str, str]:
        """Where machines reach the controller."""
        return (
            f"http://{self.controller.address}:{PORT}",
            f"http://[{self.controller.address6}]:{PORT}",
        )

    def machine(self, name: str, on: Network | None = None, **options: Any) -> Host:
        """A host with the file installed, as after its first start, not joined yet."""
        linked = {CACHE: unpacked()}
        host = self.lab.host(name, on=on or self.internet, linked=linked, **options)
        host.run("install", "-m", "755", str(NMK), "/usr/local/bin/nmk")
        return host

    def start(self, *options: str) -> None:
        """Start the controller and wait until it answers."""
        self.server = self.controller.start("nmk", "server", *options)
        try:
            self.controller.run("nmk", "server", "wait", "--timeout", str(patient(30)))
        except CommandFailed as error:
            raise AssertionError(self.server.output) from error

    def stop(self) -> None:
        """Stop the controller as systemd would; it must end cleanly."""
        assert self.server
        self.server.terminate()
        assert self.server.wait() == 0, self.server.output
        self.server = None

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """A while without the controller."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def admin(self, *command: str) -> str:
        """What an admin's command prints on the controller's host."""
        return self.controller.run("nmk", *command).stdout

    def json(self, *command: str) -> Any:
        """The same as JSON."""
        return json.loads(self.admin(*command, "-o", "json"))

    def token(self, *options: str) -> str:
        """A new key's join token."""
        return self.admin("key", "create", "-n", "home", *options).strip()

    def join(self, host: Host, *options: str, token: str | None = None) -> Host:
        """Let a machine join; gives it back."""
        host.run("nmk", "join", "-", *options, input=token or self.token())
        return host

    def members(self, *names: str) -> list[Host]:
        """New machines that have joined, and know of one another."""
        hosts = [self.join(self.machine(name)) for name in names]
        for host in hosts:
            host.run("nmk", "checkin")
        return hosts

    def nodes(self) -> dict[str, dict[str, Any]]:
        """All nodes by name, as the controller lists them."""
        return {node["name"]: node for node in self.json("node", "list", "-n", "home")}

    def address(self, name: str, family: int = 4) -> str:
        """A node's address in the network."""
        addresses: list[str] = self.nodes()[name]["addresses"]
        return next(a for a in addresses if (":" in a) == (family == 6))


class Failure(NamedTuple):
    """How a command ended, and what it told people."""

    exit_code: int
    message: str
    hint: str


def install_cron(host: Host) -> None:
    """A cron that reads /etc/cron.d, as most machines have, and the one of the tests may not."""
    host.run("mkdir", "-p", "/etc/cron.d")
    host.run("sh", "-c", "command -v cron || install -m 755 /bin/true /usr/sbin/cron")


def failure(host: Host, *command: str, **options: Any) -> Failure:
    """The failure of an `nmk` command that must not succeed."""
    done = host.run("nmk", *command, check=False, **options)
    told = re.search(r"^nmk: (.*)\n  try: (.*)\n\Z", done.stderr, re.MULTILINE)
    assert told, f"{done.args} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return Failure(done.returncode, *told.groups())


def reaches(source: Host, address: str, deadline_seconds: float = 30) -> None:
    """Wait until a ping through the mesh is answered."""

    def answered() -> bool:
        return source.run("ping", "-n", "-c1", "-W1", address, check=False).returncode == 0

    poll(answered, deadline_seconds, f"{source.name} reaches {address}")


def live_addresses(host: Host, interface: str = INTERFACE) -> list[str]:
    """What `ip` shows on the interface, link-local addresses left out."""
    [link] = json.loads(host.run("ip", "-j", "addr", "show", "dev", interface).stdout)
    return [a["local"] for a in link["addr_info"] if a["scope"] == "global"]


def live_peers(host: Host, what: str, interface: str = INTERFACE) -> dict[str, str]:
    """What `wg show` says of each peer, by its key: endpoints, latest-handshakes, transfer, ..."""
    lines = host.run("wg", "show", interface, what).stdout.splitlines()
    return dict(line.split("\t", 1) for line in lines)


def has_interface(host: Host, interface: str = INTERFACE) -> bool:
    """Whether the machine has the interface."""
    return host.run("test", "-e", f"/sys/class/net/{interface}", check=False).returncode == 0
