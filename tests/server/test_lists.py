"""Lists of the admin API have room for the largest network, whatever its machines say."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from nmk.core.check_in_health import LONGEST_TOLD
from nmk.core.gateways import MOST_RANGES, Egress, Exit, Gateway, Ingress, gateway_json
from nmk.core.health import Counters
from nmk.core.peers import MOST_CANDIDATES, MOST_EGRESS_RANGES, MOST_INFLATED, MOST_OTHERS
from nmk.core.problems import LONGEST_TEXT, MOST_PROBLEMS
from nmk.core.records import AccessKey, ExtClient, Issue, Network, Node
from nmk.core.room import MOST_ROLES, OBSERVED, dump
from nmk.core.traffic import Caller, encode_callers
from nmk.errors import NmkError
from nmk.server import admin_api
from nmk.server.admin import Admin
from nmk.server.admin_api import MAX_ANSWER
from nmk.server.controller import Controller
from nmk.server.crowd import MAX_HELD
from nmk.server.ext_clients import ExtClients
from nmk.server.gateways import Gateways
from nmk.server.health import LISTED
from nmk.server.presence import Sighting
from nmk.store.engine import open_engine
from nmk.store.store import Store
from nmk.wire.envelope import Identity
from nmk.wire.messages import CheckIn
from tests.core.made import NOW, made_facts, made_key, made_node

WIDE = "\U0001f600"  # four bytes as UTF-8, twelve in JSON
LONGEST = "n" * 63
ADDRESS6 = "fd12:3456:789a:bcde:f012:3456:789a:bc%02x"
HOST = ".".join([LONGEST] * 3 + ["n" * 61])
KEYS = 65_536  # of a network, without a limit
SEPARATOR = 2


@pytest.fixture
def controller(tmp_path: Path) -> Iterator[Controller]:
    store = Store(open_engine(f"sqlite://{tmp_path}/nmk.db"))
    yield Controller(store, Identity.generate())
    store.close()


def put(controller: Controller, *records: Any) -> None:
    """A network of these, as if it had been read."""
    made = controller.commit(
        "test",
        (LONGEST,),
        lambda _: [Network(LONGEST, "10.20.0.0/16", "fd12:3456:789a::/48"), *records],
    )
    assert made


def size(value: object) -> int:
    return len(json.dumps(value)) + SEPARATOR


def longest_node(number: int, **how: Any) -> Node:
    """One that says of itself all that it may, less LAN addresses, which the network shares."""
    endpoint = f"[{ADDRESS6 % 1}]:65535"
    facts = replace(made_facts(number, lan=[]), interval=3600, endpoint=endpoint)
    return made_node(
        number,
        network=LONGEST,
        name=f"{LONGEST[:-3]}{number:03}",
        facts=facts,
        address4=f"10.20.250.{100 + number}",
        address6=ADDRESS6 % number,
        observed=("203.100.100.200", ADDRESS6 % 2)[:OBSERVED],
        key_id="f" * 16,
        created_at=NOW,
        **how,
    )


def made_client(gateway: Node, issue: Issue) -> ExtClient:
    """An ext client of it, with the longest fields."""
    return ExtClient(
        id="f" * 16,
        network=LONGEST,
        name=LONGEST,
        gateway=gateway.identity,
        public_key="k" * 44,
        address4="10.20.250.250",
        address6=ADDRESS6 % 9,
        issue=issue,
        expires_at=NOW * 2,
        created_at=NOW,
    )


def healths() -> Iterator[str]:
    """The longest that a check-in can say of itself, some way or the other."""
    for text, count in ((WIDE, 1), ("é", 2), ('"', 8), ("a", 8), ("\u20ac", 3)):
        for code in (text * LONGEST_TEXT, "x"):
            problem = [code, text * LONGEST_TEXT, text * LONGEST_TEXT]
            for problems in range(count, 0, -1):
                said = {
                    "worked": 2**31,
                    "failure": [problem, 2**31, 2**53],
                    "revision": 2**53,
                    "problems": [problem] * min(problems, MOST_PROBLEMS),
                }
                told = json.dumps(said, ensure_ascii=False, separators=(",", ":"))
                if len(told.encode()) <= LONGEST_TOLD:
                    yield told
                    break
    small = [["", "", ""]] * 1000  # of which most are not looked at
    yield json.dumps(
        {"worked": 1, "failure": None, "revision": 1, "problems": small}, separators=(",", ":")
    )


def test_the_longest_list_of_nodes_has_room(controller: Controller) -> None:
    node = longest_node(1)
    put(controller, node)
    admin = Admin(controller, lambda: ("http://192.0.2.1",), None)
    here, there = (Sighting(str(n), ADDRESS6 % n) for n in (1, 2))
    for before, after in ((here, there), (there, here), (here, there)):
        controller.presence.hear_instance(node.identity, before, after)
    frame = 0
    for health in healths():
        said = CheckIn(2**53, "c", health=health)
        controller.presence.hear_check_in(node.identity, said, has_clients=False)
        [listed] = admin.list_nodes(LONGEST)
        whole = admin.show_node(LONGEST, node.name)["check_in"]
        told = listed["check_in"]
        problems = [p for p in (told["failure"], *told["problems"]) if p]
        assert sum(map(size, problems)) <= LISTED + 200  # with times and counts
        count = len([p for p in (whole["failure"], *whole["problems"]) if p])
        assert (len(problems) + told["more"], whole["more"]) == (count, 0)
        frame = max(frame, size(listed))
    assert admin.list_nodes(LONGEST)[0]["copies"]
    lans = MOST_INFLATED + MOST_CANDIDATES * SEPARATOR
    assert frame * MOST_OTHERS + MOST_ROLES + lans <= MAX_ANSWER < MAX_HELD


def test_what_usual_nodes_say_is_listed_whole(controller: Controller) -> None:
    node = longest_node(1)
    put(controller, node)
    admin = Admin(controller, lambda: (), None)
    problem = ["unreachable", "no controller answers at http://192.0.2.1:50051", "see it"]
    said = {"worked": 5, "failure": [problem, 7, 9], "revision": 3, "problems": [problem] * 3}
    message = CheckIn(3, "c", health=json.dumps(said))
    controller.presence.hear_check_in(node.identity, message, has_clients=False)
    [listed] = admin.list_nodes(LONGEST)
    assert listed["check_in"] == admin.show_node(LONGEST, node.name)["check_in"]
    assert len(listed["check_in"]["problems"]) == 3


def test_the_longest_list_of_ext_clients_has_room(controller: Controller) -> None:
    had = tuple(str(ip_network((i << 8, 24))) for i in range(MOST_EGRESS_RANGES))
    endpoint = f"{HOST}:65535"
    gateway = longest_node(1, gateway=Gateway(ingress=Ingress(endpoint)))
    issue = Issue(("10.20.250.251",), "other", "192.0.2.1:1", had, 1280, 99)
    client = made_client(gateway, issue)
    put(controller, gateway, client)
    caller = Caller(Counters(2**40, 2**63, 2**63), f"[{ADDRESS6 % 1}]:65535")
    said = CheckIn(1, "c", callers=encode_callers({client.id: caller}))
    controller.presence.hear_check_in(gateway.identity, said, has_clients=True)
    [listed] = ExtClients(controller).list_clients(LONGEST)
    shown = ExtClients(controller).show_client(LONGEST, LONGEST)
    assert len(shown["stale"]) > MOST_EGRESS_RANGES
    assert listed["stale"] == [*shown["stale"][:8], f"and {len(shown['stale']) - 8} more"]
    assert listed["endpoint"]
    assert size(listed) * MOST_OTHERS + 2 * MOST_ROLES <= MAX_ANSWER


def test_nobody_waits_for_a_list_of_ext_clients(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = longest_node(1, gateway=Gateway(ingress=Ingress("192.0.2.1:1")))
    issue = Issue(("10.20.9.9",), gateway.facts.wg_key)
    put(controller, gateway, made_client(gateway, issue))
    free: list[bool] = []

    def look(*_: object) -> list[str]:
        free.append(not controller.lock.locked())
        return []

    monkeypatch.setattr("nmk.core.ext_clients.staleness", look)
    [_] = ExtClients(controller).list_clients(LONGEST)
    assert free == [True]


def test_the_longest_list_of_gateways_has_room(controller: Controller) -> None:
    ranges = tuple(str(ip_network((10 << 24 | i << 8, 24))) for i in range(MOST_RANGES))
    egress = Egress(ranges, interface="i" * 15, mapped=dict(zip(ranges, ranges, strict=True)))
    gateway = longest_node(1, gateway=Gateway(Ingress(f"{HOST}:65535"), egress, Exit()))
    others = [
        replace(longest_node(n), facts=made_facts(n, lan=["10.0.0.9/16"])) for n in range(2, 40)
    ]
    put(controller, gateway, *others)
    rows = Gateways(controller).list_gateways(LONGEST)
    [found] = [row for row in rows if row["role"] == "egress"]
    assert {row["node"] for row in found["left_out"]} == {o.name for o in others[:8]}
    assert found["left_out_more"] == MOST_RANGES * (len(others) - 8)
    each_range = size(found) / MOST_RANGES * 3  # as all in it is of IPv6 at the most
    bare = size(next(row for row in rows if row["role"] == "exit"))
    many = MOST_ROLES // len(dump(gateway_json(Gateway(exit=Exit()))))
    named = size(f"{HOST}:65535")
    assert each_range * MOST_EGRESS_RANGES + bare * many + 2 * named * many <= MAX_ANSWER


def test_the_longest_list_of_keys_has_room(controller: Controller) -> None:
    key = AccessKey(
        **{f: getattr(made_key(), f) for f in ("id", "secret_hash")},
        network=LONGEST, uses=10**6, uses_max=10**6, expires_at=NOW, created_at=NOW, deleted_at=NOW,
    )  # fmt: skip
    put(controller, key)
    [listed] = Admin(controller, lambda: (), None).list_keys(LONGEST, revoked=True)
    assert size(listed) * KEYS + size(LONGEST) * MOST_OTHERS <= MAX_ANSWER


def test_a_list_that_is_too_long_all_the_same_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_api, "MAX_ANSWER", 1000)
    with pytest.raises(NmkError, match="the answer has 1002 bytes") as refusal:
        admin_api._json({"a": "x" * (1002 - len('{"a": ""}'))})
    assert refusal.value.code == "answer-too-long"
    assert admin_api._json({"a": ip_address("192.0.2.1").compressed}).status_code == 200
