"""Listeners and the loop that serves them, until a signal asks to stop."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from waitress import wasyncore
from waitress.server import create_server

from nmk.core.parse import parse_address, parse_port, quote
from nmk.errors import BadInput, NmkError
from nmk.server.connections import MAX_HEAD, STALL_SECONDS, Connection
from nmk.server.crowd import Crowd
from nmk.server.log import log_seldom

_DRAIN_SECONDS = 10  # how long requests under way may take after a stop was asked for
_BACKLOG = 1024
_LOOP_SECONDS = 1
_REST_SECONDS = 1  # without a descriptor
_PATIENCE_SECONDS = 1  # after a stop was asked for, with clients and threads that do nothing
_NONE_LEFT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_SEND_BUFFER = 64 * 1024  # of the kernel, which takes twice as much for a connection
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
    """A socket file that only this user can connect to; one that is left over is replaced.

    Raises ListenFailed.
    """
    before = os.umask(0o177)
    try:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        _bound_buffers(listener)
        listener.bind(str(path))
        listener.listen(_BACKLOG)
    except OSError as error:
        raise ListenFailed(
            f"cannot listen on {path}: {error.strerror}", f"remove or move away {path}"
        ) from None
    finally:
        os.umask(before)
    return listener


def _open_one(host: str, port: int, *, optional: bool) -> socket.socket | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as undo:
        try:
            listener = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _bound_buffers(listener)
            unacknowledged = 2 * STALL_SECONDS * 1000  # also after a connection was closed (tcp(7))
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, unacknowledged)
            listener.bind((host, port))
            listener.listen(_BACKLOG)
        except OSError as error:
            elsewhere = error.errno == errno.EADDRNOTAVAIL
            if optional and (elsewhere or error.errno == errno.EAFNOSUPPORT):
                return None
            hint = "name an address of this host, or all of them: *:PORT" if elsewhere else None
            message = f"cannot listen on {host} port {port}: {error.strerror}"
            raise ListenFailed(message, hint) from None
        undo.pop_all()
    return listener


def _bound_buffers(listener: socket.socket) -> None:
    """Set what the kernel keeps of replies; connections have it from their listener."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)


@dataclass(frozen=True, slots=True)
class Listener:
    """An application and the sockets it is served on.

    `body_limit`: bytes of one request. `places`: connections at a time, of all its sockets;
    `share`: those of one address; `grace`: as of `Crowd`.
    """

    app: Any
    sockets: list[socket.socket]
    body_limit: int
    threads: int
    places: int
    share: int
    grace: float = 0


def serve(listeners: list[Listener]) -> None:
    """Serve until SIGTERM or SIGINT, then finish the requests that are under way."""
    channels: dict[int, Any] = {}
    crowds = [
        (crowd := Crowd(li.places, li.share, li.grace), _servers(li, crowd, channels))
        for li in listeners
    ]
    servers = [server for _, own in crowds for server in own]
    with _stop_signals(servers[0].pull_trigger) as received:
        while not received:
            wasyncore.loop(timeout=_LOOP_SECONDS, map=channels, use_poll=True, count=1)
            now = time.time()
            for crowd, own in crowds:
                if crowd.is_settled(now):
                    continue
                has_room = crowd.settle(now)
                for server in own:
                    server.accepting = (
                        has_room and not 0 < server.rests_until - now <= _REST_SECONDS
                    )
    for server in servers:
        server.del_channel()
        server.socket.close()
    _drain([crowd for crowd, _ in crowds], channels)
    for server in servers:
        server.task_dispatcher.shutdown(timeout=_PATIENCE_SECONDS)


def _servers(listener: Listener, crowd: Crowd, channels: dict[int, Any]) -> list[Any]:
    """A server a socket. Each limit of theirs that could stop a thread or fill a disk is lifted.

    What those are for is held by `crowd`, and by how connections read.
    """
    made: list[Any] = []
    for listening in listener.sockets:
        server: Any = create_server(
            listener.app,
            map=channels,
            sockets=[listening],
            threads=listener.threads,
            max_request_header_size=MAX_HEAD,
            max_request_body_size=listener.body_limit,
            inbuf_overflow=sys.maxsize,  # files in /tmp
            outbuf_overflow=sys.maxsize,
            outbuf_high_watermark=sys.maxsize,  # at which a worker would wait for the client
            connection_limit=sys.maxsize,
            channel_timeout=sys.maxsize,
            backlog=_BACKLOG,
            log_socket_errors=False,  # a traceback each time
            clear_untrusted_proxy_headers=False,  # nothing here reads such headers
            ident="nmk",
        )
        server.adj.send_bytes = _HELD_BYTES
        server.channel_class = Connection
        server.crowd = crowd
        _rest_when_empty(server)
        made.append(server)
    return made


def _rest_when_empty(server: Any) -> None:  # noqa: ANN401  # waitress's
    """Let a server rest when no descriptor is left.

    waitress would try again at once and for ever, and log each time. Who waits is not lost: the
    kernel keeps them.
    """
    accept = server.accept
    server.rests_until = 0.0

    def accept_or_rest() -> Any:  # noqa: ANN401  # waitress's
        try:
            return accept()
        except OSError as error:
            if error.errno not in _NONE_LEFT:
                raise
            server.rests_until = time.time() + _REST_SECONDS
            server.accepting = False
            log_seldom("no-descriptor-left", reason=error.strerror)
            return None

    server.accept = accept_or_rest


def _drain(crowds: list[Crowd], channels: dict[int, Any]) -> None:
    """Finish what is under way, for clients that take it."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while time.monotonic() < deadline:
        clients: list[Any] = [client for crowd in crowds for client in crowd.clients()]
        for client in clients:
            stalled = time.time() - client.last_activity > _PATIENCE_SECONDS
            if not client.busy and (stalled or not client.total_outbufs_len):
                client.cut()
        if not any(crowds):
            return
        wasyncore.loop(timeout=0.1, map=channels, use_poll=True, count=1)


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
