"""Text from outside is Unicode; text for a terminal moves nothing on it."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nmk.core.parse import quote
from nmk.core.text import parse_json, parse_plain, plain, render_json
from nmk.errors import BadInput

ANY_TEXT = st.text(st.characters(categories=("C", "L", "N", "P", "S", "Z")), max_size=20)
ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)  # which are no JSON
    | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=8,
)
HOSTILE = [
    "\x00",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\x9b1m",
    "\u061c",
    "\u200b",
    "\u2028",
    "\u202e",
    "\u2066",
    "\ufeff",
    "\U000e0041",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_json_for_a_terminal_escapes_what_it_could_interpret(text: str) -> None:
    shown = render_json({text: [text]}, indent=None)
    assert shown.isprintable()
    assert json.loads(shown) == {text: [text]}


@given(ANY_JSON)
@example(["\ud800"])
def test_json_for_a_terminal_is_the_same_value(value: object) -> None:
    for is_ascii in (False, True):
        shown = render_json(value, is_ascii=is_ascii)
        assert shown.replace("\n", "").isprintable()
        assert shown.isascii() or not is_ascii
        assert json.loads(shown) == value


@given(ANY_TEXT)
def test_a_line_for_a_terminal_is_one(text: str) -> None:
    assert plain(text).isprintable()
    assert quote(text).isprintable()
    plain(text).encode()


@given(ANY_JSON)
def test_what_is_parsed_is_unicode_or_refused(value: object) -> None:
    raw = json.dumps(value).encode()
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        with pytest.raises(BadInput, match="no Unicode"):
            parse_json(raw, "a body")
    else:
        assert parse_json(raw, "a body") == value


@pytest.mark.parametrize(
    "raw", [b"", b"\xff", b"\xed\xa0\x80", b'"\xed\xa0\x80"', b"NaN", b"[" * 100_000, b'"\x00"',
            '"a"'.encode("utf-16"), b"1" * 5000]
)  # fmt: skip
def test_bytes_that_are_no_json(raw: bytes) -> None:
    with pytest.raises(BadInput, match="a body is no JSON"):
        parse_json(raw, "a body")


@pytest.mark.parametrize("raw", [rb'"\ud800"', rb'{"\udfff": 1}', rb'[[{"a": "\ud83d"}]]'])
def test_lone_surrogates_are_refused_and_quoted(raw: bytes) -> None:
    with pytest.raises(BadInput, match=r"'\\ud[0-9a-f]{3}' in a body is no Unicode"):
        parse_json(raw, "a body")


def test_pairs_of_surrogates_are_a_character() -> None:
    assert parse_json(rb'"\ud83d\ude00"', "a body") == "\U0001f600"


@pytest.mark.parametrize("value", [*HOSTILE, 5, None, "x" * 11, ["a"]])
def test_a_text_that_is_not_plain_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match="cannot be the instance"):
        parse_plain(value, 10, "instance")
