"""When agents check in: kept apart, and spread when a controller comes back."""

from __future__ import annotations

import heapq
from collections import Counter
from random import Random

import pytest

from nmk.core.schedule import LONGEST_BACKOFF, next_delay

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
