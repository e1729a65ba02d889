"""What goes over a wire: tcpdump in the background, and its packets as values."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_address
from itertools import count

from tests.lab import Host, Process, poll

_numbers = count(1)
_COUNTS = re.compile(r"(\d+) packets? captured, (\d+) packets? received by filter")
_LINE = re.compile(r"(\d+\.\d+) IP6? (\S+?)(?:\.(\d+))? > (\S+?)(?:\.(\d+))?: (.*)")


@dataclass(frozen=True)
class Packet:
    """An IP packet; ports are None where the protocol has none. `at`: seconds since 1970."""

    at: float
    source: str
    source_port: int | None
    target: str
    target_port: int | None
    what: str


@dataclass
class Capture:
    """The packets, once the capture is over."""

    packets: list[Packet] = field(default_factory=list)

    def of(self, *sources: str | None) -> list[Packet]:
        """Those that came from any of these addresses."""
        return [p for p in self.packets if p.source in sources]


@contextmanager
def captured(host: Host, interface: str, *expression: str) -> Iterator[Capture]:
    """All that the interface of a host sees while the block runs, ARP left out."""
    # tcpdump gives a file to its own user, and not even root may write to that again in /tmp.
    file = f"/run/capture-{next(_numbers)}.pcap"
    # In immediate mode each packet takes as much of the kernel's buffer as the longest may have: 8
    # would fit, and the rest be lost, while tcpdump waits for a busy machine.
    dump = host.start(
        "tcpdump",
        "--immediate-mode",
        "--snapshot-length=512",
        "--buffer-size=16384",
        "-U",
        "-n",
        "-i",
        interface,
        "-w",
        file,
        *(expression or ("not arp",)),
    )
    dump.wait_for("listening on")
    found = Capture()
    try:
        yield found
        _catch_up(dump)
    finally:
        dump.terminate()
        dump.wait()
        text = host.run("tcpdump", "-tt", "-nn", "-r", file).stdout
        host.run("rm", file)
        found.packets = [p for p in map(parse_packet, text.splitlines()) if p]


def _catch_up(dump: Process) -> None:
    """Wait until tcpdump has read all that came until now: when it ends, it drops the unread."""

    def counts() -> list[tuple[int, int]]:
        dump.signal(signal.SIGUSR1)  # it then prints both counts
        return [(int(read), int(passed)) for read, passed in _COUNTS.findall(dump.output)]

    [(_, by_now), *_] = poll(counts, 10, "count of packets from tcpdump")
    poll(lambda: counts()[-1][0] >= by_now, 10, f"{by_now} packets read by tcpdump")


def parse_packet(line: str) -> Packet | None:
    """A line of tcpdump's; None for what is no IP packet."""
    match = _LINE.match(line)
    if not match:
        return None
    at, source, source_port, target, target_port, what = match.groups()
    return Packet(float(at), *_end(source, source_port), *_end(target, target_port), what)


def _end(address: str, port: str | None) -> tuple[str, int | None]:
    """An address and its port; tcpdump's dot before a port may be the last one of an address."""
    try:
        return str(ip_address(address)), int(port) if port else None
    except ValueError:
        return str(ip_address(f"{address}.{port}")), None
