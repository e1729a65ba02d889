"""JSON in pieces: the same values as json.loads, and none above the bound."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.pieces import MOST_PIECE, Pieces

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(max_codepoint=126)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
indents = st.sampled_from([None, 0, 3])


def taken(body: bytes) -> Any:
    """An object whose fields `list` are taken by the element."""
    pieces = Pieces(body)
    found: dict[str, Any] = {}
    for name in pieces.fields():
        if name == "list":
            found[name] = [pieces.value() for _ in pieces.elements()]
        else:
            found[name] = pieces.value()
    pieces.end()
    return found


@given(st.dictionaries(st.text(max_size=4), values), st.lists(values), indents)
def test_the_pieces_are_what_the_whole_is(
    whole: dict[str, Any], entries: list[Any], indent: int | None
) -> None:
    whole["list"] = entries
    assert taken(json.dumps(whole, indent=indent).encode()) == whole


@given(st.binary(max_size=60), st.integers(0, 60))
def test_what_is_no_json_is_a_value_error(put: bytes, place: int) -> None:
    good = json.dumps({"a": 1, "list": [{"b": [True, None]}, "x"], "c": {}}).encode()
    with contextlib.suppress(ValueError):
        taken(good[:place] + put + good[place:])
    with pytest.raises(ValueError, match=r".*"):
        taken(good[: min(place, len(good) - 1)])


@pytest.mark.parametrize(
    "value",
    [
        '"' + "x" * MOST_PIECE + '"',
        "[" * MOST_PIECE + "]" * MOST_PIECE,
        "[" + "1," * MOST_PIECE + "1]",
        "9" * MOST_PIECE + "9",
    ],
)
def test_a_value_above_the_bound_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        taken(f'{{"a":{value}}}'.encode())


def test_names_are_bounded_as_well() -> None:
    with pytest.raises(ValueError, match=f"no value of {MOST_PIECE} bytes"):
        taken(b'{"' + b"n" * MOST_PIECE + b'":1}')


def test_other_letters_stand_for_their_bytes() -> None:
    """One that nobody takes in can hold any text, at a byte a character."""
    assert taken('{"a":"ü\U0001f600","b":1}'.encode())["b"] == 1


@pytest.mark.parametrize("value", ["0", "[]", '{"a":1}', '"x"'])
@pytest.mark.parametrize("again", ["list", "", "\\u006cist"])
def test_no_field_comes_twice(again: str, value: str) -> None:
    """Nobody would notice, as of a dictionary, how many came."""
    body = f'{{"list":[],"":{value},"a":{value},"{again}":{value}}}'.encode()
    with pytest.raises(ValueError, match="comes twice"):
        taken(body)
