"""What an unchanged check-in costs the database, and what the log gives away: nothing."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nmk.server.admin import Admin
from nmk.server.agents import Agents
from nmk.server.controller import Controller
from nmk.server.downloads import Downloads
from nmk.server.edits import Edit
from nmk.server.ext_clients import ExtClients
from nmk.server.gateways import Gateways
from nmk.server.node_api import NodeApi
from nmk.store.engine import Engine, Statement, open_engine
from nmk.store.store import Store
from nmk.wire.envelope import Identity
from nmk.wire.token import parse_token
from tests.server.agent import Agent
from tests.server.inside import served
from tests.server.net import new_key
from tests.server.process import Controller as Process
from tests.server.process import call
from tests.server.test_node_api import new_agent


class CountingEngine:
    """A real engine; every statement that passes is kept."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.dialect: Any = engine.dialect
        self.statements: list[str] = []

    def read(self, statement: Statement) -> list[tuple[Any, ...]]:
        self.statements.append(statement[0])
        return self._engine.read(statement)

    def write(self, batch: Sequence[Statement]) -> None:
        self.statements += [sql for sql, _ in batch]
        self._engine.write(batch)

    def tables(self) -> set[str]:
        return self._engine.tables()

    def keep_copy(self, version: int) -> None:
        self._engine.keep_copy(version)

    def settle(self) -> None:
        self._engine.settle()

    def close(self) -> None:
        self._engine.close()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[CountingEngine]:
    made = CountingEngine(open_engine(f"sqlite://{tmp_path}/nmk.db"))
    yield made
    made.close()


def test_an_unchanged_check_in_asks_the_database_nothing(engine: CountingEngine) -> None:
    controller = Controller(Store(engine), Identity.generate())
    admin = Admin(controller, lambda: ("http://127.0.0.1:1",), None)
    admin.create_network(Edit("test"), {"name": "home"})
    token = parse_token(admin.create_key(Edit("test"), "home", {"uses": 2})["token"])
    with served(NodeApi(Agents(controller), Downloads())) as port:

        def post(path: str, body: bytes) -> bytes:
            answer = call(http.client.HTTPConnection("127.0.0.1", port), "POST", path, body)
            assert answer.status == 200
            return answer.body

        first, second = Agent(post, token), Agent(post, token)
        first.join(name="gate")
        second.join()
        Gateways(controller).add_gateway(Edit("test"), "home", {"node": "gate", "role": "ingress"})
        phone = ExtClients(controller).create_client(
            Edit("test"), "home", {"name": "phone", "public_key": new_key(), "expires": "1h"}
        )
        callers = f"{phone['id']},1,2,3,198.51.100.7:4000"
        for agent in (first, second):
            agent.check_in()
        assert engine.statements
        engine.statements.clear()
        for _ in range(3):
            for agent in (first, second):
                assert list(agent.check_in(callers=callers)) == ["at"]
        assert engine.statements == []
        told = ExtClients(controller).show_client("home", "phone")  # from memory as well
        assert (told["endpoint"], engine.statements) == ("198.51.100.7:4000", [])
        second.check_in(report=True)
        assert any(sql.startswith("INSERT") for sql in engine.statements)
        engine.statements.clear()
        assert first.check_in()["full"] is False  # a delta is cut from memory as well
        assert engine.statements == []


def test_the_log_tells_what_happened_and_no_secret(controller: Process) -> None:
    controller.admin_call("POST", "/v1/networks", {"name": "home"})
    agent = new_agent(controller, "home")
    agent.join(name="web")
    agent.check_in(report=True)
    controller.agent_call("POST", "/v1/join", b"garbage")
    controller.admin_call("GET", "/v1/networks", key="wrong-key")
    controller.admin_call("DELETE", "/v1/networks/home/nodes/web")
    controller.admin_call("DELETE", f"/v1/networks/home/keys/{agent.token.key_id}")
    controller.admin_call("DELETE", "/v1/networks/home")
    identity_file = (controller.data / "controller.key").read_text().strip()
    admin_key = controller.key
    controller.stop()
    assert [e["event"] for e in controller.events()] == [
        "started",
        "network-created",
        "key-created",
        "joined",
        "node-deleted",
        "key-revoked",
        "network-deleted",
        "stopped",
    ]
    told = controller.log
    for secret in (agent.token.secret, agent.identity.secret, bytes.fromhex(identity_file)):
        for shown in (secret.hex(), base64.b64encode(secret).decode()[:40], repr(secret)[2:-1]):
            assert shown not in told
    for text in (admin_key, "wrong-key", "nmk1."):
        assert text not in told


def test_last_seen_outlives_a_restart(controller: Process) -> None:
    controller.admin_call("POST", "/v1/networks", {"name": "home"})
    agent = new_agent(controller, "home")
    agent.join(name="web")
    before = controller.admin_call("GET", "/v1/networks/home/nodes/web").json["last_seen"]
    controller.stop()
    controller.start()
    node = controller.admin_call("GET", "/v1/networks/home/nodes/web").json
    assert before
    assert node["last_seen"] == before
    assert json.dumps(agent.check_in())


def test_a_restart_costs_agents_nothing(controller: Process) -> None:
    controller.admin_call("POST", "/v1/networks", {"name": "home"})
    agent = new_agent(controller, "home")
    agent.join()
    agent.check_in()
    controller.stop()
    controller.start()
    assert list(agent.check_in()) == ["at"]
