from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.parse import (
    label_from,
    parse_address,
    parse_duration,
    parse_endpoint,
    parse_int,
    parse_interface,
    parse_key,
    parse_label,
    parse_port,
    parse_range,
    quote,
)
from nmk.errors import BadInput
from tests.core.made import key32

GOOD = [
    (parse_label, "a", "a"),
    (parse_label, "web-1", "web-1"),
    (parse_label, "x" * 63, "x" * 63),
    (parse_interface, "nmk-home", "nmk-home"),
    (parse_port, "1", 1),
    (parse_port, 65535, 65535),
    (parse_address, "fd00::0001", "fd00::1"),
    (parse_range, "10.20.0.0/16", "10.20.0.0/16"),
    (parse_range, "10.0.0.0/30", "10.0.0.0/30"),
    (parse_range, "FD12:3456:789a::/64", "fd12:3456:789a::/64"),
    (parse_endpoint, "198.51.100.7:51821", "198.51.100.7:51821"),
    (parse_endpoint, "[2001:DB8::7]:51821", "[2001:db8::7]:51821"),
    (parse_key, key32(5), key32(5)),
    (parse_duration, "90s", 90),
    (parse_duration, "24h", 86400),
    (parse_duration, "2w", 1209600),
    (parse_duration, "never", None),
]

BAD = [
    *[(parse_label, t) for t in ("", "-a", "a-", "A", "a.b", "a_b", "x" * 64, "a\n", "ä", "a b")],
    *[(parse_interface, t) for t in ("", "x" * 16, "a/b", "a b", ".", "..", "ü", "a\n")],
    *[(parse_port, t) for t in ("", "0", "65536", "-1", "1.0", "1_0", " 1", "1\n", "+1", "٣")],
    *[(parse_port, t) for t in (True, 0, 65536, "9" * 5000)],
    *[(parse_address, t) for t in ("", "10.0.0", "10.0.0.01", "fe80::1%eth0", "::ffff:10.0.0.1")],
    *[(parse_range, t) for t in ("", "10.0.0.1/16", "10.0.0.0", "10.0.0.0/31", "10.0.0.0/7")],
    *[(parse_range, t) for t in ("127.0.0.0/8", "224.0.0.0/8", "169.254.0.0/16", "0.0.0.0/8")],
    *[(parse_range, t) for t in ("240.0.0.0/8", "fd00::/24", "fd00::/127", "fe80::/64")],
    *[(parse_range, t) for t in ("ff00::/64", "::/64", "::ffff:0:0/96", "fd00::%a/64")],
    *[(parse_endpoint, t) for t in ("", "10.0.0.1", "fd00::1:80", "[]:80", "0.0.0.0:80")],
    *[(parse_endpoint, t) for t in ("224.0.0.1:80", "[10.0.0.1]:80")],
    *[
        (parse_key, t)
        for t in ("", "A" * 43, "A" * 43 + "=", key32(5) + "\n", key32(5)[:-2] + "B=")
    ],
    *[(parse_duration, t) for t in ("", "0h", "5", "h", "1.5h", "-1h", "1y", "1h ", "999999999w")],
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_good_text_becomes_its_value(
    parse: Callable[[object], object], text: str | int, value: object
) -> None:
    parsed = parse(text)
    assert (parsed if isinstance(parsed, int | None) else str(parsed)) == value


@pytest.mark.parametrize(("parse", "text"), BAD)
def test_bad_text_is_refused_and_quoted(parse: Callable[[object], object], text: object) -> None:
    with pytest.raises(BadInput) as refusal:
        parse(text)
    assert quote(text) in refusal.value.message
    assert refusal.value.hint != BadInput.default_hint


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("10.0.0.1:0", "0"),
        ("host:80", "host"),
        ("]10.0.0.1[:80", "]10.0.0.1["),
        ("10.0.0.1]:80", "10.0.0.1]"),
        ("[[fd00::1]]:80", "[fd00::1]"),
        ("[fe80::1%a\nb]:80", "fe80::1%a\nb"),
    ],
)
def test_of_a_bad_endpoint_the_bad_part_is_quoted(text: str, culprit: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_endpoint(text)
    assert quote(culprit) in refusal.value.message


def test_host_bits_are_answered_with_the_range_that_was_meant() -> None:
    with pytest.raises(BadInput) as refusal:
        parse_range("10.20.3.4/16")
    assert "10.20.0.0/16" in refusal.value.hint


@pytest.mark.parametrize("wrong", [None, 1.5, [1], {}, b"1"])
def test_what_is_no_text_is_no_number(wrong: object) -> None:
    with pytest.raises(BadInput):
        parse_int(wrong, 0, 9, "count")  # type: ignore[arg-type]  # as JSON may hold it


@given(st.text(max_size=200))
def test_whatever_a_host_is_called_gives_a_label(text: str) -> None:
    assert parse_label(label_from(text))


@pytest.mark.parametrize(
    ("host", "label"),
    [("Web-1.example.org", "web-1"), ("My Laptop!", "my-laptop"), ("---", "node"), ("", "node")],
)
def test_a_label_keeps_what_it_can_of_a_host_name(host: str, label: str) -> None:
    assert label_from(host) == label


@given(st.text(max_size=300))
def test_a_quote_is_short_and_one_line(text: str) -> None:
    quoted = quote(text)
    assert quoted.isprintable()
    assert len(quoted) < 1000
