"""Ext clients and time: one whose time is over is kept out at the next check-in, and just once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Barrier

import pytest

from nmk.store.engine import Engine, compile_query, open_engine
from nmk.store.tables import ChangeRow
from nmk.wire.envelope import Identity
from tests.engines.faulty import Faulty
from tests.engines.starters import Postgres
from tests.lab.polling import poll
from tests.server.inside import Inside, Time, inside
from tests.server.net import Net, clients_in
from tests.server.process import Controller

HOUR = 3600


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_engine(f"sqlite://{tmp_path}/nmk.db")
    yield made
    made.close()


@pytest.fixture
def net(engine: Engine, time: Time) -> Iterator[Net]:
    """A network with an ingress gateway `office`, on a controller whose clock stands."""
    with inside(engine, time) as controller:
        yield with_office(controller)


def with_office(controller: Inside) -> Net:
    net = Net.made(controller, "home", "10.50.0.0/16")
    net.ingress("office", endpoint="vpn.example.org:51820")
    return net


def changes(engine: Engine, actor: str) -> int:
    """How many commits somebody has made."""
    query = ChangeRow.select(ChangeRow.revision).where(ChangeRow.actor == actor)
    return len(engine.read(compile_query(engine, query)))


@pytest.mark.parametrize("who", ["office", "witness"])
def test_a_client_is_kept_out_when_its_time_is_over(
    net: Net, engine: Engine, time: Time, who: str
) -> None:
    made = net.add_client("phone", expires="1h")
    agents = {"office": net.agents["office"], "witness": net.witness}
    for agent in agents.values():
        assert list(clients_in(agent.check_in())) == ["phone"]
    time.now += HOUR - 1
    assert list(agents[who].check_in()) == ["at"]
    assert net.client("phone")["state"] == "enabled"
    assert changes(engine, "expiry") == 0
    time.now += 1
    assert net.client("phone")["state"] == "expired"  # before any node has asked
    assert changes(engine, "expiry") == 0
    for agent in (agents.pop(who), *agents.values()):
        delta = agent.check_in()
        assert (clients_in(delta), delta["gone"]) == ({}, [made["id"]])
        assert list(agent.check_in()) == ["at"]
    assert net.client("phone")["state"] == "expired"
    assert changes(engine, "expiry") == 1


def test_those_who_expire_together_go_together(net: Net, engine: Engine, time: Time) -> None:
    names = {"a": "30m", "b": "1h", "c": "2h", "d": "never"}
    ids = {name: net.add_client(name, expires=lasts)["id"] for name, lasts in names.items()}
    net.add_client("off", expires="30m")
    net.call("POST", "/extclients/off/disable")
    net.witness.check_in()
    time.now += HOUR
    assert set(net.witness.check_in()["gone"]) == {ids["a"], ids["b"]}
    states = {c["name"]: c["state"] for c in net.get("/extclients")}
    assert states == {
        "a": "expired",
        "b": "expired",
        "c": "enabled",
        "d": "enabled",
        "off": "disabled",
    }
    time.now += HOUR
    assert net.witness.check_in()["gone"] == [ids["c"]]
    assert changes(engine, "expiry") == 2


def test_one_that_has_expired_is_let_in_by_a_later_time_alone(net: Net, time: Time) -> None:
    net.add_client("phone", expires="1h")
    for check_in in (False, True):  # the same before and after anybody has noticed
        time.now += HOUR
        if check_in:
            net.witness.check_in()
        with net.unchanged() if check_in else ExitStack():
            answer = net.call("POST", "/extclients/phone/enable")
            assert (answer.status, answer.code) == (400, "bad-input")
            assert "expires=" in answer.json["hint"]
        changed = net.call("PATCH", "/extclients/phone", {"expires": "1h"}).json
        assert changed["state"] == "enabled"
        assert list(clients_in(net.witness.check_in())) == ["phone"]
    assert net.call("PATCH", "/extclients/phone", {"expires": "never"}).json["state"] == "enabled"
    time.now += 1000 * HOUR
    assert list(net.witness.check_in()) != []
    assert net.client("phone")["state"] == "enabled"


def test_one_that_is_disabled_stays_so_whatever_its_time(net: Net, time: Time) -> None:
    net.add_client("phone", expires="1h")
    net.call("POST", "/extclients/phone/disable")
    net.witness.check_in()
    time.now += 2 * HOUR
    assert list(net.witness.check_in()) == ["at"]
    assert net.client("phone")["state"] == "disabled"
    assert net.call("POST", "/extclients/phone/enable").status == 400
    changed = net.call("PATCH", "/extclients/phone", {"expires": "1h"}).json
    assert changed["state"] == "disabled"
    assert net.call("POST", "/extclients/phone/enable").json["state"] == "enabled"


def test_one_that_has_expired_can_be_disabled_rotated_and_deleted(net: Net, time: Time) -> None:
    net.add_client("phone", expires="1h")
    time.now += HOUR
    net.witness.check_in()
    assert net.call("POST", "/extclients/phone/disable").json["state"] == "disabled"
    key = net.add_client("tablet")["public_key"]
    net.call("DELETE", "/extclients/tablet")
    assert net.call("POST", "/extclients/phone/rotate", {"public_key": key}).status == 200
    assert net.witness.check_in()["gone"]
    assert net.call("DELETE", "/extclients/phone").status == 204


def test_a_new_key_does_not_let_in_who_has_expired(net: Net, time: Time) -> None:
    phone = net.add_client("phone", expires="1h")
    time.now += HOUR
    tablet = net.add_client("tablet")
    net.call("DELETE", "/extclients/tablet")
    body = {"public_key": tablet["public_key"]}
    assert net.call("POST", "/extclients/phone/rotate", body).json["state"] == "expired"
    delta = net.witness.check_in()
    assert clients_in(delta) == {}
    assert phone["id"] in delta["gone"]


def test_what_a_gateway_said_of_its_callers_grows_old(net: Net, time: Time) -> None:
    phone = net.add_client("phone")
    net.agents["office"].check_in(callers=f"{phone['id']},1,2,30,198.51.100.7:4000")
    for passed, age in ((0, 30), (45, 75), (HOUR, 75 + HOUR)):
        time.now += passed
        assert net.client("phone")["handshake"] == age
        assert net.get("/extclients")[0]["handshake"] == age
    net.agents["office"].check_in(callers=f"{phone['id']},1,2,-,-")  # it called before that
    assert net.client("phone")["handshake"] is None


def test_a_restart_forgets_no_expiry(time: Time, tmp_path: Path) -> None:
    engine = open_engine(f"sqlite://{tmp_path}/nmk.db")
    identity = Identity.generate()
    with inside(engine, time, identity) as controller:
        net = with_office(controller)
        made = net.add_client("phone", expires="1h")
        net.witness.check_in()
    time.now += 2 * HOUR
    with inside(engine, time, identity) as controller:
        after = net.at(controller)
        assert after.client("phone")["state"] == "expired"
        assert after.witness.check_in()["gone"] == [made["id"]]
    engine.close()


def test_a_process_sees_the_time_pass(controller: Controller) -> None:
    net = Net.made(controller, "home", "10.50.0.0/16")
    office = net.ingress("office")
    made = net.add_client("phone", expires="1s")
    gone: list[str] = []

    def is_told() -> bool:
        gone.extend(office.check_in().get("gone", []))
        return bool(gone)

    poll(is_told, 20, "the client's end")
    assert gone == [made["id"]]
    assert net.client("phone")["state"] == "expired"
    told = [e for e in controller.events() if e["event"] == "extclient-expired"]
    assert [(e["network"], e["extclient"]) for e in told] == [("home", "phone")]


@pytest.mark.parametrize("fault", ["down", "odd"])
def test_agents_are_answered_while_the_database_is_away(
    tmp_path: Path, time: Time, fault: str
) -> None:
    """As docs/engines.md has it: from memory, whoever expires meanwhile."""
    engine = Faulty(open_engine(f"sqlite://{tmp_path}/nmk.db"), [])
    with inside(engine, time) as controller:
        net = with_office(controller)
        made = net.add_client("phone", expires="1h")
        net.witness.check_in()
        time.now += HOUR
        engine._script += [fault] * 3
        net.witness.check_in()
        engine._script.clear()
        time.now += 60  # it is tried again after a while
        poll(lambda: made["id"] in net.witness.check_in().get("gone", []), 20, "the client's end")
    engine.close()


@pytest.fixture
def replicas(postgres: Postgres, time: Time) -> Iterator[list[Inside]]:
    """Two controllers on one database."""
    url, identity = postgres.new_database(), Identity.generate()
    with ExitStack() as stack:
        engines = [open_engine(url) for _ in range(2)]
        for engine in engines:
            stack.callback(engine.close)
        yield [stack.enter_context(inside(engine, time, identity)) for engine in engines]


def test_of_two_controllers_one_expires_a_client(replicas: list[Inside], time: Time) -> None:
    first, second = replicas
    nets = [with_office(first)]
    second.controller.refresh()
    nets.append(nets[0].at(second))
    for number in range(5):
        made = nets[0].add_client(f"phone{number}", expires="1h")
        time.now += HOUR - 1
        second.controller.refresh()
        agents = [nets[0].witness, nets[1].moved(nets[0].agents["office"])]
        for agent in agents:
            agent.check_in()
        start = Barrier(2)

        def check_in(index: int) -> list[str]:
            start.wait()  # noqa: B023  # run before the next round
            gone: list[str] = agents[index].check_in()["gone"]  # noqa: B023
            return gone

        time.now += 1
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(check_in, range(2))) == [[made["id"]]] * 2
        assert changes(first.controller._store._engine, "expiry") == number + 1
        for controller in replicas:
            controller.controller.refresh()
        assert len({c.controller.meshes["home"].commit_id for c in replicas}) == 1
        for net in nets:
            assert net.client(f"phone{number}")["state"] == "expired"


@pytest.mark.parametrize("what", ["name", "address", "public_key"])
def test_of_two_controllers_one_gives_what_two_want(replicas: list[Inside], what: str) -> None:
    nets = [with_office(replicas[0])]
    replicas[1].controller.refresh()
    nets.append(nets[0].at(replicas[1]))
    same = {"name": "phone", "address": "10.50.0.99", "public_key": "B" * 42 + "A="}
    start = Barrier(2)

    def race(index: int) -> int:
        body = {
            "name": f"phone{index}",
            "public_key": f"{index}" * 42 + "A=",
            what: same[what],
        }
        start.wait()
        answer = nets[index].call("POST", "/extclients", body)
        assert answer.status == 201 or answer.code in {"name-taken", "address-taken"}
        return answer.status

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(race, range(2))) == [201, 409]
    for controller in replicas:
        controller.controller.refresh()
    assert nets[0].get("/extclients") == nets[1].get("/extclients")
    assert len(nets[0].get("/extclients")) == 1


def test_a_controller_learns_of_clients_from_the_other(replicas: list[Inside]) -> None:
    first = with_office(replicas[0])
    replicas[1].controller.refresh()
    second = first.at(replicas[1])
    agent = second.moved(first.agents["office"])
    made = first.add_client("phone")
    replicas[1].controller.refresh()
    assert list(clients_in(agent.check_in())) == ["phone"]
    first.call("POST", "/extclients/phone/disable")
    first.add_client("tablet")
    first.call("DELETE", "/extclients/tablet")
    replicas[1].controller.refresh()
    delta = agent.check_in()
    assert clients_in(delta) == {}
    assert made["id"] in delta["gone"]
    assert second.get("/extclients") == first.get("/extclients")
    assert second.get("/gateways") == first.get("/gateways")
