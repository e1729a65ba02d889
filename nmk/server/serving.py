"""Listeners and the loop that serves them, until a signal asks to stop."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from nmk.core.parse import parse_address, parse_port, quote
from nmk.errors import BadInput, NmkError
from nmk.server.connections import NEARLY, most_connections, sweep, tame

_DRAIN_SECONDS = 10  # how long requests under way may take after a stop was asked for
_BACKLOG = 1024
_SWEEP_SECONDS = 1
_HELD_BYTES = 16 * 1024  # of a reply until it is complete, so that head and body leave as one


class ListenFailed(NmkError):
    """Another program listens there."""

    code = "listen-failed"
    default_hint = "stop the other program, or choose another with --listen or --admin-listen"


def parse_listen(text: str) -> tuple[str, int]:
    """`ADDRESS:PORT`, `[ADDRESS6]:PORT`, or `*:PORT` for all addresses of both families."""
    host, _, port = text.rpartition(":")
    if host != "*":
        host = str(parse_address(host.strip("[]"))) if host else ""
    if not host:
        raise BadInput(f"{quote(text)} is no listener", "write it like *:50051 or 127.0.0.1:8081")
    return host, parse_port(port)


def open_tcp(listen: str) -> list[socket.socket]:
    """Listening sockets: one, or for `*` one a family that this host has. Raises ListenFailed."""
    host, port = parse_listen(listen)
    hosts = ["0.0.0.0", "::"] if host == "*" else [host]  # noqa: S104  # agents come from anywhere
    return [s for h in hosts if (s := _open_one(h, port, optional=host == "*" and h == "::"))]


def open_unix(path: Path) -> socket.socket:
    """A socket file that only this user can connect to; one that is left over is replaced."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    finally:
        os.umask(before)
    return listener


def _open_one(host: str, port: int, *, optional: bool) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        if optional and error.errno in {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}:
            return None
        raise ListenFailed(f"cannot listen on {host} port {port}: {error.strerror}") from None
    return listener


@dataclass(frozen=True, slots=True)
class Listener:
    """An application and the sockets it is served on. `body_limit`: bytes of one request.

    `reserved`: the connections that it may have when the other listeners have taken all places.
    """

    app: Any
    sockets: list[socket.socket]
    body_limit: int
    threads: int
    reserved: int = 0


def serve(listeners: list[Listener]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that are under way."""
    channels: dict[int, Any] = {}
    most = most_connections()
    own = 2 * sum(len(listener.sockets) for listener in listeners)  # entries that a server makes
    servers: list[Any] = [
        create_server(
            listener.app,
            map=channels,
            sockets=[s],
            threads=listener.threads,
            max_request_body_size=listener.body_limit,
            backlog=_BACKLOG,
            connection_limit=most + own + listener.reserved,
            clear_untrusted_proxy_headers=False,  # nothing here reads such headers
            ident="nmk",
        )
        for listener in listeners
        for s in listener.sockets
    ]
    for server in servers:
        server.adj.send_bytes = _HELD_BYTES
        tame(server)
    sweep_at = 0.0
    with _stop_signals(servers[0].pull_trigger) as received:
        while not received:
            wasyncore.loop(timeout=_SWEEP_SECONDS, map=channels, use_poll=True, count=1)
            if time.monotonic() >= sweep_at:
                sweep_at = time.monotonic() + _SWEEP_SECONDS
                sweep(
                    servers, list(channels.values()), crowded=len(channels) - own >= most * NEARLY
                )
    for server in servers:
        server.del_channel()
        server.socket.close()
    deadline = time.monotonic() + _DRAIN_SECONDS
    while any(_busy(c) for c in list(channels.values())) and time.monotonic() < deadline:
        wasyncore.loop(timeout=0.1, map=channels, use_poll=True, count=1)
    for server in servers:
        server.task_dispatcher.shutdown()


def _busy(channel: object) -> bool:
    """Whether a connection has a request under way or a reply to send."""
    return bool(getattr(channel, "requests", None) or getattr(channel, "total_outbufs_len", 0))


@contextlib.contextmanager
def _stop_signals(wake: Callable[[], None]) -> Iterator[list[int]]:
    """The signals that asked to stop so far; a second one after the block ends the process.

    Nothing is raised where a signal comes: wasyncore takes any exception of a handler for a
    broken connection, so the request to stop would be lost. `wake` ends its wait instead.
    """
    received: list[int] = []

    def stop(number: int, _frame: object) -> None:
        received.append(number)
        wake()

    before = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
