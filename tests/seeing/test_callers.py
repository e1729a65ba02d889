"""What an ingress gateway says of its ext clients, in a text of bounded length."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.health import Counters
from nmk.core.records import Facts
from nmk.core.traffic import LONGEST_OF_CLIENTS, Caller, encode_callers, parse_callers
from nmk.errors import BadInput
from nmk.wire.envelope import MAX_REQUEST
from nmk.wire.messages import CheckIn, encode_check_in, parse_check_in
from tests.core.made import key32

ids = st.integers(0, 2**64 - 1).map(lambda n: f"{n:016x}")
endpoints = st.sampled_from(
    [None, "198.51.100.7:1", "[2001:db8::7]:65535", "192.0.2.255:40000", "[::1]:7"]
)
callers = st.builds(
    Caller,
    st.builds(
        Counters, st.none() | st.integers(0, 10**9), st.integers(0, 2**63), st.integers(0, 2**63)
    ),
    endpoints,
)


@given(st.dictionaries(ids, callers, max_size=20))
def test_all_that_ever_called_are_told_of(found: dict[str, Caller]) -> None:
    heard = parse_callers(encode_callers(found))
    assert heard == {i: c for i, c in found.items() if c.counters.handshake is not None}
    ages = [c.counters.handshake for c in heard.values()]
    assert ages == sorted(ages)  # type: ignore[type-var]  # those without one are not told of


def test_nobody_that_called_is_nothing_to_say() -> None:
    assert encode_callers({}) == encode_callers({"0" * 16: Caller(Counters())}) == ""
    assert parse_callers("") == {}


@pytest.mark.parametrize("endpoint", [None, "[2001:db8:1111:2222:3333:4444:5555:6666]:51821"])
def test_of_very_many_the_last_that_called_are_told_of(endpoint: str | None) -> None:
    many = {f"{n:016x}": Caller(Counters(n, 2**60, 2**60), endpoint) for n in range(6000)}
    text = encode_callers(dict(reversed(many.items())))
    assert LONGEST_OF_CLIENTS - 200 < len(text) <= LONGEST_OF_CLIENTS
    heard = parse_callers(text)
    assert len(heard) > 1000
    assert list(heard.items()) == list(many.items())[: len(heard)]
    facts = Facts(key32(1), 51821, ("192.168.100.100/24",) * 64, instance="x" * 255)
    message = CheckIn(2**53, "c" * 255, 2**53, facts, "t" * 400, text)
    body = encode_check_in(message)
    assert parse_check_in(body) == message
    assert len(body) < MAX_REQUEST - 1024


def test_one_that_calls_from_a_link_local_address_hides_nobody_else() -> None:
    """wg(8) shows such an endpoint with its zone, which means nothing elsewhere."""
    found = {
        f"{1:016x}": Caller(Counters(1, 2, 3), "[fe80::1%eth0]:51821"),
        f"{2:016x}": Caller(Counters(4, 5, 6), "198.51.100.7:51821"),
    }
    heard = parse_callers(encode_callers(found))
    assert heard[f"{2:016x}"] == found[f"{2:016x}"]
    assert heard[f"{1:016x}"].counters == Counters(1, 2, 3)


@pytest.mark.parametrize(
    "text",
    [
        " ",
        "x",
        "0" * 16,
        f"{'0' * 16},1,2,3",
        f"{'0' * 16},1,2,3,-,",
        f"{'0' * 16},-1,2,3,-",
        f"{'0' * 16},x,2,3,-",
        f"{'0' * 16},1,2,3,",
        f"{'0' * 16},1,2,3,vpn.example.org:1",
        f"{'0' * 16},1,2,3,198.51.100.7",
        f"{'0' * 16},{2**64 + 1},2,3,-",
        f"{'0' * 16},1,2,3,- ",
        f"{'0' * 16},1,2,3,-  {'1' * 16},1,2,3,-",
    ],
)
def test_what_says_nothing_of_callers_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        parse_callers(text)


@given(st.text(alphabet="0a,-: .[]%\n", max_size=60))
def test_garbage_raises_nothing_else(text: str) -> None:
    with contextlib.suppress(BadInput):
        assert all(isinstance(c, Caller) for c in parse_callers(text).values())
