"""One client's connection: what it may send, how long it may take, and what it holds meanwhile.

A client costs a place and some bytes, never a thread: a worker writes its reply and goes on, the
loop hands the bytes over as the client takes them.
"""

from __future__ import annotations

import struct
import threading
import time
from contextlib import suppress
from io import BytesIO
from socket import SO_LINGER, SOL_SOCKET
from socket import socket as Socket  # noqa: N812  # a connection has one by that name
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import BadRequest

from nmk.server.crowd import Crowd
from nmk.server.limits import site_of

MAX_HEAD = 8 * 1024  # bytes
MAX_FIELDS = 64  # lines of a head; each costs a hundred bytes more than it has
REQUEST_SECONDS = 30  # for a request to come in whole, and for the next one to begin
STALL_SECONDS = 30  # in which a client takes nothing of its reply
REPLY_SECONDS = 600  # for a reply to be taken
COPIED_BYTES = 16 * 1024  # of a reply; what is longer is sent from where it is
_RESET = struct.pack("ii", 1, 0)  # struct linger: forget what was not sent (socket(7))


class LengthRequired(BadRequest):
    """A body in chunks: each costs the loop far more than its bytes."""

    code = 411
    reason = "Length Required"


class Request(HTTPRequestParser):
    """A request that remembers when its first byte came."""

    def __init__(self, adj: Any) -> None:  # noqa: ANN401  # waitress's
        super().__init__(adj)
        self.since = time.time()  # the clock of waitress's own times

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.header_bytes_received + self.body_bytes_received

    def parse_header(self, header_plus: bytes) -> None:
        """Take the head apart. Raises ParsingError."""
        if header_plus.count(b"\n") > MAX_FIELDS:
            raise ParsingError(f"more than {MAX_FIELDS} lines in the head")
        super().parse_header(header_plus)
        if self.chunked:
            self.body_rcv = None  # so the request is complete, and answered with the error
            self.error = LengthRequired("a body needs a Content-Length")


class Connection(HTTPChannel):
    """A connection of a listener's crowd. It has one request at a time.

    What a client sends beyond that request is read when the reply has been taken, so neither
    requests nor replies add up.
    """

    parser_class = Request
    request: Request | None
    requests: list[Any]
    requests_lock: threading.Lock
    socket: Socket
    answered = 0.0
    shared = False  # the reply's bytes are there once for all clients
    ahead = b""  # what came behind the request, one read at most

    def __init__(self, server: Any, sock: Socket, addr: Any, *rest: Any, **how: Any) -> None:  # noqa: ANN401  # waitress's
        self.crowd: Crowd = server.crowd
        self.site = site_of(addr[0])
        super().__init__(server, sock, addr, *rest, **how)
        self.crowd.enter(self)

    def del_channel(self, map: Any = None) -> None:  # noqa: A002, ANN401  # waitress's
        """Leave the loop, and the crowd."""
        super().del_channel(map)
        self.crowd.leave(self)

    def readable(self) -> bool:
        """Whether it is the client's turn to speak."""
        return not (
            self.requests
            or self.total_outbufs_len
            or self.ahead
            or self.will_close
            or self.close_when_flushed
        )

    def writable(self) -> bool:
        """Whether there is something to hand over, or to go on with."""
        return bool(
            self.total_outbufs_len
            or self.will_close
            or self.close_when_flushed
            or (self.ahead and not self.requests)
        )

    def handle_write(self) -> None:
        """Hand over what the client takes; then go on with what it has sent."""
        super().handle_write()
        ahead, self.ahead = self.ahead, b""
        if ahead and self.readable():
            self.received(ahead)
        else:
            self.ahead = ahead

    def received(self, data: bytes) -> bool:
        """Read on, to the end of the request."""
        self.crowd.grown += len(data)
        with self.requests_lock:
            if self.will_close or self.close_when_flushed:
                return False
            while data and not self.requests:
                data = data[self._read(data) :]
            self.ahead = data
        return True

    def _read(self, data: bytes) -> int:
        """How much of it belongs to the request that is coming in."""
        if self.request is None:
            self.request = self.parser_class(self.adj)
        request = self.request
        taken: int = request.received(data)
        if request.expect_continue and request.headers_finished and not self.sent_continue:
            self.send_continue()
        if request.completed:
            self.sent_continue = False
            self.request = None
            if not request.empty:
                self.requests.append(request)
                self.server.add_task(self)  # type: ignore[arg-type]  # the stub wants a Task
        return taken

    def handle_expt(self) -> None:
        """Hang up on urgent data (tcp(7)): unread it would wake the loop for ever."""
        self.handle_close()

    def service(self) -> None:
        """Answer a request."""
        self.answered = time.time()
        self.shared = False
        super().service()

    def write_soon(self, data: Any) -> int:  # noqa: ANN401  # bytes, or a file of waitress's
        """Take a piece of a reply. A long one is neither copied nor written to a file."""
        self.last_activity = time.time()  # from here on it is for the client to do something
        if isinstance(data, ReadOnlyFileBasedBuffer):
            self.shared = True
        elif len(data) > COPIED_BYTES:
            self.crowd.replies.append(len(data))
            data = ReadOnlyFileBasedBuffer(BytesIO(data))  # which shares the bytes
            data.prepare()
        written: int = super().write_soon(data)
        return written

    @property
    def busy(self) -> bool:
        """Whether the client waits for us."""
        return bool(self.requests)

    @property
    def waiting_since(self) -> float:
        """When the client last did what it has to do."""
        if self.request is not None and not self.total_outbufs_len:
            since: float = self.request.since
            return since
        return self.last_activity

    @property
    def held(self) -> int:
        """Bytes that this client alone has us keep."""
        size: int = len(self.ahead) + (0 if self.shared else self.total_outbufs_len)
        requests: list[Request | None] = [*self.requests, self.request]
        return size + sum(r.size for r in requests if r is not None)

    def overdue(self, now: float) -> str:
        """Why the client has kept us waiting for too long, in a word; "" where it has not."""
        silence = abs(now - self.waiting_since)  # the clock may have been set back
        if self.busy:
            return ""
        if self.total_outbufs_len:
            late = silence > STALL_SECONDS or now - self.answered > REPLY_SECONDS
            return "reply-not-taken" if late else ""
        if silence <= REQUEST_SECONDS:
            return ""
        return "idle" if self.request is None else "request-not-finished"

    def cut(self) -> None:
        """End it now, with all that waits to be sent."""
        if self.total_outbufs_len:
            with suppress(OSError):
                self.socket.setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
        self.handle_close()
