"""How many connections the listeners hold, and for how long.

A client that is slow, idle or gone costs a place, never the service: each request and each reply
has its time, which gets short when places do.
"""

from __future__ import annotations

import errno
import resource
import time
from collections.abc import Iterable
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser

from nmk.server.log import log_trouble

MOST = 1000
SPARE_FILES = 100  # descriptors for the database and all else that is no connection
LEAST = 10
REQUEST_SECONDS = 30  # for a request to come in whole, and for the next one to begin
REPLY_SECONDS = 600  # for a reply to be taken
HURRY = 30  # by which these are divided when nearly all places are taken
NEARLY = 0.9  # of all places
_NONE_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


def most_connections() -> int:
    """How many there may be at a time; takes as many descriptors as the system gives."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return MOST
    return max(LEAST, min(MOST, hard - SPARE_FILES))


class Request(HTTPRequestParser):
    """A request that remembers when its first byte came."""

    def __init__(self, adj: Any) -> None:  # noqa: ANN401  # waitress's
        super().__init__(adj)
        self.since = time.time()  # the clock of waitress's own times


class Connection(HTTPChannel):
    """A connection that can tell when its client has had enough time."""

    parser_class = Request
    answered = 0.0

    def service(self) -> None:
        """Answer a request."""
        self.answered = time.time()
        super().service()

    def is_overdue(self, now: float, hurry: float) -> bool:
        """Whether the client has kept us waiting for too long."""
        if self.requests:
            return False  # it waits for us
        if self.total_outbufs_len:
            return now - self.answered > REPLY_SECONDS / hurry
        since = getattr(self.request, "since", self.last_activity)
        return now - since > REQUEST_SECONDS / hurry


def sweep(servers: Iterable[Any], channels: Iterable[Any], *, crowded: bool) -> None:
    """Cut the connections whose time is over, and let servers that rest accept others again."""
    now, hurry = time.time(), HURRY if crowded else 1
    for channel in channels:
        if isinstance(channel, Connection) and channel.is_overdue(now, hurry):
            channel.will_close = True
    for server in servers:
        server.accepting = True


def tame(server: Any) -> None:  # noqa: ANN401  # waitress's
    """Make a server's connections ours; it rests until the next sweep when no descriptor is left.

    waitress would try again at once and for ever, and log each time. Who waits is not lost: the
    kernel keeps them.
    """
    accept = server.accept

    def accept_or_rest() -> Any:  # noqa: ANN401  # waitress's
        try:
            return accept()
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
            server.accepting = False
            log_trouble("no-descriptor-left", reason=error.strerror)
            return None

    server.channel_class = Connection
    server.accept = accept_or_rest
