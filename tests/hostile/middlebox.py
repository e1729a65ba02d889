"""Stands between machines and a controller, as a proxy or an intruder may."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.hostile.door import Asked, Door, Reply, endless, http
from tests.hostile.stranger import Answer, Stranger
from tests.lab import Host

Forward = Callable[[bytes], Answer]
"""Sends a body upstream in the request's place: the answer."""
Meddle = Callable[[Asked, Forward], Reply]

LOGIN_PAGE = b"<html>Please log in to the airport's network</html>"


@dataclass(frozen=True, slots=True)
class Exchange:
    """What was recorded: a request that went upstream, and its answer."""

    path: str
    request: bytes
    answer: Answer


class Middlebox(Door):
    """A proxy that records all that it passes on. `meddle` may be set while it runs."""

    def __init__(
        self,
        upstream: str,
        meddle: Meddle | None = None,
        host: Host | None = None,
        port: int = 0,
    ) -> None:
        super().__init__(self._pass, host, port)
        self.meddle = meddle or pass_on
        self.recorded: list[Exchange] = []
        self._upstream = Stranger(upstream, host=host)

    def replay(self, exchange: Exchange, address: str | None = None) -> Answer:
        """Send a recorded request once more; on loopback from any address of 127.0.0.0/8."""
        sender = self._upstream if address is None else self._upstream.at(address)
        return sender.post(exchange.path, exchange.request)

    def _pass(self, asked: Asked) -> Reply:
        def forward(body: bytes) -> Answer:
            answer = self._upstream.request(asked.method, asked.path, body or None)
            self.recorded.append(Exchange(asked.path, body, answer))
            return answer

        return self.meddle(asked, forward)


def pass_on(asked: Asked, forward: Forward) -> Reply:
    """An honest proxy."""
    answer = forward(asked.body)
    return http(answer.status, answer.body)


def lose_replies(asked: Asked, forward: Forward) -> Reply:
    """The request arrives, its reply does not."""
    forward(asked.body)
    return b""


def drop(_: Asked, __: Forward) -> Reply:
    """Nothing arrives."""
    return b""


def change_a_byte(asked: Asked, forward: Forward) -> Reply:
    """The reply comes with its middle byte changed."""
    answer = forward(asked.body)
    middle = len(answer.body) // 2
    changed = bytes([answer.body[middle] ^ 1])
    return http(answer.status, answer.body[:middle] + changed + answer.body[middle + 1 :])


def reflect(asked: Asked, _: Forward) -> Reply:
    """The request is its own answer."""
    return http(200, asked.body)


def login_page(_: Asked, __: Forward) -> Reply:
    """What a hotel answers."""
    return http(200, LOGIN_PAGE)


def not_found(_: Asked, __: Forward) -> Reply:
    """A web server of somebody else."""
    return http(404)


def no_http(_: Asked, __: Forward) -> Reply:
    """An ssh server."""
    return b"SSH-2.0-OpenSSH_9.2\r\n"


def without_end(_: Asked, __: Forward) -> Reply:
    """A reply that does not end."""
    return endless()
