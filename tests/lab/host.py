"""A host: namespaces of its own on a disk of its own, with links to networks."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .disk import Disk
from .errors import LabError
from .lifeline import Lifeline
from .polling import patient, poll
from .process import Process, enter, run

if TYPE_CHECKING:
    from .network import Network

NAMESPACES = ("mount", "uts", "ipc", "net", "pid")

PATIENCE_SECONDS = patient(60)

CLONE_NEWNET = 0x40000000


@dataclass
class Link:
    """A cable from a host's interface to a network's switch.

    `port` is the switch's end; it and `mac` stay the same when the host reboots.
    """

    network: Network
    interface: str
    port: str
    mac: str
    addresses: list[str]
    plugged: bool = True

    @property
    def address(self) -> str:
        """The first IPv4 address."""
        return next(address for address in self.addresses if ":" not in address)

    @property
    def address6(self) -> str | None:
        """The first IPv6 address, if there is one."""
        return next((address for address in self.addresses if ":" in address), None)


class Host:
    """A machine of the lab; made by `Lab.host`.

    It has network, mount, PID, IPC and UTS namespaces, sees the machine's files, and writes to
    a disk of its own. `startup` is a shell script that runs at every boot, before links come up.
    """

    def __init__(self, name: str, lifeline: Lifeline, disk: Disk, logs: Path, startup: str) -> None:
        self.name = name
        self.links: list[Link] = []
        self._lifeline = lifeline
        self.disk = disk
        self._logs = logs
        self._processes: list[Process] = []
        self._startup = startup
        self._routes: dict[str, str] = {}
        self.boot()

    # Running commands

    def run(
        self,
        *command: str,
        check: bool = True,
        input: str | None = None,  # noqa: A002 - named as in subprocess.run
        env: dict[str, str] | None = None,
        timeout: float = PATIENCE_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root in `/` and wait for its end.

        `env` adds to a clean environment. Raises CommandFailed, with all that it wrote, when
        `check` is set and it fails, and always when it takes more than `timeout` seconds.
        """
        return run(
            self.name, self._inside, command, check=check, stdin=input, env=env, timeout=timeout
        )

    def start(self, *command: str, env: dict[str, str] | None = None) -> Process:
        """Start a command in the background; it ends with the host, if not before."""
        log = self._logs / f"{self.name}-{len(self._processes) + 1}-{Path(command[0]).name}.log"
        process = Process(self.name, self._inside, command, env, log)
        self._processes.append(process)
        return process

    def read(self, path: str) -> str:
        """The text of a file. Raises CommandFailed when it cannot be read."""
        return self.run("cat", "--", path).stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file, and make the directories above it."""
        self.run("install", "-D", f"--mode={mode:o}", "/dev/stdin", path, input=text)

    def socket(
        self,
        kind: socket.SocketKind = socket.SOCK_DGRAM,
        family: socket.AddressFamily = socket.AF_INET,
    ) -> socket.socket:
        """A socket of this process in the host's network."""
        with self._network():
            return socket.socket(family, kind)

    # Power

    def boot(self) -> None:
        """Start the host, with the disk and the links that it has, after `stop`."""
        self._holder = self._lifeline.hold(
            [f"--{name}" for name in NAMESPACES]
            + ["--fork", "--kill-child", "--propagation=private"],
            f"{self.disk.mount_script()}\n{BOOT}",
            self.name,
        )
        if self._startup:
            self.run("sh", "-euc", self._startup)
        for link in self.links:
            self._connect(link)
        for destination, via in self._routes.items():
            self._ip(f"route replace {destination} via {via}")

    def stop(self) -> None:
        """Pull the power plug: every process of the host is killed, its disk stays."""
        self._holder.kill()
        self.reap()
        for link in self.links:
            link.network.disconnect(link)

    def reap(self) -> None:
        """Wait for the end of all background commands, once the host has ended."""
        for process in self._processes:
            process.wait()

    def reboot(self) -> None:
        """Kill every process of the host and start it again on the same disk and links."""
        self.stop()
        self.boot()

    # Networks

    @property
    def address(self) -> str:
        """The IPv4 address of the first link."""
        return self.links[0].address

    @property
    def address6(self) -> str | None:
        """The IPv6 address of the first link, if it has one."""
        return self.links[0].address6

    def link(self, network: Network) -> Link:
        """The link to a network. Raises LabError when there is none."""
        for link in self.links:
            if link.network is network:
                return link
        raise LabError(f"{self.name} is not attached to {network.name}")

    def attach(
        self, network: Network, address: str | None = None, address6: str | None = None
    ) -> Link:
        """Connect the next interface (eth0, eth1, ...) to a network; free addresses by default."""
        return self.connect(network, network.take(address, address6))

    def connect(self, network: Network, addresses: list[str]) -> Link:
        """Connect the next interface to a network, with addresses that are its own to choose."""
        link = Link(
            network,
            interface=f"eth{len(self.links)}",
            port=network.next_port(),
            mac=network.next_mac(),
            addresses=addresses,
        )
        self.links.append(link)
        self._connect(link)
        return link

    def readdress(self, network: Network, address: str, address6: str | None = None) -> None:
        """Give the link to a network other addresses, as a DHCP server might."""
        link = self.link(network)
        link.addresses = network.take(address, address6 or link.address6)
        self._ip(f"addr flush dev {link.interface} scope global", *self._addressing(link))
        network.apply_faults()

    def unplug(self, network: Network) -> None:
        """Pull the cable: the interface stays and loses its carrier."""
        self._plug(network, False)

    def plug(self, network: Network) -> None:
        """Put the cable back."""
        self._plug(network, True)

    def route(self, destination: str, via: str) -> None:
        """Add a static route, now and at every boot."""
        self._routes[destination] = via
        self._ip(f"route replace {destination} via {via}")

    # Inside

    @property
    def pid(self) -> int:
        """The number, outside, of the host's first process."""
        return self._holder.pid

    @property
    def _inside(self) -> list[str]:
        return enter(self.pid, *NAMESPACES)

    def _ip(self, *batch: str) -> None:
        self.run("ip", "-batch", "-", input="\n".join(batch))

    def _plug(self, network: Network, plugged: bool) -> None:
        link = self.link(network)
        link.plugged = plugged
        network.set_port(link)

    def _connect(self, link: Link) -> None:
        link.network.connect(link, self.pid)
        self._ip(f"link set {link.interface} up", *self._addressing(link))
        if link.plugged:
            poll(lambda: self._is_settled(link), 10, f"IPv6 of {self.name}'s {link.interface}")

    def _is_settled(self, link: Link) -> bool:
        """Whether all that IPv6 has of the interface is there; the kernel is done with that later.

        Its own address on the link comes once the carrier is seen, and the route of each address
        (/128, in /proc/net/ipv6_route in hex) with that or later.
        """
        with self._network(), suppress(FileNotFoundError):  # a kernel without IPv6
            if Path(f"/proc/sys/net/ipv6/conf/{link.interface}/disable_ipv6").read_text() != "0\n":
                return True
            entries = Path("/proc/thread-self/net/if_inet6").read_text().splitlines()
            routes = Path("/proc/thread-self/net/ipv6_route").read_text().splitlines()
            own = [e.split() for e in entries if e.split()[-1] == link.interface]
            on_link = any(scope == "20" for _, _, _, scope, *_ in own)
            return on_link and {f"{address} 80" for address, *_ in own} <= {r[:35] for r in routes}
        return True

    def _addressing(self, link: Link) -> Iterator[str]:
        metric = 100 + self.links.index(link)
        for address in link.addresses:
            subnet = link.network.subnet_of(address)
            nodad = " nodad" if subnet.version == 6 else ""
            yield f"addr replace {address}/{subnet.prefixlen} dev {link.interface}{nodad}"
            if gateway := link.network.gateway(subnet, self):
                everywhere = "::/0" if subnet.version == 6 else "0.0.0.0/0"
                yield (
                    f"route replace {everywhere} via {gateway} dev {link.interface} metric {metric}"
                )

    @contextmanager
    def _network(self) -> Iterator[None]:
        """Move this thread into the host's network namespace for a while."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        away = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            _set_network(away)
            yield
        finally:
            _set_network(home)
            os.close(home)
            os.close(away)


def _set_network(fd: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(fd, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


# A new network namespace inherits IPv4 settings of the machine, such as a container engine's
# forwarding or an exit node's: they are put back to the kernel's own. Duplicate address detection
# would hold back link-local addresses for a second. What is left of /proc/sys is the machine's.
BOOT = """\
echo "$1" >/proc/sys/kernel/hostname
echo 0 >/proc/sys/net/ipv4/ip_forward
for conf in all default lo; do
	cd /proc/sys/net/ipv4/conf/$conf
	for name in accept_redirects secure_redirects send_redirects shared_media; do
		echo 1 >$name
	done
	for name in accept_local accept_source_route arp_announce arp_filter arp_ignore log_martians \
		proxy_arp route_localnet rp_filter src_valid_mark; do
		echo 0 >$name
	done
done
cd /
if [ -d /proc/sys/net/ipv6 ]; then echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad; fi
ip link set lo up
mount -n --bind /proc/sys /proc/sys
mount -n --bind /proc/sys/net /proc/sys/net
mount -n -o remount,bind,ro /proc/sys
"""
