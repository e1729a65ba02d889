"""A listener whose answers are a script's: any bytes, any HTTP, at any pace."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING

from tests.lab import Host

if TYPE_CHECKING:
    from typing_extensions import Self

Handler = StreamRequestHandler
Reply = bytes | Iterable[bytes] | Callable[[Handler], None]
_MOST = 1 << 24  # bytes of a request that are read


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, as HTTP has it; header names in lower case. `remote`: who sent it."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    remote: str


Script = Callable[[Asked], Reply]


class Door:
    """A TCP server of this process, on loopback or in a lab's host. A context manager.

    The script's reply goes out as it is: bytes whole, an iterable piece by piece, a callable does
    what it likes with the connection. One request a connection; a thread for each.
    """

    def __init__(self, script: Script, host: Host | None = None, port: int = 0) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.over = threading.Event()
        self.url = ""
        self._host = host
        self._port = port

    def __enter__(self) -> Self:
        door = self

        class OneRequest(StreamRequestHandler):
            def handle(self) -> None:
                door._serve(self)

        self._server = ThreadingTCPServer(("", 0), OneRequest, bind_and_activate=False)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.socket.close()
        self._server.socket = listener = new_socket(self._host)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._host.address if self._host else "127.0.0.1", self._port))
        listener.listen(128)
        self._server.server_address = listener.getsockname()
        host, port = listener.getsockname()
        self.url = f"http://{host}:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def drip(self, data: bytes, seconds: float, size: int = 1) -> Iterable[bytes]:
        """These bytes, so many at a time, with a pause before each; ends with the door."""
        for start in range(0, len(data), size):
            if self.over.wait(seconds):
                return
            yield data[start : start + size]

    def silence(self, _: Handler) -> None:
        """A reply that does not come, and a connection that stays."""
        self.over.wait()

    def _serve(self, handler: Handler) -> None:
        try:
            asked = read_request(handler)
            if asked is None:
                return
            self.asked.append(asked)
            reply = self.script(asked)
            if callable(reply):
                reply(handler)
                return
            for piece in [reply] if isinstance(reply, bytes) else reply:
                handler.wfile.write(piece)
        except OSError:
            return  # the other side has had enough


def read_request(handler: Handler) -> Asked | None:
    """The request that comes; None where none does."""
    words = handler.rfile.readline().decode("latin-1").split()
    if len(words) < 2:
        return None
    headers: dict[str, str] = {}
    while (line := handler.rfile.readline()) not in {b"\r\n", b"\n", b""}:
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.lower()] = value.strip()
    body = handler.rfile.read(min(int(headers.get("content-length", "0")), _MOST))
    return Asked(words[0], words[1], headers, body, handler.client_address[0])


def http(status: str | int, body: bytes = b"", *headers: str) -> bytes:
    """A whole HTTP response."""
    if isinstance(status, int):
        status = f"{status} {HTTPStatus(status).phrase}"
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def endless(piece: bytes = bytes(65536), head: bytes = b"HTTP/1.1 200 OK\r\n\r\n") -> Reply:
    """A reply without end."""

    def reply() -> Iterable[bytes]:
        yield head
        while True:
            yield piece

    return reply()


def new_socket(host: Host | None, family: socket.AddressFamily = socket.AF_INET) -> socket.socket:
    """A TCP socket, in a lab's host or here."""
    if host is not None:
        return host.socket(socket.SOCK_STREAM, family)
    return socket.socket(family, socket.SOCK_STREAM)
