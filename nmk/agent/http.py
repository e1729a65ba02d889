"""One POST, bounded in time and size, whatever answers at the other end."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from socket import SO_MARK, SOCK_STREAM, SOL_SOCKET, getaddrinfo, socket
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

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
    """An HTTP status and a body."""

    status: int
    body: bytes


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
    bytes. Raises Unreachable when nobody takes the request or answers in time, BadReply when what
    comes back is no HTTP or more than `limit` bytes.
    """
    deadline = time.monotonic() + timeout
    connection = connection_to(url)
    try:
        connection.connect()
        _give_until(connection.sock, deadline)
        headers = {"Content-Type": "application/octet-stream", "Connection": "close"}
        connection.request("POST", path, body, headers)
        response = HTTPResponse(
            cast(socket, _Patient(connection.sock, deadline, limit + _MOST_HEAD)), method="POST"
        )
        response.begin()
        return Response(response.status, _read(response, limit, begins, url))
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise Unreachable(f"cannot reach {url}: {reason or error}") from None
    except (HTTPException, ValueError) as error:
        raise BadReply(f"{url} answers with no HTTP: {error!r:.80}") from None
    finally:
        connection.close()


def connection_to(url: str) -> HTTPConnection:
    """A connection to the host of a URL, not made yet. Raises ValueError for a bad port."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return _Http(host, parts.port or 80, timeout=CONNECT_TIMEOUT)
    return _Https(host, parts.port or 443, timeout=CONNECT_TIMEOUT)


def dial(host: str, port: int, timeout: float) -> socket:
    """A TCP connection past every tunnel of nmk, as its packets carry the mark. Raises OSError.

    So a controller is reached whatever an exit node does. Only root may set a mark.
    """
    failure = OSError("no address")
    for family, kind, protocol, _, address in getaddrinfo(host, port, type=SOCK_STREAM):
        made = socket(family, kind, protocol)
        try:
            with suppress(PermissionError):
                made.setsockopt(SOL_SOCKET, SO_MARK, MARK)
            made.settimeout(timeout)
            made.connect(address)
        except OSError as error:
            made.close()
            failure = error
        else:
            return made
    raise failure


class _Http(HTTPConnection):
    """HTTP by `dial`."""

    def connect(self) -> None:
        """As HTTPConnection."""
        self.sock = dial(self.host, self.port, CONNECT_TIMEOUT)


class _Https(HTTPSConnection):
    """HTTPS by `dial`."""

    def connect(self) -> None:
        """As HTTPSConnection."""
        import ssl

        sock = dial(self.host, self.port, CONNECT_TIMEOUT)
        self.sock = ssl.create_default_context().wrap_socket(sock, server_hostname=self.host)


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
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    sock.settimeout(left)


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
