"""A network on a running controller: what tests of gateways and ext clients ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from typing import Any, Protocol

from nmk.wire.token import parse_token
from tests.core.made import key32
from tests.server.agent import Agent, Refused, new_facts
from tests.server.process import Answer

Json = dict[str, Any]
PAGES = ("", "/nodes", "/keys", "/gateways", "/extclients")
_numbers = count(1)


class Serves(Protocol):
    """A controller, in whatever process."""

    def admin_call(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer: ...

    def agent_call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer: ...


def new_key() -> str:
    """A public key that nobody has had yet."""
    return key32(next(_numbers), kind=5)


def short(value: object) -> str:
    """A parameter as a test's id, whatever it is."""
    return ascii(value)[:24]


class Net:
    """A network, and a node `witness` in it that is told of every change."""

    def __init__(self, controller: Serves, name: str) -> None:
        self.controller = controller
        self.name = name
        key = self.call("POST", "/keys", {"uses": None, "expires": "never"}).json
        self._token = parse_token(key["token"])
        self.agents: dict[str, Agent] = {}
        self.witness = self.join("witness")

    @classmethod
    def made(cls, controller: Serves, name: str, *ranges: str) -> Net:
        """A new network."""
        body = {"name": name, "cidrs": list(ranges)}
        answer = controller.admin_call("POST", "/v1/networks", body)
        assert answer.status == 201, answer.body
        return cls(controller, name)

    def at(self, controller: Serves) -> Net:
        """The same network and its witness at another controller."""
        other: Net = object.__new__(Net)
        other.__dict__ = {**self.__dict__, "controller": controller}
        other.witness = other.moved(self.witness)
        return other

    def moved(self, agent: Agent) -> Agent:
        """The same machine, which speaks to this controller from now on."""
        return replace(agent, post=self._post)

    def call(
        self,
        method: str,
        path: str = "",
        body: object = None,
        *,
        etag: str | None = None,
        dry: bool = False,
    ) -> Answer:
        """A request to the admin API, below the network."""
        query = "" if not dry else ("&" if "?" in path else "?") + "dry-run=true"
        headers = {} if etag is None else {"If-Match": etag}
        target = f"/v1/networks/{self.name}{path}{query}"
        return self.controller.admin_call(method, target, body, headers)

    def get(self, path: str) -> Any:
        """What is there."""
        answer = self.call("GET", path)
        assert answer.status == 200, answer.body
        return answer.json

    def everything(self) -> list[Any]:
        """All that can be seen of the network, its revision too, but no times that go on."""
        try:  # first: whoever has been silent for long is shown to be late
            self.witness.check_in()
        except Refused as refused:  # asked whether it speaks just now, as after many changes
            self.witness.check_in(cookie=refused.data["cookie"])
        pages = [self.get(page) for page in PAGES]
        for found in (*pages[1], *pages[-1]):
            found.pop("last_seen", None)
            found.pop("handshake", None)
            found.pop("check_in", None)
        return [*pages, self.witness.at]

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """A block in which nothing of the network changes."""
        before = self.everything()
        yield
        assert self.everything() == before

    def join(self, name: str, address: str | None = None, **facts: Any) -> Agent:
        """A new node that knows what there is."""
        agent = Agent(self._post, self._token, facts=replace(new_facts(), **facts))
        agent.join(name=name, address=address)
        agent.check_in()
        self.agents[name] = agent
        return agent

    def add_gateway(self, node: str, role: str, **options: object) -> Json:
        """Give a node a role: the answer."""
        answer = self.call("POST", "/gateways", {"node": node, "role": role, **options})
        assert answer.status == 201, answer.body
        made: Json = answer.json
        return made

    def ingress(self, name: str, **options: object) -> Agent:
        """A new node that is an ingress gateway, and knows it."""
        agent = self.join(name)
        self.add_gateway(name, "ingress", **options)
        agent.check_in()
        return agent

    def add_client(self, name: str, **options: object) -> Json:
        """A new ext client: the answer."""
        body = {"name": name, "public_key": new_key(), **options}
        answer = self.call("POST", "/extclients", body)
        assert answer.status == 201, answer.body
        made: Json = answer.json
        return made

    def client(self, name: str) -> Json:
        """An ext client as it is now."""
        found: Json = self.get(f"/extclients/{name}")
        return found

    def _post(self, path: str, body: bytes) -> bytes:
        answer = self.controller.agent_call("POST", path, body)
        assert answer.status == 200, answer.body
        return answer.body


def clients_in(view: Json) -> dict[str, Json]:
    """The ext clients that a view or a delta tells of, by name."""
    return {entry["name"]: entry for block in view.get("clients", []) for entry in block}
