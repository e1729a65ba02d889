"""One HTTP exchange, bounded in time and size, whatever answers at the other end."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SO_MARK, SOCK_STREAM, SOL_SOCKET, socket
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from nmk.agent.resolver import resolve
from nmk.core.tunnel import MARK
from nmk.errors import BadReply, Unreachable

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONNECT_TIMEOUT = 5.0  # seconds for each address that a name has
EXCHANGE_TIMEOUT = 30.0  # seconds for everything
MOST_UNSEALED = 16 * 1024  # bytes of a body that anybody on the path can have sent
_MOST_HEAD = 64 * 1024  # bytes of all that is no body


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP status and a body; `date` is the time there, as its header says it."""

    status: int
    body: bytes
    date: str | None = None


def post(
    url: str,
    path: str,
    body: bytes,
    limit: int,
    begins: bytes,
    timeout: float = EXCHANGE_TIMEOUT,
) -> Response:
    """The answer to a POST to a path below a base URL; redirects and proxies are not followed.

    A body that does not begin as one of ours does, or is no success, is cut at MOST_UNSEALED
    bytes. `timeout`: seconds for everything, resolving the name included. Raises Unreachable when
    nobody takes the request or answers in that time, BadReply when what comes back is no HTTP or
    more than `limit` bytes.
    """
    return _exchange("POST", url, path, body, (limit, begins), timeout)


def get(url: str, path: str, limit: int, timeout: float = EXCHANGE_TIMEOUT) -> Response:
    """The answer to a GET. As `post`."""
    return _exchange("GET", url, path, b"", (limit, b""), timeout)


def _exchange(
    method: str, url: str, path: str, body: bytes, reply: tuple[int, bytes], timeout: float
) -> Response:
    """A request and its answer; `reply`: its limit, and how it begins, as above."""
    limit, begins = reply
    deadline = time.monotonic() + timeout
    try:
        connection = _connection_to(url, deadline)
        try:
            connection.connect()
            _give_until(connection.sock, deadline)
            headers = {"Content-Type": "application/octet-stream"} if body else {}
            connection.request(method, path, body or None, {**headers, "Connection": "close"})
            reader = _Patient(connection.sock, deadline, limit + _MOST_HEAD)
            response = HTTPResponse(cast(socket, reader), method=method)
            response.begin()
            found = _read(response, limit, begins, url)
            return Response(response.status, found, response.getheader("Date"))
        finally:
            connection.close()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise Unreachable(f"cannot reach {url}: {reason or error}") from None
    except (HTTPException, ValueError) as error:
        raise BadReply(f"{url} answers with no HTTP: {error!r:.80}") from None


def dial(host: str, port: int, seconds: float) -> socket:
    """A TCP connection past every tunnel of nmk, as its packets carry the mark. Raises OSError.

    So a controller is reached whatever an exit node does. Only root may set a mark. `seconds` are
    for everything, each address has CONNECT_TIMEOUT of them at most.
    """
    deadline = time.monotonic() + seconds
    failure = OSError("no address")
    for family, kind, protocol, _, address in resolve(host, port, SOCK_STREAM, seconds):
        left = deadline - time.monotonic()
        if left <= 0:
            raise failure
        made = socket(family, kind, protocol)
        try:
            with suppress(PermissionError):
                made.setsockopt(SOL_SOCKET, SO_MARK, MARK)
            made.settimeout(min(left, CONNECT_TIMEOUT))
            made.connect(address)
        except OSError as error:
            made.close()
            failure = error
        else:
            return made
    raise failure


def _connection_to(url: str, deadline: float) -> HTTPConnection:
    """A connection to the host of a URL, not made yet. Raises ValueError for a bad port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return _Http(host, parts.port or 80, deadline)
    return _Https(host, parts.port or 443, deadline)


class _Http(HTTPConnection):
    """HTTP by `dial`."""

    def __init__(self, host: str, port: int, deadline: float) -> None:
        super().__init__(host, port)
        self._deadline = deadline

    def connect(self) -> None:
        """As HTTPConnection."""
        self.sock = dial(self.host, self.port, _left(self._deadline))


class _Https(HTTPSConnection):
    """HTTPS by `dial`."""

    def __init__(self, host: str, port: int, deadline: float) -> None:
        super().__init__(host, port)
        self._deadline = deadline

    def connect(self) -> None:
        """As HTTPConnection; Python counts a socket's time over a whole TLS handshake."""
        import ssl

        sock = dial(self.host, self.port, _left(self._deadline))
        _give_until(sock, self._deadline)
        try:
            self.sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)
        except BaseException:
            sock.close()
            raise


def _read(response: HTTPResponse, limit: int, begins: bytes, url: str) -> bytes:
    body = bytearray()
    while chunk := response.read(MOST_UNSEALED):
        body += chunk
        if response.status != HTTPStatus.OK or not body.startswith(begins):
            return bytes(body)
        if len(body) > limit:
            raise BadReply(f"{url} answers with more than {limit} bytes")
    if response.length:  # what was announced and did not come
        raise BadReply(f"{url} hung up in the middle of its answer")
    return bytes(body)


def _give_until(sock: socket, deadline: float) -> None:
    sock.settimeout(_left(deadline))


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left


class _Patient(io.RawIOBase):
    """A socket as a file that ends at the deadline, however slowly its bytes trickle in.

    A socket's own timeout starts again with every byte. More than `most` bytes are no HTTP.
    """

    def __init__(self, sock: socket, deadline: float, most: int) -> None:
        self._sock = sock
        self._deadline = deadline
        self._left = most

    def makefile(self, _mode: str) -> io.BufferedReader:
        """What HTTPResponse asks a socket for."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Bytes that have come, at least one before the end. Raises TimeoutError, ValueError."""
        _give_until(self._sock, self._deadline)
        count = self._sock.recv_into(buffer)
        self._left -= count
        if self._left < 0:
            raise ValueError("it does not end")
        return count
