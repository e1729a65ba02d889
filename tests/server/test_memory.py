"""What the controller only remembers: who was heard of, and who has asked too much."""

from __future__ import annotations

import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from secrets import token_bytes

import pytest

from nmk.core.check_in_health import UNKNOWN, after_failure, tell_health
from nmk.core.problems import Problem
from nmk.errors import RateLimited
from nmk.server import limits
from nmk.server.health import check_in_json
from nmk.server.limits import DELTA, FULL_VIEW, Allowance, LongReplies, site_of
from nmk.server.log import iso_time
from nmk.server.presence import MOST_STRANGERS, NOTED_SECONDS, Presence, Sighting
from nmk.store.engine import open_engine
from nmk.wire.envelope import Identity
from nmk.wire.messages import CheckIn
from tests.server.inside import Time, inside
from tests.server.net import Net


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_burst_is_let_through_and_then_so_many_a_second(clock: Clock) -> None:
    limit = Allowance(2.0, 5.0, clock)
    assert [limit.take("192.0.2.1") for _ in range(7)] == [True] * 5 + [False] * 2
    assert limit.take("192.0.2.2")
    clock.now += 1
    assert [limit.take("192.0.2.1") for _ in range(3)] == [True, True, False]
    clock.now += 1000
    assert [limit.take("192.0.2.1") for _ in range(6)] == [True] * 5 + [False]


def test_one_ipv6_host_is_one_stranger_whatever_addresses_it_takes() -> None:
    assert len({site_of(f"2001:db8::{n:x}") for n in range(5)}) == 1
    assert site_of("2001:db8::1") != site_of("2001:db8:0:1::1")
    assert site_of("fe80::1%eth0") == "fe80::/64"


def test_strangers_are_forgotten_before_memory_grows(clock: Clock) -> None:
    limit = Allowance(1.0, 1.0, clock, most=100)
    for number in range(500):
        limit.take(f"192.0.{number // 250}.{number % 250}")
    assert len(limit._buckets) == 100


def test_nodes_are_forgotten_before_memory_grows(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_MOST_ASKERS", 100)
    replies = LongReplies(clock)
    for number in range(500):
        for _ in range(3):
            replies.admit(str(number), token_bytes(24), "", DELTA)
    assert len(replies._askers) == 100
    for _ in range(17):
        replies.admit("499", token_bytes(24), "", DELTA)
    assert len(replies._askers["499"].nonces) == 16 * 8


def test_threads_get_no_more_than_one_would(clock: Clock) -> None:
    limit = Allowance(0.0, 200.0, clock)
    with ThreadPoolExecutor(8) as pool:
        let_through = sum(pool.map(lambda _: limit.take("192.0.2.1"), range(2000)))
    assert let_through == 200


def refused(replies: LongReplies, nonce: bytes, cookie: str = "", cost: int = DELTA) -> str | None:
    """None where the reply was admitted; else the cookie that came, if any."""
    try:
        replies.admit("node", nonce, cookie, cost)
    except RateLimited as error:
        return getattr(error, "cookie", "")
    return None


def test_one_request_is_answered_at_length_once(clock: Clock) -> None:
    replies = LongReplies(clock)
    first, second = token_bytes(24), token_bytes(24)
    assert refused(replies, first) is None
    assert refused(replies, second) is None
    clock.now += 10_000
    assert refused(replies, first)
    assert refused(replies, second)


def test_a_cookie_opens_another_share_once(clock: Clock) -> None:
    """Recordings drain the first share, and get nothing of the second."""
    replies = LongReplies(clock)
    while (cookie := refused(replies, token_bytes(24))) is None:
        pass
    assert refused(replies, token_bytes(24)) == cookie  # whoever asks meanwhile
    assert refused(replies, token_bytes(24), cookie, FULL_VIEW) is None
    again = refused(replies, token_bytes(24), cookie, FULL_VIEW)
    assert again not in {None, cookie}
    got = 0
    while (cookie := refused(replies, token_bytes(24))) and (
        refused(replies, token_bytes(24), cookie, FULL_VIEW) is None
    ):
        got += 1
    assert got == 5  # and one before
    clock.now += 3600
    assert refused(replies, token_bytes(24), "", FULL_VIEW) is None


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
    assert presence.state("old", 60) == "unheard"  # which is not to say that it is well
    clock.now += 200
    assert presence.state("old", 60) == "late"
    clock.now += 401
    assert presence.state("old", 60) == "lost"
    presence.hear("old")
    assert presence.state("old", 60) == "healthy"


def test_a_node_that_checks_in_at_another_controller_is_no_lost_one(
    presence: Presence, clock: Clock
) -> None:
    """By what both write down. What was there at the start says nothing of the time since."""
    presence.learn({"old": 500})
    assert presence.state("old", 5) == "unheard"
    for minutes in range(1, 30):
        clock.now = 1000 + 60 * minutes
        presence.learn({"old": 500 + 60 * minutes, "node": 400})
        assert presence.state("old", 5) == "healthy"
        assert presence.last_seen("old") == 500 + 60 * minutes
    clock.now += NOTED_SECONDS + 2.6 * 60
    presence.learn({"old": 500 + 60 * 29})
    assert presence.state("old", 60) == "late"
    clock.now += 600
    assert presence.state("old", 60) == "lost"
    presence.hear("old")
    presence.learn({"old": 700})
    assert presence.state("old", 60) == "healthy"
    assert presence.last_seen("old") == int(clock.now + 10_000)
    presence.forget(["old"])
    assert "old" not in presence.identities()


def test_two_controllers_of_a_database_know_who_is_heard_at_the_other(tmp_path: Path) -> None:
    """As an admin at one of them sees a node of the other: not as one that is to be deleted."""
    time, identity, url = Time(), Identity.generate(), f"sqlite://{tmp_path}/nmk.db"
    with ExitStack() as stack:
        engines = [stack.enter_context(closing(open_engine(url))) for _ in range(2)]
        first, second = (stack.enter_context(inside(e, time, identity)) for e in engines)
        net = Net.made(first, "home")
        second.controller.refresh()
        time.now += 3600
        assert net.at(second).get("/nodes")[0]["state"] == "lost"
        net.witness.check_in()
        first.controller.save_presence()
        second.controller.hear_others()
        for there in (net, net.at(second)):
            [node] = there.get("/nodes")
            assert (node["state"], node["cure"]) == ("healthy", None)
            assert node["last_seen"] == iso_time(int(time.now))


def test_a_time_in_the_future_is_no_time_that_anybody_was_seen_at(clock: Clock) -> None:
    """It was written down before the clock was put back, and would last through restarts."""
    later = Presence({"old": 900}, wall=lambda: 800, monotonic=clock)
    assert later.last_seen("old") is None


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
    presence.hear_instance("a", Sighting("first", "192.0.2.1"), Sighting("second", "192.0.2.2"))
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
    presence.hear_instance(
        "node", Sighting("first", "192.0.2.1"), Sighting("second", "192.0.2.2")
    )  # a reboot
    assert presence.state("node", 60) == "healthy"
    presence.hear_instance("node", Sighting("second", "192.0.2.1"), Sighting("first", "192.0.2.2"))
    assert presence.state("node", 60) == "doubled"
    assert presence.copies("node", 60) == ["192.0.2.1", "192.0.2.2"]
    clock.now += 601
    presence.hear("node")
    assert presence.state("node", 60) == "healthy"


def test_strangers_are_remembered_within_a_bound(presence: Presence) -> None:
    for number in range(MOST_STRANGERS * 3):
        presence.hear_stranger("home", f"identity-{number}", "192.0.2.1")
        presence.hear_stranger("home", "the same", "192.0.2.2")
    found = presence.strangers("home")
    assert len(found) == MOST_STRANGERS
    assert found[-1].remote == "192.0.2.2"
    assert presence.strangers("office") == []


def test_strangers_may_come_at_the_same_time(presence: Presence) -> None:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # seconds: threads change places at nearly every step

    def hear(worker: int) -> None:
        for number in range(3000):
            presence.hear_stranger("home", f"identity-{worker}-{number}", "192.0.2.1")
            presence.strangers("home")

    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(hear, range(4)))
    finally:
        sys.setswitchinterval(before)
    assert len(presence.strangers("home")) == MOST_STRANGERS


def test_what_a_node_says_of_its_check_ins_is_over_when_it_says_nothing(presence: Presence) -> None:
    said = CheckIn(7, "c", health=tell_health(after_failure(UNKNOWN, 0, Problem("x", "y")), 60))
    presence.hear_check_in("node", said, has_clients=False)
    told = check_in_json(presence, "node", newest=8)
    assert (told["revision"], told["newest"]) == (7, 8)
    assert (told["failure"]["code"], told["failure"]["count"]) == ("x", 1)
    presence.hear_check_in("node", CheckIn(8, "d"), has_clients=False)
    assert check_in_json(presence, "node", newest=8)["failure"] is None
    presence.hear_check_in("node", CheckIn(6, "b"), has_clients=False)  # a recording
    assert check_in_json(presence, "node", newest=8)["revision"] == 8


def test_nonsense_in_the_place_of_health_is_said_to_be_that(presence: Presence) -> None:
    presence.hear_check_in("node", CheckIn(7, "c", health="[" * 4000), has_clients=False)
    [problem] = check_in_json(presence, "node", newest=7)["problems"]
    assert problem["code"] == "bad-input"


def test_what_nodes_say_is_bounded_all_together(presence: Presence) -> None:
    """Of as many as one network may have: a key without an end lets in no more."""
    wide = "\U0001f600"
    tracemalloc.start()
    try:
        for number in range(16_384):
            health, traffic = wide * 1000 + str(number), wide * 90 + str(number)
            said = CheckIn(7, "c", traffic=traffic, serves=wide * 50 + str(number), health=health)
            presence.hear_check_in(str(number), said, has_clients=False)
            for life in range(4):
                before, now = (Sighting("i" * 240 + f"{number} {n}", "") for n in (life, life + 1))
                presence.hear_instance(str(number), before, now)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert used < 96 << 20


def test_who_says_little_is_not_cut_for_who_says_much(presence: Presence) -> None:
    """Even where all others of a full network say as much as they may."""
    failing = tell_health(after_failure(UNKNOWN, 0, Problem("unreachable", "x" * 200)), 60)
    callers = ";".join(f"client{number},192.0.2.1:51820,1,2,3" for number in range(1000))
    traffic = "1" * 400
    told = CheckIn(7, "c", traffic=traffic, callers=callers, serves="yes", health=failing)
    presence.hear_check_in("honest", told, has_clients=True)
    for number in range(16_383):
        said = CheckIn(7, "c", traffic=traffic, callers="z" * 3000, health="z" * 4096)
        presence.hear_check_in(str(number), said, has_clients=False)
    assert presence.health("honest") == (11_000.0, failing)
    assert presence.traffic("honest") == (0, traffic)
    assert presence.callers("honest") == (0, callers)
    assert presence.serves("honest") == "yes"
