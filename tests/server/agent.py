"""The smallest agent that the protocol allows: nmk.wire and HTTP, nothing else of nmk."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from nmk.core.records import PROTOCOL, Facts, JoinRequest, node_id
from nmk.errors import NmkError
from nmk.wire.envelope import (
    NO_EPOCH,
    Header,
    Identity,
    Kind,
    agent_keys,
    open_reply,
    seal_request,
    seal_to,
)
from nmk.wire.messages import (
    CheckIn,
    encode_check_in,
    encode_join,
    encode_leave,
    parse_error,
)
from nmk.wire.token import Token
from tests.core.made import key32

Json = dict[str, Any]
Post = Callable[[str, bytes], bytes]
PATHS = {Kind.JOIN: "/v1/join", Kind.CHECK_IN: "/v1/checkin", Kind.LEAVE: "/v1/leave"}


_numbers = count(1)


def new_facts() -> Facts:
    """A machine that there has not been before."""
    return Facts(
        wg_key=key32(next(_numbers), kind=9),
        listen_port=51821,
        lan=("192.168.1.7/24",),
        protocol=PROTOCOL,
    )


@dataclass
class Agent:
    """One machine. Every message that it sent is kept, to be sent again."""

    post: Post
    token: Token
    identity: Identity = field(default_factory=Identity.generate)
    facts: Facts = field(default_factory=new_facts)
    at: tuple[str, int, str] = (NO_EPOCH.hex(), 0, "")
    seq: int = 0
    sent: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def id(self) -> str:
        return node_id(base64.b64encode(self.identity.public).decode())

    def join(self, name: str | None = None, address: str | None = None) -> Json:
        """The view that the controller answers with; raises what it refuses with."""
        request = JoinRequest(
            identity="",
            key_id=self.token.key_id,
            secret=self.token.secret,
            name=name,
            host_name="host",
            address=address,
            facts=self.facts,
        )
        return self._take(self._exchange(Kind.JOIN, encode_join(request)))

    def check_in(
        self, *, report: bool = False, callers: str = "", serves: str = "", cookie: str = ""
    ) -> Json:
        """What the controller says to an agent that stands where this one does."""
        _, revision, commit_id = self.at
        message = CheckIn(revision, commit_id, callers=callers, serves=serves, cookie=cookie)
        if report:
            self.seq += 1
            message = replace(message, seq=self.seq, facts=self.facts)
        return self._take(self._exchange(Kind.CHECK_IN, encode_check_in(message)))

    def leave(self) -> Json:
        self.seq += 1
        return self._exchange(Kind.LEAVE, encode_leave(self.seq))

    def say(self, kind: Kind, body: object, path: str | None = None) -> Json:
        """Anything, sealed as it should be: JSON, or bytes in its place; at any path."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._exchange(kind, data, path)

    def _take(self, reply: Json) -> Json:
        if "epoch" in reply:
            self.at = (reply["epoch"], *reply["at"])
            self.seq = max(self.seq, reply["self"]["seq"])
        return reply

    def sealed(self, kind: Kind, body: bytes) -> tuple[Header, bytes]:
        """A message, not sent yet, and the header that opens its reply."""
        keys = agent_keys(self.identity, self.token.controller_key)
        epoch = bytes.fromhex(self.at[0])
        header, message = seal_request(
            keys, kind, self.identity.public, epoch, self.token.network, body
        )
        if kind is Kind.JOIN:
            message = seal_to(self.token.controller_key, message)
        return header, message

    def _exchange(self, kind: Kind, body: bytes, path: str | None = None) -> Json:
        header, message = self.sealed(kind, body)
        self.sent.append((path or PATHS[kind], message))
        return self.opened(header, self.post(path or PATHS[kind], message))

    def opened(self, header: Header, reply: bytes) -> Json:
        """The reply's object; raises the error that came under seal."""
        keys = agent_keys(self.identity, self.token.controller_key)
        kind, body = open_reply(keys, header, reply)
        if kind is Kind.ERROR:
            error, data = parse_error(body)
            raise Refused(error, data) from error
        content: Json = json.loads(body)
        return content


class Refused(Exception):
    """The controller said no, under seal."""

    def __init__(self, error: NmkError, data: Json) -> None:
        super().__init__(error.message)
        self.error = error
        self.data = data

    @property
    def code(self) -> str:
        return self.error.code
