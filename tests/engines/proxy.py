"""A TCP proxy that loses a connection at a moment of the test's choice."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Thread
from typing import Literal

How = Literal["before", "after", "late"]
BEFORE: How = "before"
AFTER: How = "after"
LATE: How = "late"
"""Cut before the words are forwarded; when the server has replied to them, the reply being lost;
or before, and still forward them: when the next connection has said something."""


@dataclass
class Link:
    """A connection to us and ours to the server."""

    client: socket.socket
    server: socket.socket
    lost: Event = field(default_factory=Event)

    def cut(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Forwards `port` of the loopback to another."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock = Lock()
        self._trap: tuple[bytes, How] | None = None
        self._held: tuple[Link, bytes] | None = None
        self._links: list[Link] = []
        self._threads: list[Thread] = []
        self.sprung = Event()
        self.refuse_after_loss = False
        self._start(self._accept)

    def close(self) -> None:
        """End all connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()  # from here on there are no new links
        for link in self._links:
            link.cut()
        for thread in self._threads:
            thread.join()
        for link in self._links:
            link.client.close()
            link.server.close()
        self._listener.close()

    def lose(self, words: bytes, how: How) -> None:
        """Lose the next connection over which these words come."""
        self._trap = (words, how)

    def _start(self, work: Callable[..., None], *arguments: Link) -> None:
        thread = Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refuse_after_loss and self.sprung.is_set():
                    client.close()
                    continue
                try:
                    server = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    client.close()
                    continue
                link = Link(client, server)
                self._links.append(link)
                self._start(self._requests, link)
                self._start(self._replies, link)

    def _requests(self, link: Link) -> None:
        with suppress(OSError):
            while data := link.client.recv(1 << 20):
                how = self._spring(data)
                if how == LATE:
                    self._held = (link, data)
                    link.client.shutdown(socket.SHUT_RDWR)
                    return
                if how == BEFORE:
                    break
                if how == AFTER:
                    link.lost.set()
                self._deliver()
                link.server.sendall(data)
        link.cut()

    def _replies(self, link: Link) -> None:
        with suppress(OSError):
            while (data := link.server.recv(1 << 20)) and not link.lost.is_set():
                with suppress(OSError):
                    link.client.sendall(data)
        if self._held is None or self._held[0] is not link:
            link.cut()

    def _spring(self, data: bytes) -> How | None:
        with self._lock:
            if self._trap is None or self._trap[0] not in data:
                return None
            how = self._trap[1]
            self._trap = None
            self.sprung.set()
            return how

    def _deliver(self) -> None:
        with self._lock:
            held, self._held = self._held, None
        if held:
            held[0].server.sendall(held[1])
