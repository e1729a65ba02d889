"""Packets that no honest program sends, put into a tunnel as its machine's root may."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from tests.lab import Host

_SEND = """
import socket, sys
kinds = {4: 0x0800, 6: 0x86DD}
packet = bytes.fromhex(sys.argv[2])
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM) as out:
    out.sendto(packet, (sys.argv[1], kinds[packet[0] >> 4]))
"""
ICMP6, UDP = 58, 17
_HOPS = 255


def send(host: Host, interface: str, packet: bytes) -> None:
    """Put a whole IP packet into an interface that has no addresses of a link."""
    host.run("python3", "-c", _SEND, interface, packet.hex())


def advertisement(source: str, target: str, *prefixes: str) -> bytes:
    """A router's: a default route, and prefixes that are on link and give addresses (RFC 4861)."""
    said = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
    for prefix in prefixes:
        address, _, length = prefix.partition("/")
        said += struct.pack("!BBBBIII", 3, 4, int(length), 0xC0, 7200, 3600, 0)
        said += ip_address(address).packed
    ends = ip_address(source).packed + ip_address(target).packed
    total = _checksum(ends + struct.pack("!II", len(said), ICMP6) + said)
    said = said[:2] + struct.pack("!H", total) + said[4:]
    return struct.pack("!IHBB", 6 << 28, len(said), ICMP6, _HOPS) + ends + said


def datagram(source: str, target: str, port: int) -> bytes:
    """One of UDP over IPv4."""
    said = struct.pack("!HHHH", port, port, 9, 0) + b"?"
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(said), 0, 0, _HOPS, UDP)
    ends = ip_address(source).packed + ip_address(target).packed
    return head + struct.pack("!H", _checksum(head + b"\0\0" + ends)) + ends + said


def _checksum(data: bytes) -> int:
    """The internet's (RFC 1071)."""
    data += b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
