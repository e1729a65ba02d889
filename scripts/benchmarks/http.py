"""Requests on connections that stay open, a few under way at a time."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator, Sequence
from itertools import islice

_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n")
_CHUNK = 1 << 20


class Line:
    """One connection."""

    def __init__(self, sock: socket.socket, port: int) -> None:
        self._socket = sock
        sock.settimeout(60)
        sock.connect(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, path: str, body: bytes) -> None:
        """Send a POST."""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._socket.sendall(head.encode() + body)

    def receive(self) -> bytes:
        """The body of the answer. Fails unless its status is 200."""
        received = bytearray(self._more())
        while (end := received.find(b"\r\n\r\n")) < 0:
            received += self._more()
        head = bytes(received[: end + 2])
        length = _LENGTH.search(head)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert length, head
        whole = end + 4 + int(length[1])
        while len(received) < whole:
            received += self._more()
        return bytes(received[end + 4 :])

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _more(self) -> bytes:
        chunk = self._socket.recv(_CHUNK)
        assert chunk, "the server hung up"
        return chunk


def post_all(lines: Sequence[Line], path: str, bodies: Sequence[bytes]) -> list[bytes]:
    """The answers to POSTs, in their order; as many are under way at a time as there are lines."""
    left: Iterator[bytes] = iter(bodies)
    answers: list[bytes] = []
    while wave := list(islice(left, len(lines))):
        for line, body in zip(lines, wave, strict=False):
            line.send(path, body)
        answers += [line.receive() for line in lines[: len(wave)]]
    return answers
