"""Anybody who can reach the controller's port: any bytes, from any address."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from urllib.parse import urlsplit

from nmk.wire.envelope import NO_EPOCH, Identity, Kind, agent_keys, seal_request, seal_to
from nmk.wire.token import Token
from tests.hostile.door import new_socket
from tests.lab import Host, patient
from tests.server.agent import PATHS, Agent
from tests.server.process import Answer, call

__all__ = ["Answer", "Stranger", "Unsealed", "forged"]
_SECONDS = patient(20)


class Stranger:
    """Who calls the controller at a URL; on loopback from any address of 127.0.0.0/8."""

    def __init__(self, url: str, address: str | None = None, host: Host | None = None) -> None:
        self.url = url
        self.address = address
        self.host = host

    def at(self, address: str) -> Stranger:
        """The same one, at another address."""
        return Stranger(self.url, address, self.host)

    def connect(self, seconds: float = _SECONDS) -> socket.socket:
        """A connection to do anything with."""
        parts = urlsplit(self.url)
        name = parts.hostname or ""
        made = new_socket(self.host, socket.AF_INET6 if ":" in name else socket.AF_INET)
        made.settimeout(seconds)
        if self.address is not None:
            made.bind((self.address, 0))
        made.connect((name, parts.port))
        return made

    def raw(self, data: bytes) -> bytes:
        """All that comes back for these bytes until the controller hangs up."""
        with self.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
            return received

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One HTTP request on a connection of its own."""
        connection = http.client.HTTPConnection("controller")
        connection.sock = self.connect()
        return call(connection, method, path, body, headers)

    def post(self, path: str, body: bytes) -> Answer:
        """One message, or what shall look like one."""
        return self.request("POST", path, body)

    def ask(self, path: str, body: bytes) -> bytes:
        """The sealed answer to a message. Raises Unsealed."""
        answer = self.post(path, body)
        if answer.status != 200:
            raise Unsealed(answer)
        return answer.body

    def member(self, token: Token, name: str | None = None) -> Agent:
        """A node that a token lets in, which from then on may `say` anything."""
        agent = Agent(self.ask, token)
        agent.join(name)
        return agent


class Unsealed(Exception):
    """The controller answered in clear."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body[:200]!r}")
        self.status = answer.status
        self.answer = answer


def forged(
    token: Token, kind: Kind, body: bytes = b"{}", identity: Identity | None = None
) -> tuple[str, bytes]:
    """The path and the bytes of a well sealed message; without `identity` of one just made up."""
    me = identity or Identity.generate()
    keys = agent_keys(me, token.controller_key)
    _, message = seal_request(keys, kind, me.public, NO_EPOCH, token.network, body)
    if kind is Kind.JOIN:
        message = seal_to(token.controller_key, message)
    return PATHS[kind], message
