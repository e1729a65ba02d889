from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.check_in_health import (
    LONGEST_TOLD,
    UNKNOWN,
    CheckInHealth,
    Failure,
    after_failure,
    after_success,
    health_json,
    hear_health,
    is_other_kind,
    parse_health,
    tell_health,
)
from nmk.core.problems import LONGEST_TEXT, MOST_PROBLEMS, Problem, problem_of
from nmk.errors import BadInput, Unreachable

SILENT = Problem("unreachable", "cannot reach it", "is it on?")
FULL = Problem("state-unwritable", "no room", "make room")
texts = st.text(max_size=LONGEST_TEXT).map(lambda t: "".join(c for c in t if c.isprintable()))
problems = st.builds(Problem, texts, texts, texts)
times = st.integers(0, 2**40)
healths = st.builds(
    CheckInHealth,
    st.none() | times,
    st.none() | st.builds(Failure, problems, times, times),
    times,
    st.lists(problems, max_size=MOST_PROBLEMS).map(tuple),
)


def test_failures_in_a_row_count_from_the_first() -> None:
    well = after_success(100, 7, [])
    once = after_failure(well, 160, SILENT)
    twice = after_failure(once, 220, FULL)
    assert well.is_well
    assert twice == CheckInHealth(100, Failure(FULL, 160, 2), 7)
    assert after_success(300, 8, []) == CheckInHealth(300, None, 8)


def test_what_could_not_be_applied_is_no_failure() -> None:
    partly = after_success(100, 7, [FULL] * 20)
    assert not partly.is_well
    assert partly.failure is None
    assert len(partly.problems) == MOST_PROBLEMS


def test_time_alone_is_no_other_kind() -> None:
    once = after_failure(UNKNOWN, 160, SILENT)
    assert not is_other_kind(once, after_failure(once, 220, SILENT))
    assert is_other_kind(once, after_failure(once, 220, FULL))
    assert is_other_kind(once, after_success(220, 0, []))


def test_nothing_is_told_where_all_is_well() -> None:
    assert tell_health(after_success(100, 7, []), 200) == ""
    assert hear_health("", 200) == UNKNOWN


def test_times_travel_as_ages_as_clocks_differ() -> None:
    failing = after_failure(after_success(100, 7, []), 160, SILENT)
    assert hear_health(tell_health(failing, 200), 10_000) == CheckInHealth(
        9_900, Failure(SILENT, 9_960), 7
    )


def test_a_time_in_the_future_is_not_told_as_now() -> None:
    failing = after_failure(after_success(9_000, 7, []), 160, SILENT)
    heard = hear_health(tell_health(failing, 200), 10_000)
    assert heard == CheckInHealth(None, Failure(SILENT, 9_960), 7)


@given(healths)
def test_it_is_kept_as_it_is(health: CheckInHealth) -> None:
    assert parse_health(json.loads(json.dumps(health_json(health)))) == health


@given(healths, times)
def test_what_is_told_is_bounded_and_heard(health: CheckInHealth, now: int) -> None:
    text = tell_health(health, now)
    assert len(text) <= LONGEST_TOLD
    heard = hear_health(text, now)
    assert heard.failure is None or health.failure is not None
    assert heard.problems == health.problems[: len(heard.problems)]


json_values: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    st.fixed_dictionaries(dict.fromkeys(("worked", "failure", "revision", "problems"), json_values))
    | json_values
)
def test_whatever_else_comes_is_refused(data: object) -> None:
    try:
        parse_health(data)
    except BadInput:
        return
    assert isinstance(data, dict)


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "1" * 5000, "\ud800", '"x"', "{}"])
def test_a_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        hear_health(text, 0)


def test_an_error_becomes_a_line_without_what_a_terminal_acts_on() -> None:
    error = Unreachable("a\x1b[31m\u202eb\ud800" + "x" * 1000)
    assert problem_of(error).message.startswith("a?[31m?b?x")
    assert len(problem_of(error).message) == LONGEST_TEXT
