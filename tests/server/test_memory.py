"""What the controller only remembers: who was heard of, and who has asked too much."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from nmk.errors import RateLimited
from nmk.server import limits
from nmk.server.limits import RateLimit
from nmk.server.presence import Presence


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def passes(limit: RateLimit, address: str) -> bool:
    try:
        limit.spend(address)
    except RateLimited:
        return False
    return True


def test_a_burst_is_let_through_and_then_so_many_a_second(clock: Clock) -> None:
    limit = RateLimit(2.0, 5.0, clock)
    assert [passes(limit, "192.0.2.1") for _ in range(7)] == [True] * 5 + [False] * 2
    assert passes(limit, "192.0.2.2")
    clock.now += 1
    assert [passes(limit, "192.0.2.1") for _ in range(3)] == [True, True, False]
    clock.now += 1000
    assert [passes(limit, "192.0.2.1") for _ in range(6)] == [True] * 5 + [False]


def test_one_ipv6_host_is_one_stranger_whatever_addresses_it_takes(clock: Clock) -> None:
    limit = RateLimit(1.0, 3.0, clock)
    assert [passes(limit, f"2001:db8::{n:x}") for n in range(5)] == [True] * 3 + [False] * 2
    assert passes(limit, "2001:db8:0:1::1")
    assert passes(limit, "fe80::1%eth0")


def test_strangers_are_forgotten_before_memory_grows(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_MOST_ADDRESSES", 100)
    limit = RateLimit(1.0, 1.0, clock)
    for number in range(500):
        limit.spend(f"192.0.{number // 250}.{number % 250}")
    assert len(limit._buckets) == 100


def test_threads_get_no_more_than_one_would(clock: Clock) -> None:
    limit = RateLimit(0.0, 200.0, clock)
    with ThreadPoolExecutor(8) as pool:
        let_through = sum(pool.map(lambda _: passes(limit, "192.0.2.1"), range(2000)))
    assert let_through == 200


@pytest.fixture
def presence(clock: Clock) -> Presence:
    return Presence({"old": 500}, wall=lambda: clock.now + 10_000, monotonic=clock)


@pytest.mark.parametrize("interval", [5, 60, 86400])
def test_a_node_is_late_or_lost_by_its_own_interval(
    presence: Presence, clock: Clock, interval: int
) -> None:
    presence.hear("node")
    states = []
    for silence in (0, 2.5, 2.6, 10, 10.1):
        clock.now = 1000 + silence * interval
        states.append(presence.state("node", interval))
    assert states == ["healthy", "healthy", "late", "late", "lost"]
    presence.hear("node")
    assert presence.state("node", interval) == "healthy"


def test_silence_before_the_controller_started_does_not_count(
    presence: Presence, clock: Clock
) -> None:
    assert presence.last_seen("old") == 500
    assert presence.state("old", 60) == "healthy"
    clock.now += 601
    assert presence.state("old", 60) == "lost"


def test_what_was_heard_is_written_down_once(presence: Presence) -> None:
    presence.hear("a")
    taken = presence.take_unsaved()
    assert taken == {"a": 11_000}
    assert presence.take_unsaved() == {}
    assert presence.last_seen("a") == 11_000
    presence.put_back(taken)
    assert presence.take_unsaved() == taken


def test_of_who_is_gone_nothing_is_remembered(presence: Presence) -> None:
    presence.hear("a", traffic="t", callers="c", serves="yes")
    presence.hear("b", traffic="t")
    presence.hear_instance("a", "first", "second")
    presence.take_unsaved()
    assert presence.identities() == {"a", "b", "old"}
    presence.forget({"a", "nobody"})
    assert presence.identities() == {"b", "old"}
    assert (presence.last_seen("a"), presence.traffic("a"), presence.callers("a")) == (None,) * 3
    assert presence.traffic("b") == (0, "t")


def test_an_instance_that_speaks_again_after_another_is_a_copy(
    presence: Presence, clock: Clock
) -> None:
    presence.hear("node")
    presence.hear_instance("node", "first", "second")  # a reboot
    assert presence.state("node", 60) == "healthy"
    presence.hear_instance("node", "second", "first")
    assert presence.state("node", 60) == "doubled"
    clock.now += 601
    presence.hear("node")
    assert presence.state("node", 60) == "healthy"
