"""Sites: a LAN, its gateway, and a host that has no nmk; what is seen of them, and what stays."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

from tests.e2e.traces import traces
from tests.lab import Host, Network, patient, poll
from tests.mesh import INTERFACE, Mesh

FAMILIES = (4, 6)
LEFT = {"run /run/wireguard"}  # wireguard-go's, empty
_COUNTERS = re.compile(r" packets \d+ bytes \d+| \[\d+:\d+\]$")
_MORE = {
    "rule4": "ip -4 rule",
    "rule6": "ip -6 rule",
    "iptables": "iptables-save; ip6tables-save",
    "sysctl": "sysctl -a -r '^net.ipv[46].(conf|ip_forward)'",
}
PORT = 4000


@dataclass(frozen=True)
class Site:
    """A LAN that nothing but the gateway leads out of."""

    lan: Network
    gateway: Host
    host: Host

    @property
    def ranges(self) -> list[str]:
        """The LAN's subnets."""
        return [str(subnet) for subnet in self.lan.subnets]

    def address(self, family: int) -> str:
        """The host's."""
        return _of(family, self.host.link(self.lan).addresses)

    def gateway_address(self, family: int) -> str:
        """The gateway's in the LAN."""
        return _of(family, self.gateway.link(self.lan).addresses)

    def lead_to(self, *ranges: str) -> None:
        """The host sends what is for these ranges to the gateway."""
        for cidr in ranges:
            via = self.gateway_address(ip_network(cidr).version)
            self.host.run("ip", "route", "replace", cidr, "via", via)

    def forget_ways(self) -> None:
        """The host knows nothing but its LAN again."""
        for family in FAMILIES:
            shown = self.host.run("ip", f"-{family}", "-j", "route").stdout
            for route in json.loads(shown):
                if "gateway" in route:
                    self.host.run("ip", f"-{family}", "route", "del", route["dst"])


def make_site(mesh: Mesh, name: str, number: int) -> Site:
    """A site whose gateway has joined, and has no role yet."""
    lan = mesh.lab.lan(name, f"192.168.{number}.0/24", cidr6=f"fd{number}::/64")
    gateway = mesh.machine(f"gateway-{name}")
    gateway.attach(lan, f"192.168.{number}.2", f"fd{number}::2")
    return Site(lan, mesh.join(gateway), mesh.lab.host(f"host-{name}", on=lan))


def mesh_ranges(mesh: Mesh) -> list[str]:
    """The network's own ranges."""
    network = mesh.json("network", "show", "home")
    return [network["cidr4"], network["cidr6"]]


def key_of(host: Host) -> str:
    """The public key of a member's interface."""
    return host.run("wg", "show", INTERFACE, "public-key").stdout.strip()


def check_in(*hosts: Host) -> None:
    """Each of them does what the controller says now."""
    for host in hosts:
        host.run("nmk", "checkin")


def give(mesh: Mesh, gateway: str, *words: str) -> str:
    """Make a node an egress gateway; what the command tells people."""
    command = ("nmk", "gateway", "add", "-n", "home", gateway, "egress", *words)
    return mesh.controller.run(*command).stderr


def take(mesh: Mesh, gateway: str, *ranges: str) -> None:
    """Take ranges, or all, from an egress gateway."""
    mesh.admin("gateway", "remove", "-n", "home", gateway, "egress", *ranges, "--yes")


def follow_ways_back(told: str, sites: Iterable[Site]) -> list[str]:
    """Run the `ip route add` lines that a command has told, each on the host that it is for."""
    lines = re.findall(r"^ *(ip route add \S+ via (\S+))$", told, re.MULTILINE)
    for line, via in lines:
        [site] = [s for s in sites if via in s.gateway.link(s.lan).addresses]
        site.host.run(*line.split())
    return [line for line, _ in lines]


# What a machine says


def status(host: Host) -> dict[str, Any]:
    """What `nmk status` says of the only network."""
    [found] = json.loads(host.run("nmk", "status", "-o", "json").stdout)
    assert isinstance(found, dict)
    return found


def told(host: Host, check: str) -> dict[str, Any]:
    """The first finding of `nmk doctor` in a check."""
    findings = json.loads(host.run("nmk", "doctor", "-o", "json", check=False).stdout)
    found = next(f for f in findings if f["check"] == check)
    assert isinstance(found, dict)
    return found


def routed(host: Host) -> dict[str, str | None]:
    """The gateway of each egress range; None where the machine leaves the range out."""
    return {route["range"]: route["gateway"] for route in status(host)["routes"]}


def left_out(mesh: Mesh) -> list[tuple[str, str, str]]:
    """What the controller lists as left out: the node, the range, and the subnet in the way."""
    found = [left for row in gateways_of(mesh) for left in row["left_out"]]
    return [(left["node"], left["range"], left["subnet"]) for left in found]


def gateways_of(mesh: Mesh) -> list[dict[str, Any]]:
    """What the controller lists, a row for each role."""
    rows: list[dict[str, Any]] = mesh.json("gateway", "list", "-n", "home")
    return rows


def commands(host: Host) -> list[str]:
    """What a check-in runs that changes the machine."""
    lines = host.run("nmk", "checkin", "-v").stderr.splitlines()
    return [line for line in lines if "[#]" in line]


def snapshot(host: Host) -> set[str]:
    """All that nmk could leave behind on a machine, or change for good, a line each."""
    found = traces(host)
    for kind, command in _MORE.items():
        lines = host.run("sh", "-c", command, check=False).stdout.splitlines()
        found |= {f"{kind} {line}" for line in lines if not line.startswith("#")}
    return {_COUNTERS.sub("", line) for line in found if not line.endswith(" <defunct>")}


# What comes through


def is_deaf(source: Host, address: str) -> bool:
    """Whether none of several pings is answered."""
    ping = ("ping", "-n", "-c3", "-i0.2", "-W0.6", address)
    return source.run(*ping, check=False).returncode == 1


def source_seen(source: Host, target: Host, address: str, called: str | None = None) -> str:
    """The address that a datagram has come from when it arrives at the target's address.

    `called`: where the source sends it to, if that is another one.
    """
    family = _family(address)

    def arrives() -> str:
        sender.sendto(b"hello", (called or address, PORT))
        with suppress(TimeoutError):
            return str(listener.recvfrom(5)[1][0])
        return ""

    with target.socket(family=family) as listener, source.socket(family=family) as sender:
        listener.bind((address, PORT))
        listener.settimeout(0.5)
        return poll(arrives, 20, f"datagram of {source.name} at {target.name}")


def exchange(
    source: Host,
    target: Host,
    address: str,
    size: int,
    timeout: float = patient(20),
    called: str | None = None,
) -> None:
    """Call an address of the target by TCP, and send so many bytes each way.

    `called` as in `source_seen`. Raises TimeoutError when nothing moves any more.
    """
    kind, family = socket.SOCK_STREAM, _family(address)
    with target.socket(kind, family) as listener, source.socket(kind, family) as caller:
        listener.bind((address, 0))
        listener.listen()
        for end in (listener, caller):
            end.settimeout(timeout)
        caller.connect((called or address, listener.getsockname()[1]))
        callee, _ = listener.accept()
        with callee, ThreadPoolExecutor(1) as pool:
            callee.settimeout(timeout)
            for sender, receiver in ((caller, callee), (callee, caller)):
                sent = pool.submit(sender.sendall, bytes(size))
                left = size
                while left and (came := receiver.recv(left)):
                    left -= len(came)
                sent.result()
                assert not left


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _of(family: int, addresses: Iterable[str]) -> str:
    return next(a for a in addresses if ip_address(a).version == family)
