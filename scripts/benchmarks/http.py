"""Requests as agents send them, each on a connection of its own, several under way at a time."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence

WIDTH = 8  # requests under way at a time
_LENGTH = re.compile(rb"\r\nContent-Length: ([0-9]+)\r\n")
_CHUNK = 1 << 20
_HEAD = (
    "POST {path} HTTP/1.1\r\n"
    "Host: 127.0.0.1:{port}\r\n"
    "Accept-Encoding: identity\r\n"
    "Content-Length: {length}\r\n"
    "Content-Type: application/octet-stream\r\n"
    "Connection: close\r\n"
    "\r\n"
)


class Volley:
    """POSTs that are ready to be sent to a port of 127.0.0.1, on sockets not yet connected."""

    def __init__(
        self, sockets: Sequence[socket.socket], port: int, path: str, bodies: Sequence[bytes]
    ) -> None:
        self._address = ("127.0.0.1", port)
        self._requests = [
            (sock, _HEAD.format(path=path, port=port, length=len(body)).encode() + body)
            for sock, body in zip(sockets, bodies, strict=True)
        ]

    def fire(self) -> list[bytes]:
        """Send them all; the bodies of the answers, in their order."""
        answers = []
        for start in range(0, len(self._requests), WIDTH):
            wave = self._requests[start : start + WIDTH]
            for sock, request in wave:
                sock.connect(self._address)
                sock.sendall(request)
            for sock, _ in wave:
                with sock:
                    answers.append(_receive(sock))
        return answers


def _receive(sock: socket.socket) -> bytes:
    """The body of an answer. Fails unless its status is 200."""
    received = bytearray()
    while chunk := sock.recv(_CHUNK):
        received += chunk
    head, _, body = bytes(received).partition(b"\r\n\r\n")
    length = _LENGTH.search(head + b"\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert length, head
    assert len(body) == int(length[1]), head
    return body
