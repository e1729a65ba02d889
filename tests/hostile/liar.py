"""A controller that holds the right key and lies, and the machine that it lies to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nmk.agent import state
from nmk.agent.exchange import check_in
from nmk.agent.membership import Membership, take_in
from nmk.agent.tick import api_of, collect_facts
from nmk.core.records import Facts, JoinRequest
from nmk.core.view import pack
from nmk.errors import NmkError
from nmk.server.problem import problem
from nmk.wire.envelope import (
    REPLY_TO,
    Header,
    Kind,
    SessionKeys,
    controller_keys,
    open_reply,
    open_request,
    open_sealed_to,
    parse_request,
    seal_reply,
)
from nmk.wire.messages import encode_error
from nmk.wire.token import Token
from tests.agent.controllers import RealController
from tests.agent.memberships import joining
from tests.hostile.door import Asked, Reply, http
from tests.server.agent import PATHS

Json = dict[str, Any]
KINDS = {path: kind for kind, path in PATHS.items()}


@dataclass(frozen=True, slots=True)
class Request:
    """A machine's request, opened. `data`: its JSON."""

    kind: Kind
    data: Json
    header: Header
    keys: SessionKeys

    def sealed(self, body: object, kind: Kind | None = None) -> bytes:
        """The HTTP response with anything under seal: JSON, or bytes as they shall be packed."""
        packed = body if isinstance(body, bytes) else pack(json.dumps(body).encode())
        return http(200, seal_reply(self.keys, kind or REPLY_TO[self.kind], self.header, packed))

    def error(self, code: str, message: str = "no", hint: str = "go", **more: object) -> bytes:
        """The same with an error of any code."""
        error = NmkError(message, hint)
        body = json.loads(encode_error(error)) | {"error": code, **more}
        return self.sealed(body, Kind.ERROR)


Lie = Callable[[Request, Json], Json | Reply]
"""What goes out in the place of the honest answer: JSON to be sealed, or bytes as they are."""


def honest(_: Request, answer: Json) -> Json:
    """No lie."""
    return answer


class Liar(RealController):
    """A real controller with the network `home`, whose sealed answers pass through `lie`.

    `lie` may be set while it runs. Its honest refusals are sent as they are.
    """

    def __init__(self, directory: Path, lie: Lie = honest, **where: Any) -> None:
        super().__init__(directory, **where)
        self.lie = lie
        self.script = self._answer

    def victim(self, name: str = "victim") -> Victim:
        """A machine that has joined. Needs the fixture `state_dir`."""
        return Victim(self.token(), name)

    def _answer(self, asked: Asked) -> Reply:
        reply = self._opened(asked)
        if isinstance(reply, NmkError):
            return http(*problem(reply))
        request, told, plain = reply
        if told is Kind.ERROR:
            return request.sealed(json.loads(plain), Kind.ERROR)
        lie = self.lie(request, json.loads(plain))
        return request.sealed(lie) if isinstance(lie, dict) else lie

    def _opened(self, asked: Asked) -> tuple[Request, Kind, bytes] | NmkError:
        """The request and the honest answer to it, both opened."""
        kind, me = KINDS[asked.path], self.core.identity
        doors = {
            Kind.JOIN: self.agents.join,
            Kind.CHECK_IN: self.agents.check_in,
            Kind.LEAVE: self.agents.leave,
        }
        try:
            message = open_sealed_to(me, asked.body) if kind is Kind.JOIN else asked.body
            header, sealed = parse_request(message, kind)
            keys = controller_keys(me, header.identity)
            request = Request(kind, json.loads(open_request(keys, header, sealed)), header, keys)
            reply = doors[kind](asked.body, asked.remote)
        except NmkError as error:
            return error
        as_agent = SessionKeys(receive=keys.send, send=keys.receive)
        return request, *open_reply(as_agent, header, reply)


class Victim:
    """The agent's own code for all that passes between a machine and a controller.

    It has no interface, and needs the fixture `state_dir` for its state file.
    """

    def __init__(self, token: Token, name: str = "victim") -> None:
        self.token = token
        self.me: Membership = joining(urls=token.urls, controller_key=token.controller_key)
        facts = collect_facts(self.me, {})
        wish = JoinRequest("", token.key_id, token.secret, name, "host", None, facts)
        self.me = take_in(self.me, api_of(self.me).join(wish).result())
        self.me = replace(self.me, phase="joined", reported=facts)

    @property
    def facts(self) -> Facts:
        """What it says of itself."""
        return collect_facts(self.me, {})

    def check_in(self, facts: Facts | None = None) -> Membership:
        """Check in, and keep what came as a tick does. Raises what a tick would."""
        self.me = check_in(self.me, api_of(self.me), facts or self.facts)
        state.save(self.me)
        return self.me
