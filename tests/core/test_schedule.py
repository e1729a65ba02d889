"""When agents check in: kept apart, and spread when a controller comes back."""

from __future__ import annotations

import heapq
from collections import Counter
from math import inf
from random import Random

import pytest

from nmk.core.health import SESSION_SECONDS
from nmk.core.schedule import (
    LONGEST_BACKOFF,
    LONGEST_PAUSE,
    LONGEST_PEACE,
    QUIET,
    SETTLE,
    Damper,
    is_back,
    next_delay,
    next_look,
)

AGENTS = 3000
A_SECOND = 10  # agents for each second of the interval: with few, chance alone makes busy seconds
HOUR = 3600
START = 100.0  # seconds of ordinary life before the controller goes
SPLAY = 30  # seconds, as in the crontab


def busiest_over_mean(arrivals: list[float]) -> float:
    """The most arrivals in a second, over those in a mean one from the first to the last."""
    first = min(arrivals)
    seconds = Counter(int(at - first) for at in arrivals)
    return max(seconds.values()) / (len(arrivals) / (max(seconds) + 1))


def answered_after_outage(interval: int, *, together: bool) -> list[float]:
    """Seconds, from a controller's return after an hour, of all check-ins that it answers.

    Over the window of return: until every agent has been answered once. `together`: all agents
    were started in the same second.
    """
    random = Random(interval)
    back = START + HOUR
    agents = max(AGENTS, A_SECOND * interval)
    turns = [(0.0 if together else random.random() * interval, n, 0) for n in range(agents)]
    heapq.heapify(turns)
    answered: list[float] = []
    waiting = set(range(agents))
    while waiting:
        now, agent, failures = heapq.heappop(turns)
        if now >= back:
            answered.append(now - back)
            waiting.discard(agent)
        failures = failures + 1 if START <= now < back else 0
        delay = next_delay(interval, failures, random.random())
        heapq.heappush(turns, (now + delay, agent, failures))
    return answered


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("interval", [20, 60, 300, 900])
def test_the_load_on_a_controllers_return_is_spread(interval: int, together: bool) -> None:
    answered = answered_after_outage(interval, together=together)
    assert len(answered) >= AGENTS
    assert busiest_over_mean(answered) <= 3
    assert max(answered) <= 1.5 * max(interval, LONGEST_BACKOFF)


def test_the_measure_sees_a_herd() -> None:
    assert busiest_over_mean([0.0] * 500 + [float(n) for n in range(500)]) > 3


def test_the_load_of_crontabs_is_at_most_twice_the_mean_with_an_outage_or_without() -> None:
    random = Random(1)
    arrivals = [
        minute * 60 + random.uniform(0, SPLAY) for minute in range(5) for _ in range(AGENTS)
    ]
    assert 1.9 <= busiest_over_mean(arrivals) <= 3


def test_ordinary_check_ins_keep_to_the_interval() -> None:
    assert [next_delay(60, 0, r) for r in (0.0, 0.5, 1.0)] == [54, 60, 66]


@pytest.mark.parametrize("interval", [5, 60, 3600])
def test_the_wait_grows_to_its_bound_and_no_further(interval: int) -> None:
    waits = [next_delay(interval, failures, 0.5) for failures in range(1, 50)]
    assert waits == sorted(waits)
    assert waits[0] == min(2 * interval, max(interval, LONGEST_BACKOFF))
    assert waits[-1] == max(interval, LONGEST_BACKOFF)
    assert next_delay(interval, 10**9, 1.0) == 1.5 * max(interval, LONGEST_BACKOFF)


def answers(changes: list[float]) -> list[float]:
    """When changes at these times are answered, as the agent does it."""
    damper, due, found = Damper(), inf, []
    for now in (step / 10 for step in range(int(max(changes) * 10) + 1000)):
        if now in changes:
            due = min(due, damper.due(now))
        if due <= now:
            damper, due = damper.after(now), inf
            found.append(now)
    return found


def test_a_change_is_answered_at_once() -> None:
    assert answers([10.0]) == [10.0 + SETTLE]
    assert answers([10.0, 10.5]) == [10.0 + SETTLE]


def test_changes_that_go_on_are_answered_less_and_less() -> None:
    flapping = [float(second) for second in range(25)]
    assert answers(flapping) == [1.0, 6.0, 16.0, 36.0]
    for_ever = answers([float(second) for second in range(3600)])
    assert len(for_ever) < 3600 / LONGEST_PAUSE + 8


def test_the_last_change_is_always_answered() -> None:
    changes = [0.0, 2.0, 4.0, 6.5]
    assert answers(changes)[-1] > changes[-1]


def test_after_a_quiet_time_a_change_is_a_first_one() -> None:
    flapping = [float(second) for second in range(25)]
    assert answers([*flapping, 36.0 + QUIET + 1])[-1] == 36.0 + QUIET + 1 + SETTLE


def test_a_handshake_after_long_silence_shows_that_the_network_is_back() -> None:
    assert is_back(0, 1000)
    assert is_back(1000 - SESSION_SECONDS - 1, 1000)
    assert not is_back(1000 - SESSION_SECONDS, 1000)
    assert not is_back(0, 0)


def test_handshakes_that_went_on_say_nothing_of_the_controller() -> None:
    assert not is_back(900, 1060)


def test_what_another_program_changed_is_looked_at_within_a_second_until_it_is_a_quarrel() -> None:
    assert next_look(1000, -inf, 0) == pytest.approx(1000.1)
    assert next_look(1000, 999.95, 1) <= 1001
    pauses = [next_look(1000, 1000, quarrels) - 1000 for quarrels in range(10)]
    assert pauses == [1, 1, 3, 7, 15, 31, *[LONGEST_PEACE] * 4]
