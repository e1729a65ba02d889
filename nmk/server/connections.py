"""One client's connection: what it may send, how long it may take, and what it holds meanwhile.

A client costs a place and some bytes, never a thread: a worker writes its reply and goes on, the
loop hands the bytes over as the client takes them.
"""

from __future__ import annotations

import struct
import sys
import threading
import time
from contextlib import suppress
from io import BytesIO
from socket import SO_LINGER, SOL_SOCKET
from socket import socket as Socket  # noqa: N812  # a connection has one by that name
from traceback import format_exc
from typing import Any

from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError, TransferEncodingNotImplemented
from waitress.utilities import BadRequest

from nmk.server.crowd import Crowd
from nmk.server.limits import site_of
from nmk.server.log import log_seldom

MAX_HEAD = 8 * 1024  # bytes
MAX_FIELDS = 64  # lines of a head; each costs a hundred bytes more than it has
REQUEST_SECONDS = 30  # for a request to come in whole
STALL_SECONDS = 30  # in which a client takes nothing of its reply
REPLY_SECONDS = 600  # for a reply to be taken
COPIED_BYTES = 16 * 1024  # of a reply; what is longer is sent from where it is
_RESET = struct.pack("ii", 1, 0)  # struct linger: forget what was not sent (socket(7))


class LengthRequired(BadRequest):
    """A body in chunks: each costs the loop far more than its bytes."""

    code = 411
    reason = "Length Required"


class Request(HTTPRequestParser):
    """The one request of a connection: there is no keep-alive, whatever it asks for."""

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return self.header_bytes_received + self.body_bytes_received

    def parse_header(self, header_plus: bytes) -> None:
        """Take the head apart. Raises ParsingError, TransferEncodingNotImplemented."""
        if header_plus.count(b"\n") > MAX_FIELDS:
            raise ParsingError(f"more than {MAX_FIELDS} lines in the head")
        try:
            super().parse_header(header_plus)
        except (ParsingError, TransferEncodingNotImplemented):
            raise
        except Exception:  # noqa: BLE001  # of the libraries below, such as urlsplit's ValueError
            raise ParsingError("the head cannot be read") from None
        self.headers = {**self.headers, "CONNECTION": "close"}
        if self.chunked:
            self.body_rcv = None  # so the request is complete, and answered with the error
            self.error = LengthRequired("a body needs a Content-Length")


class Connection(HTTPChannel):
    """A connection of a listener's crowd. It has one request, and what it sends beyond is not read.

    Time is measured from accept, then from the answer: nothing that a client sends renews it.
    """

    parser_class = Request
    request: Request | None
    requests: list[Any]
    requests_lock: threading.Lock
    socket: Socket
    asking = True  # its request has not come whole
    answered = 0.0  # when the reply was made
    shared = False  # the reply's bytes are there once for all clients

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
        return self.asking and not (self.will_close or self.total_outbufs_len)

    def received(self, data: bytes) -> bool:
        """Read on, to the end of the request."""
        self.crowd.grown += len(data)
        with self.requests_lock:
            if self.will_close or self.close_when_flushed:
                return False
            while data and self.asking:
                data = data[self._read(data) :]
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
            self.request = None
            if not request.empty:  # blank lines before a request (RFC 9112, 2.2)
                self.asking = False
                self.requests.append(request)
                self.server.add_task(self)  # type: ignore[arg-type]  # the stub wants a Task
        return taken

    def handle_expt(self) -> None:
        """Hang up on urgent data (tcp(7)): unread it would wake the loop for ever."""
        self.handle_close()

    def handle_error(self) -> None:
        """Hang up after an error of ours. Clients may cause it as often as they like."""
        reason = getattr(sys.exc_info()[0], "__name__", "unknown")
        log_seldom("client-cut", reason=reason, address=self.site, traceback=format_exc())
        self.handle_close()

    def write_soon(self, data: Any) -> int:  # noqa: ANN401  # bytes, or a file of waitress's
        """Take a piece of a reply. A long one is neither copied nor written to a file."""
        self.answered = self.last_activity = time.time()  # from here on it is the client's turn
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
        """Since when it has been the client's turn."""
        since: float = self.answered or self.creation_time
        return since

    @property
    def held(self) -> int:
        """Bytes that this client alone has us keep."""
        size: int = 0 if self.shared else self.total_outbufs_len
        requests: list[Request | None] = [*self.requests, self.request]
        return size + sum(r.size for r in requests if r is not None)

    def overdue(self, now: float) -> str:
        """Why the client has kept us waiting for too long, in a word; "" where it has not."""
        if self.busy:
            return ""
        waited = abs(now - self.waiting_since)  # the clock may have been set back
        if self.asking:
            late = "request-not-finished" if self.request else "idle"
            return late if waited > REQUEST_SECONDS else ""
        stalled = abs(now - self.last_activity) > STALL_SECONDS
        return "reply-not-taken" if stalled or waited > REPLY_SECONDS else ""

    def cut(self) -> None:
        """End it now, with all that waits to be sent."""
        if self.total_outbufs_len:
            with suppress(OSError):
                self.socket.setsockopt(SOL_SOCKET, SO_LINGER, _RESET)
        self.handle_close()
