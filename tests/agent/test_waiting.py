"""How long a machine waits for its controller, and what it does with an answer that comes late."""

from __future__ import annotations

import json
import math
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nmk.agent import daemon, state
from nmk.agent.api import NodeApi
from nmk.agent.http import EXCHANGE_TIMEOUT, post
from nmk.agent.lock import locked
from nmk.agent.membership import take_in
from nmk.agent.reach import visit_all
from nmk.agent.status import status
from nmk.agent.tick import adopt
from nmk.core.peers import Reply, read_reply
from nmk.core.records import Facts
from nmk.errors import BadReply, Unreachable
from nmk.system.monitor import News
from nmk.system.runner import Runner
from nmk.wire.envelope import NO_EPOCH, Identity
from nmk.wire.messages import CheckIn
from tests.agent.memberships import full_view, joined, peer
from tests.agent.test_damaged import blind
from tests.hostile.door import Door
from tests.lab import poll


def api_at(*urls: str, seconds: float) -> NodeApi:
    key = Identity.generate().public
    return NodeApi(urls, key, Identity.generate(), "home", "the state file", seconds)


def told_by(reply: dict[str, Any]) -> Reply:
    return read_reply(json.dumps(reply).encode())


def test_urls_that_drip_leave_the_others_their_time() -> None:
    """All of them together have so long, however many there are."""
    with Door(lambda _: b"") as slow, Door(lambda _: b"no HTTP") as last:
        slow.script = lambda _: slow.drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 900, 0.05)
        urls = [f"{slow.url}/{number}" for number in range(5)]
        api = api_at(*urls, last.url, seconds=6)
        began = time.monotonic()
        with pytest.raises(BadReply, match=last.url):
            api.check_in(NO_EPOCH, CheckIn(0, ""))
        assert time.monotonic() - began < EXCHANGE_TIMEOUT
        assert len(slow.asked) == len(urls)


def test_a_look_at_all_urls_takes_no_longer_than_at_one() -> None:
    with Door(lambda _: b"") as slow:
        slow.script = lambda _: slow.drip(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 900, 0.05)
        urls = [f"{slow.url}/{number}" for number in range(12)]
        began = time.monotonic()
        found = visit_all(urls, 1)
        assert time.monotonic() - began < len(urls)
        assert [visit.url for visit in found] == urls
        assert all(visit.problem == "cannot be reached: timed out" for visit in found)


def test_no_second_question_when_the_time_is_over() -> None:
    with Door(lambda _: b"no HTTP") as door:
        api = api_at(door.url, seconds=0)
        with pytest.raises(Unreachable, match="0 s are over"):
            api.check_in(NO_EPOCH, CheckIn(0, ""))
        assert not door.asked


def test_a_name_that_nobody_resolves_is_waited_for_no_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """getaddrinfo(3) cannot be interrupted: with three silent servers it takes half a minute."""
    over, asked = threading.Event(), []

    def silent(host: str, _port: int, **options: int) -> list[object]:
        if options.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        asked.append(host)
        over.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    try:
        for _ in range(3):
            with pytest.raises(Unreachable, match="was not resolved in"):
                post("http://mesh.example:50051", "/", b"", 1000, b"", timeout=0.1)
        assert asked == ["mesh.example"], "one look-up at a time"
    finally:
        over.set()


def test_what_came_is_taken_in_beside_what_was_done_meanwhile() -> None:
    asked = joined(peer(2))
    now = replace(asked, down=True, wishes=replace(asked.wishes, settings={"mtu": 1380}))
    told = take_in(asked, told_by(full_view(asked, peer(3), seq=4)))
    reported = replace(told, reported=Facts("k", 1), urls=asked.urls[::-1])
    after = adopt(now, asked, reported)
    assert (after.known, after.seq, after.urls) == (told.known, 4, asked.urls[::-1])
    assert after.reported == Facts("k", 1)
    assert (after.down, after.wishes) == (True, now.wishes)


def test_nothing_came_and_nothing_changes() -> None:
    asked = joined(peer(2))
    now = replace(asked, down=True)
    assert adopt(now, asked, asked) == now


@pytest.mark.parametrize("faster", ["another check-in", "a hub's key"])
def test_what_came_too_late_is_left(faster: str) -> None:
    """It was said to a machine that stood elsewhere, or had another key."""
    asked = joined(peer(2))
    told = take_in(asked, told_by(full_view(asked, peer(3), seq=4)))
    if faster == "another check-in":
        now = take_in(asked, told_by(full_view(asked, peer(5), seq=5) | {"at": [9, "beef"]}))
    else:
        now = replace(asked, private_key=joined().private_key)
    assert adopt(now, asked, told) == now


def test_a_lock_that_is_held_for_long_is_told_of_once(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And shown, without a word in the state file, which is the other run's."""
    monkeypatch.setattr(daemon, "BUSY", 0)
    monkeypatch.setattr(daemon, "HELD_LONG", 1)
    state.save(joined())
    before, said = state.file_of("home").read_bytes(), list[str]()
    agent = daemon.Agent(Runner(), said.append)
    with locked(state_dir):
        began = time.monotonic()
        while not said and time.monotonic() - began < 30:
            agent._check_in_due()
        assert time.monotonic() - began >= 1
        agent._check_in_due()
    [line] = said
    assert line.startswith(f"home: another run of nmk is at work in {state_dir}")
    assert line.endswith(", for 1 s and longer")
    shown = status("home", blind(), time.time(), reachable=lambda _: False)["check_in"]
    assert shown["failure"]["code"] == "locked", shown
    assert state.file_of("home").read_bytes() == before


def test_a_lock_that_keeps_the_agent_from_mending_is_told_of_before_a_check_in_is_due(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is over with the first mending, which a check-in notes."""
    monkeypatch.setattr(daemon, "HELD_LONG", 0)
    monkeypatch.setattr(daemon, "mend_network", lambda name, _: locked_once(name))
    state.save(joined())
    said, later = list[str](), time.monotonic() + 3600
    agent = daemon.Agent(Runner(), said.append)
    turn = agent._turns["home"] = daemon._Turn(due=later, look=0.0)

    def locked_once(_: str) -> bool:
        with locked(state_dir):
            return False

    with locked(state_dir):
        for _ in range(3):
            agent._check_in_due()
            turn.look = 0.0
        [line] = said
        assert line.startswith("home: another run of nmk is at work in ")
        assert turn.due == later
    agent._try("home", "mend", locked_once)
    assert said[1:] == ["home: well again"]
    assert turn.due == 0


def test_networks_do_not_wait_for_the_controllers_of_others(state_dir: Path) -> None:
    """One thread waits for each: the loop goes on, and what comes is taken in one after another."""
    said = list[str]()
    assert state_dir.is_dir()
    with Door(lambda _: b"no HTTP") as quick, Door(lambda _: b"") as slow:
        slow.script = lambda _: slow.silence
        for name, door in (("a", slow), ("b", quick)):
            me = joined(peer(2))
            state.save(
                replace(me, network=name, interface=f"none-{name}", urls=(door.url,), down=True)
            )
        agent = daemon.Agent(Runner(), said.append)

        def answered() -> list[str]:
            agent._finish_answered()
            agent._check_in_due()
            return said

        poll(answered, 5, "answer to b")
        poll(lambda: slow.asked, 5, "question to a")
        slow.over.set()
        poll(lambda: len(answered()) > 1, 5, "answer to a")
        assert [line.partition(":")[0] for line in said] == ["b", "a"]
        assert len(slow.asked) == 1, "one question at a time"


def test_word_of_the_kernel_alone_has_the_agent_look_and_that_within_a_second() -> None:
    """At what another program may have changed, however long a busy machine then takes."""
    agent = daemon.Agent(Runner(), print)
    turn = agent._turns["home"] = daemon._Turn(due=time.monotonic() + 3600)
    for longest in (0.1, 1.0):
        assert turn.look == math.inf
        assert agent._sleep() == daemon.LONGEST_SLEEP
        agent._take_in(News(ours=True))
        assert agent._sleep() <= longest
        turn.looked, turn.look = time.monotonic(), math.inf
    agent._take_in(News(theirs=True))
    assert turn.look == math.inf
