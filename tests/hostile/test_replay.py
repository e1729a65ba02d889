"""Whatever was recorded is sent again, in any order, anywhere: only *last seen* may change."""

from __future__ import annotations

import base64
import json
import random
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nmk.core.records import Facts, JoinRequest
from nmk.errors import NotFound, RateLimited, Unreadable
from nmk.server.admin import Admin
from nmk.server.agents import Agents
from nmk.server.controller import Controller
from nmk.server.edits import Edit
from nmk.store.engine import open_engine
from nmk.store.store import Store
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
from nmk.wire.messages import CheckIn, encode_check_in, encode_join, encode_leave
from nmk.wire.token import Token, parse_token

EDIT = Edit("test")
Send = Callable[[bytes, str], bytes]


class Replica:
    """One of two controllers on one database."""

    def __init__(self, database: Path, identity: Identity) -> None:
        self.store = Store(open_engine(f"sqlite://{database}"))
        self.controller = Controller(self.store, identity)
        self.agents = Agents(self.controller)
        self.admin = Admin(self.controller, lambda: ("http://192.0.2.1:50051",), None)

    def doors(self) -> dict[Kind, Send]:
        return {
            Kind.JOIN: self.agents.join,
            Kind.CHECK_IN: self.agents.check_in,
            Kind.LEAVE: self.agents.leave,
        }


class Machine:
    """An agent whose every message and reply is recorded."""

    def __init__(self, replica: Replica, token: Token, number: int) -> None:
        self.replica = replica
        self.token = token
        self.me = Identity.generate()
        self.keys = agent_keys(self.me, token.controller_key)
        self.epoch = NO_EPOCH
        self.at = CheckIn(0, "")
        self.address = f"198.51.100.{number}"
        self.facts = Facts(base64.b64encode(secrets.token_bytes(32)).decode(), 51821)
        self.sent: list[tuple[Kind, bytes]] = []
        self.replies: list[tuple[Header, bytes]] = []

    def join(self) -> None:
        request = JoinRequest(
            "", self.token.key_id, self.token.secret, None, "box", None, self.facts
        )
        self._send(Kind.JOIN, encode_join(request))

    def check_in(self, *, seq: int = 0, facts: Facts | None = None) -> None:
        message = CheckIn(self.at.revision, self.at.commit_id, seq, facts)
        self._send(Kind.CHECK_IN, encode_check_in(message))

    def leave(self) -> None:
        self._send(Kind.LEAVE, encode_leave(99))

    def _send(self, kind: Kind, body: bytes) -> None:
        header, message = seal_request(
            self.keys, kind, self.me.public, self.epoch, self.token.network, body
        )
        if kind is Kind.JOIN:
            message = seal_to(self.token.controller_key, message)
        reply = self.replica.doors()[kind](message, self.address)
        self.sent.append((kind, message))
        self.replies.append((header, reply))
        reply_kind, plain = open_reply(self.keys, header, reply)
        assert reply_kind is not Kind.ERROR, plain
        answer = json.loads(plain)
        if "epoch" in answer:
            self.epoch = bytes.fromhex(answer["epoch"])
        if "at" in answer:
            self.at = CheckIn(*answer["at"])


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[list[Replica]]:
    identity = Identity.generate()
    both = [Replica(tmp_path / "nmk.db", identity) for _ in range(2)]
    yield both
    for replica in both:
        replica.store.close()


@pytest.fixture
def machines(replicas: list[Replica]) -> list[Machine]:
    """Three machines that joined, reported, moved; one has left, one was deleted."""
    first = replicas[0]
    first.admin.create_network(EDIT, {"name": "home", "cidrs": ["10.77.0.0/24"]})
    token = parse_token(first.admin.create_key(EDIT, "home", {"uses": 5})["token"])
    machines = [Machine(first, token, number) for number in (1, 2, 3)]
    for machine in machines:
        machine.join()
        machine.check_in()
        for seq, lan in ((1, "192.168.1.7/24"), (2, "192.168.2.7/24"), (3, "192.168.1.7/24")):
            facts = Facts(machine.facts.wg_key, 51821, (lan,), instance=f"boot{min(seq, 2)}")
            machine.check_in(seq=seq, facts=facts)
        machine.check_in()
    machines[1].leave()
    first.admin.delete_node(EDIT, "home", "box-3")
    return machines


def everything(database: Path) -> dict[str, list[tuple[object, ...]]]:
    """All rows but those of *last seen*."""
    with sqlite3.connect(database) as connection:
        tables = ("meta", "changes", "networks", "access_keys", "nodes")
        return {
            t: connection.execute(f"SELECT * FROM {t} ORDER BY 1, 2").fetchall() for t in tables
        }


@pytest.mark.parametrize("seed", range(4))
def test_recorded_requests_change_nothing_on_any_replica(
    replicas: list[Replica], machines: list[Machine], tmp_path: Path, seed: int
) -> None:
    before = everything(tmp_path / "nmk.db")
    listed = [r.admin.list_nodes("home") for r in replicas[:1]]
    recorded = [message for machine in machines for message in machine.sent] * 3
    dice = random.Random(seed)
    dice.shuffle(recorded)
    for kind, message in recorded:
        replica = dice.choice(replicas)
        stranger = f"203.0.113.{dice.randint(1, 3)}"
        assert replica.doors()[kind](message, stranger)
    assert everything(tmp_path / "nmk.db") == before
    for replica in replicas:
        for node in replica.admin.list_nodes("home"):
            assert node["state"] == "healthy"
            was = listed[0][0]
            assert {**node, "last_seen": was["last_seen"]} == was


def test_messages_at_the_wrong_door_are_refused(
    replicas: list[Replica], machines: list[Machine], tmp_path: Path
) -> None:
    before = everything(tmp_path / "nmk.db")
    for machine in machines:
        messages = machine.sent + [(Kind.VIEW, reply) for _, reply in machine.replies]
        for kind, message in messages:
            for door, send in replicas[1].doors().items():
                if door is not kind:
                    with pytest.raises((Unreadable, RateLimited)):
                        send(message, "203.0.113.9")
    assert everything(tmp_path / "nmk.db") == before


def test_an_agent_takes_only_the_reply_to_its_request(machines: list[Machine]) -> None:
    for machine in machines:
        for place, (header, reply) in enumerate(machine.replies):
            for other, (_, foreign) in enumerate(machine.replies):
                if other != place:
                    with pytest.raises(Unreadable):
                        open_reply(machine.keys, header, foreign)
            with pytest.raises(Unreadable):
                open_reply(machine.keys, header, machine.sent[place][1])
            assert open_reply(machine.keys, header, reply)


def test_a_recording_from_elsewhere_only_asks_for_a_report(
    replicas: list[Replica], machines: list[Machine]
) -> None:
    """An address counts from a numbered report on: those cannot be played again."""
    here = machines[0]
    here.check_in()
    here.check_in()  # with nothing new, so that it may be answered as often as it comes
    check_in = here.sent[-1][1]
    header = here.replies[-1][0]
    replies = [replicas[0].agents.check_in(check_in, "203.0.113.66") for _ in range(3)]
    answers = [json.loads(open_reply(here.keys, header, reply)[1]) for reply in replies]
    assert [a.get("report") for a in answers] == [None, True, True]
    [node] = replicas[0].admin.list_nodes("home")
    assert node["observed"] == [here.address]
    here.address = "203.0.113.77"
    here.check_in(seq=9, facts=here.facts)
    [node] = replicas[0].admin.list_nodes("home")
    assert node["observed"] == ["203.0.113.77"]


def test_a_node_that_joined_at_one_replica_is_known_at_the_other(
    replicas: list[Replica], machines: list[Machine]
) -> None:
    here = machines[0]
    here.replica = replicas[1]
    here.check_in(seq=10, facts=here.facts)
    here.replica = replicas[0]
    here.check_in()
    assert here.at.revision == replicas[1].admin.show_node("home", "box")["revision"]
    with pytest.raises(NotFound):
        replicas[1].admin.show_node("home", "box-3")
