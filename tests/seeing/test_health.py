"""Who is silent: sent bytes grow, received ones do not. Everything else is fine."""

from __future__ import annotations

import pytest

from nmk.core.health import ANSWER_SECONDS, INITIATION_BYTES, Counters, Trail, follow, judge
from nmk.core.traffic import (
    Caller,
    encode_callers,
    encode_traffic,
    parse_callers,
    parse_traffic,
    sum_up,
)

THERE = "192.0.2.7:51821"


@pytest.mark.parametrize(
    ("counters", "keepalive", "state"),
    [
        (Counters(handshake=0, received=92, sent=148), 25, "connected"),
        (Counters(handshake=179, received=92, sent=148), 0, "connected"),
        (Counters(handshake=None), 0, "idle"),
        (Counters(handshake=180, received=92, sent=148), 0, "idle"),
        (Counters(handshake=86400, received=92, sent=10**6), 0, "idle"),
        (Counters(handshake=None), 25, "trying"),
        (Counters(handshake=None, sent=296), 25, "trying"),
        (Counters(handshake=None, sent=148), 0, "trying"),
        (Counters(handshake=None, sent=444), 25, "failed"),
        (Counters(handshake=None, sent=444), 0, "failed"),
        (Counters(handshake=180, received=92, sent=444), 25, "failed"),
    ],
)
def test_one_look(counters: Counters, keepalive: int, state: str) -> None:
    health = judge(counters, endpoint=THERE, keepalive=keepalive)
    assert health.state == state
    assert (health.problem is not None) == (state == "failed")
    assert health.problem is None or THERE in health.problem


def test_a_handshake_in_the_future_tells_nothing() -> None:
    """The clock was put back: whoever shook hands before that may be dead by now."""
    future = Counters(handshake=-7200, received=92, sent=444)
    health = judge(future, endpoint=THERE, keepalive=25)
    assert (health.state, health.problem) == (
        "trying",
        "its last handshake is in the future: the clock was put back",
    )
    assert judge(future, endpoint=THERE, keepalive=0).state == "idle"
    assert judge(future, endpoint=THERE, keepalive=25, unanswered=20).state == "failed"
    told = parse_traffic(encode_traffic(sum_up({"a": future})))
    assert (told.live, told.handshake, told.busiest["a"].handshake) == (0, None, None)
    called = parse_callers(encode_callers({"c": Caller(future, THERE)}))
    assert called == {"c": Caller(Counters(None, 92, 444), THERE)}


def test_a_peer_without_an_address_can_only_call() -> None:
    health = judge(Counters(), endpoint=None, keepalive=25)
    assert health.state == "waiting"
    assert health.problem
    called = judge(Counters(handshake=3, received=148, sent=92), endpoint=None, keepalive=25)
    assert called.state == "connected"


def walk(*looks: tuple[float, int, int]) -> Trail:
    """The trail after looks of (time, received, sent)."""
    trail = None
    for clock, received, sent in looks:
        trail = follow(trail, Counters(0, received, sent), clock)
    assert trail
    return trail


def test_what_goes_out_unanswered_is_followed_from_its_first_sight() -> None:
    assert walk((0, 100, 100), (10, 100, 100 + INITIATION_BYTES)).unanswered == 10
    assert walk((0, 100, 100), (10, 100, 248), (20, 100, 999)).unanswered == 10


@pytest.mark.parametrize(
    "looks",
    [
        [(0, 100, 100), (60, 100, 100)],  # nothing to say
        [(0, 100, 100), (60, 100, 164)],  # keepalives, which get no answer
        [(0, 100, 100), (10, 100, 400), (20, 132, 400)],  # answered
        [(0, 100, 9000), (10, 0, 148)],  # the interface is a new one
    ],
)
def test_what_is_no_silence(looks: list[tuple[float, int, int]]) -> None:
    assert walk(*looks).unanswered is None


def test_silence_is_a_failure_after_a_while_though_there_is_a_session() -> None:
    alive = Counters(handshake=60, received=100, sent=9000)

    def state(unanswered: float | None) -> str:
        return judge(alive, endpoint=THERE, keepalive=0, unanswered=unanswered).state

    assert state(None) == "connected"
    assert state(ANSWER_SECONDS - 1) == "connected"
    assert state(ANSWER_SECONDS) == "failed"
