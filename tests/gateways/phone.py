"""Devices with a plain WireGuard app, and where a key may have come to."""

from __future__ import annotations

import re
import socket
import struct
from base64 import b64decode, b64encode, urlsafe_b64encode
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from nmk.wire.envelope import (
    KEY_BYTES,
    Identity,
    Kind,
    controller_keys,
    open_request,
    open_sealed_to,
    parse_request,
)
from tests.lab import Host, Process, patient, poll
from tests.mesh import INTERFACE, Mesh, live_peers

APP = "wg0"
FILE = f"/etc/wireguard/{APP}.conf"
FAMILIES = (4, 6)
_PORT = 4000
_SEGMENT = 1 << 16
_PAGE = 1 << 12
_TEXT = re.compile(rb"[\w+/-]{43,}", re.ASCII)
_POST = re.compile(rb"POST /v1/(join|checkin|leave) .*?\r\n\r\n", re.DOTALL)
_KINDS = {b"join": Kind.JOIN, b"checkin": Kind.CHECK_IN, b"leave": Kind.LEAVE}


class Phone:
    """A host with `wg-quick` and nothing of nmk, and the one config that it uses."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._up = False

    @property
    def router(self) -> Host | None:
        """The router of the LAN that it is in."""
        return self.host.links[0].network.router

    def use(self, config: str) -> None:
        """Turn the tunnel on with a config, in place of the one before."""
        self.off()
        self.host.write(FILE, config, mode=0o600)
        self.host.run("wg-quick", "up", APP)
        self._up = True

    def off(self) -> None:
        """Turn the tunnel off."""
        if self._up:
            quick_down(self.host)
        self._up = False


def quick_down(host: Host) -> None:
    """Turn off a tunnel of wg-quick's; a userspace WireGuard ends some time after its interface."""
    host.run("wg-quick", "down", APP)
    gone = ("sh", "-c", f"! [ -e /run/wireguard/{APP}.sock ]")
    poll(lambda: host.run(*gone, check=False).returncode == 0, 10, "end of the tunnel")


def addresses(mesh: Mesh, client: str) -> tuple[str, str]:
    """An ext client's addresses, IPv4 and IPv6."""
    four, six = show(mesh, client)["addresses"]
    return four, six


def show(mesh: Mesh, client: str) -> dict[str, Any]:
    """What the controller says of an ext client."""
    found: dict[str, Any] = mesh.json("extclient", "show", client)
    return found


def check_in(*hosts: Host) -> None:
    """Each of them does what the controller says now."""
    for host in hosts:
        host.run("nmk", "checkin")


def make_ingress(mesh: Mesh, host: Host) -> Host:
    """A member as an ingress gateway; gives it back."""
    mesh.admin("gateway", "add", host.name, "ingress")
    check_in(host)
    return host


# What comes through


def is_deaf(source: Host, address: str) -> bool:
    """Whether none of several pings is answered."""
    tried = source.run("ping", "-n", "-c4", "-i0.2", "-W1", address, check=False)
    return tried.returncode == 1


def source_seen(source: Host, target: Host, address: str) -> str:
    """The address that a datagram has come from when it arrives at the target's address."""
    family = _family(address)

    def arrives() -> str:
        sender.sendto(b"hello", (address, _PORT))
        with suppress(TimeoutError):
            return str(listener.recvfrom(5)[1][0])
        return ""

    with target.socket(family=family) as listener, source.socket(family=family) as sender:
        listener.bind((address, _PORT))
        listener.settimeout(0.5)
        return poll(arrives, 20, f"datagram of {source.name} at {target.name}")


def transfer(source: Host, target: Host, address: str, size: int) -> int:
    """Send so many bytes by TCP; how many came."""
    kind, family = socket.SOCK_STREAM, _family(address)
    with target.socket(kind, family) as listener, source.socket(kind, family) as sender:
        listener.bind((address, 0))
        listener.listen()
        for end in (listener, sender):
            end.settimeout(patient(20))
        sender.connect(listener.getsockname()[:2])
        receiver, _ = listener.accept()
        with receiver, ThreadPoolExecutor(1) as pool:
            receiver.settimeout(patient(20))
            sent = pool.submit(sender.sendall, bytes(size))
            came = 0
            while came < size and (more := receiver.recv(_SEGMENT)):
                came += len(more)
            sent.result()
            return came


def gateways_to(host: Host, address: str) -> list[str]:
    """The public keys of the peers that a member sends an address's packets to."""
    wanted = f"{address}/{128 if ':' in address else 32}"
    ranges = live_peers(host, "allowed-ips")
    return [key for key, text in ranges.items() if wanted in text.split()]


def key_of(host: Host, interface: str = INTERFACE) -> str:
    """The public key of a machine's interface."""
    return host.run("wg", "show", interface, "public-key").stdout.strip()


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


# Where a key may have come to


def forms(key: str) -> set[bytes]:
    """Every way in which a key, given in base64, might be written: raw, hex, base64.

    Without padding, so that both ways of base64 are found.
    """
    raw = b64decode(key)
    encoded = {text.rstrip(b"=") for text in (b64encode(raw), urlsafe_b64encode(raw))}
    return {raw, raw.hex().encode(), raw.hex().upper().encode(), *encoded}


def keys_in(keys: Collection[str], haystacks: Mapping[str, bytes]) -> dict[str, set[str]]:
    """The keys that each haystack holds, in any form; haystacks without any are left out."""
    found = {}
    for name, hay in haystacks.items():
        texts = b"\n".join(_TEXT.findall(hay))  # all but the bytes themselves is text
        found[name] = {
            key
            for key in keys
            if any(form in (hay if len(form) == KEY_BYTES else texts) for form in forms(key))
        }
    return {name: there for name, there in found.items() if there}


def memory_of(process: Process) -> bytes:
    """All that a background command can read of its own memory, but for pages of zeros."""
    nsenter = process._process.pid
    [pid] = Path(f"/proc/{nsenter}/task/{nsenter}/children").read_text().split()
    found = []
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, flags, *_ = line.split()
            start, end = (int(text, 16) for text in span.split("-"))
            if flags.startswith("r"):
                with suppress(OSError):  # what the kernel keeps to itself, such as [vvar]
                    memory.seek(start)
                    region = memory.read(end - start)
                    pages = (region[at : at + _PAGE] for at in range(0, len(region), _PAGE))
                    found += [page for page in pages if page.strip(b"\0")]
    return b"".join(found)


def files_below(host: Host, directory: str) -> dict[str, bytes]:
    """The contents of a directory of a host, by their paths."""
    top = root_of(host) / directory.lstrip("/")
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*")
            if path.is_file()}  # fmt: skip


def root_of(host: Host) -> Path:
    """A host's file system, as this process sees it."""
    return Path(f"/proc/{host.pid}/root")


class Wiretap:
    """What TCP carries over an interface of a host, until `stop`."""

    def __init__(self, host: Host, interface: str) -> None:
        self._host = host
        self._file = f"/root/{interface}.pcap"
        # Every packet at once, and room for many: a slot of the buffer is as large as one may be.
        how = ("--immediate-mode", "-U", "-s66000", "-B32768", "-w", self._file)
        self._process = host.start("tcpdump", "-i", interface, *how, "tcp")
        self._process.wait_for("listening on")

    def stop(self) -> list[bytes]:
        """What was said in each direction of each connection. Nothing may have been missed."""
        self._process.terminate()
        self._process.wait()
        assert "\n0 packets dropped by kernel" in self._process.output
        return read_streams((root_of(self._host) / self._file.lstrip("/")).read_bytes())


def read_streams(pcap: bytes) -> list[bytes]:
    """The payloads of TCP in a capture of Ethernet frames, put together (pcap-savefile(5))."""
    magic, *_, link_type = struct.unpack("<IHHiIII", pcap[:24])
    assert (magic, link_type) == (0xA1B2C3D4, 1)
    streams: dict[bytes, dict[int, bytes]] = {}
    at = 24
    while at < len(pcap):
        size, whole = struct.unpack("<II", pcap[at + 8 : at + 16])
        assert size == whole, "tcpdump cut a packet"
        frame = pcap[at + 16 : at + 16 + size]
        at += 16 + size
        if frame[12:14] == b"\x08\x00":
            start, end = 14 + 4 * (frame[14] & 15), 14 + int.from_bytes(frame[16:18], "big")
            ends = frame[26:34]
        else:
            assert (frame[12:14], frame[20]) == (b"\x86\xdd", socket.IPPROTO_TCP)
            start, end = 54, 54 + int.from_bytes(frame[18:20], "big")
            ends = frame[22:54]
        segment = frame[start:end]
        number, payload = int.from_bytes(segment[4:8], "big"), segment[segment[12] // 16 * 4 :]
        said = streams.setdefault(ends + segment[:4], {})
        said[number] = max(said.get(number, b""), payload, key=len)
    return [b"".join(said[number] for number in sorted(said)) for said in streams.values()]


def unsealed(streams: Iterable[bytes], controller_key: str) -> list[bytes]:
    """What agents told the controller, opened with its secret key, given in hex."""
    controller = Identity.from_secret(bytes.fromhex(controller_key))
    found = []
    for stream in streams:
        for match in _POST.finditer(stream):
            length = re.search(rb"content-length: (\d+)", match[0], re.IGNORECASE)
            assert length
            message = stream[match.end() :][: int(length[1])]
            if match[1] == b"join":  # hides who joins, too
                message = open_sealed_to(controller, message)
            header, sealed = parse_request(message, _KINDS[match[1]])
            keys = controller_keys(controller, header.identity)
            found.append(open_request(keys, header, sealed))
    return found
