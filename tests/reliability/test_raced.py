"""Many at once: each change happens whole and in order, and who comes too late is told."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from threading import Barrier
from typing import Any, TypeVar

import pytest

from nmk.errors import KeyUsedUp, NameTaken, NmkError, NodeDeleted, NotFound, Stale
from tests.lab.polling import patient
from tests.reliability.served import Agent, Served

T = TypeVar("T")

THREADS = 32


def at_once(calls: Iterable[Callable[[], T]]) -> list[T | NmkError]:
    """What each call gave or raised; as many as there are threads start in the same moment."""
    waiting = list(calls)
    start = Barrier(min(THREADS, len(waiting)))

    def run(number: int, call: Callable[[], T]) -> T | NmkError:
        if number < start.parties:
            start.wait(patient(30))
        try:
            return call()
        except NmkError as error:
            return error

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(run, range(len(waiting)), waiting))


def rename(served: Served, name: str, new_name: str) -> Callable[[], Any]:
    return partial(served.call, "PATCH", f"/networks/home/nodes/{name}", {"name": new_name})


def kinds(results: Iterable[object]) -> Counter[type]:
    return Counter(type(r) if isinstance(r, NmkError) else object for r in results)


def memory(served: Served) -> dict[str, Any]:
    """All that the admin API tells of the network, but how check-ins went: that is no change."""
    nodes = served.nodes()
    for node in nodes.values():
        del node["last_seen"], node["check_in"], node["state"]
    return {
        "network": served.call("GET", "/networks/home"),
        "keys": served.call_list("/networks/home/keys"),
        "nodes": nodes,
    }


def assert_sound(served: Served) -> None:
    """No name or address twice, no gap in the log, and memory says what the database says."""
    listed = served.call_list("/networks/home/nodes")
    for shared in ([n["name"] for n in listed], [a for n in listed for a in n["addresses"]]):
        assert len(shared) == len(set(shared))
    with closing(sqlite3.connect(served.data / "nmk.db")) as database:
        log = database.execute("SELECT revision FROM changes WHERE network = 'home' ORDER BY 1")
        revisions = [revision for (revision,) in log]
    assert revisions == list(range(1, len(revisions) + 1))
    before = memory(served)
    served.stop()
    served.start()
    assert memory(served) == before


def test_a_hundred_joins_with_a_key_of_sixty_uses(served: Served) -> None:
    token = served.token(uses=60)
    agents = [Agent(served, token, "host") for _ in range(100)]
    results = at_once(agent.join for agent in agents)
    assert kinds(results) == {object: 60, KeyUsedUp: 40}
    assert served.uses(token) == 60
    nodes = served.nodes()
    assert len(nodes) == 60
    let_in = [view for view in results if not isinstance(view, NmkError)]
    assert {v["self"]["name"]: v["self"]["addresses"] for v in let_in} == {
        name: node["addresses"] for name, node in nodes.items()
    }
    assert_sound(served)


def test_one_machine_that_joins_many_times_at_once(served: Served) -> None:
    token = served.token(uses=1)
    agent = Agent(served, token, "anna")
    results = at_once([agent.join] * 20)
    assert kinds(results) == {object: 20}
    assert served.uses(token) == 1
    assert served.nodes().keys() == {"anna"}
    assert_sound(served)


def test_edits_made_on_the_same_revision(served: Served) -> None:
    revision = served.call("GET", "/networks/home")["revision"]

    results = at_once(
        partial(served.call, "PATCH", "/networks/home", body, revision=revision)
        for body in ({"settings": {"keepalive": seconds}} for seconds in range(30, 40))
    )
    assert kinds(results) == {object: 1, Stale: 9}
    [won] = [r for r in results if not isinstance(r, NmkError)]
    assert served.call("GET", "/networks/home")["settings"] == won["settings"]
    assert_sound(served)


def test_nodes_that_want_the_same_name(served: Served) -> None:
    token = served.token(uses=None)
    names = [f"host-{number}" for number in range(10)]
    for name in names:
        Agent(served, token, name).join()
    results = at_once(rename(served, name, "anna") for name in names)
    assert kinds(results) == {object: 1, NameTaken: 9}
    assert_sound(served)


@pytest.mark.parametrize("rounds", [3])
def test_joins_reports_edits_and_deletions(served: Served, rounds: int) -> None:
    token = served.token(uses=None)
    settled = [Agent(served, token, f"settled-{number}") for number in range(20)]
    for agent in settled:
        agent.join()

    calls: list[Callable[[], Any]] = []
    for number in range(rounds):
        for agent in settled:
            calls += [
                Agent(served, token, "new").join,
                partial(agent.report, 51000 + number, number + 1),
                rename(served, agent.name, f"{agent.name}-{number}"),
                partial(served.call, "DELETE", f"/networks/home/nodes/{agent.name}"),
            ]
    results = at_once(calls)
    unexpected = kinds(results).keys() - {object, NotFound, NameTaken, NodeDeleted}
    assert not unexpected, [r for r in results if type(r) in unexpected]
    assert len([n for n in served.nodes() if n.startswith("new")]) == rounds * len(settled)
    assert_sound(served)
