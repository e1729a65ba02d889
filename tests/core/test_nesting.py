"""Values that are nested as deep as whoever sends them likes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.nesting import MOST_LEVELS, read_first, read_json
from nmk.core.parse import brief, quote
from nmk.core.pieces import Pieces
from nmk.core.text import parse_json
from nmk.errors import BadInput
from tests.hostile.anything import SOME_JSON, nested


@given(depth=st.integers(1, 3000), inner=SOME_JSON, is_object=st.booleans())
def test_a_quote_of_anything_is_short_and_never_fails(
    depth: int, inner: Any, *, is_object: bool
) -> None:
    value = inner
    for _ in range(depth):
        value = {"a": value} if is_object else [value]
    assert len(quote(value)) < 200
    assert len(brief(ValueError(value))) < 200
    assert len(brief({"a": [value] * 1000})) < 3000


@pytest.mark.parametrize(
    "number", [16**5000, -(16**5000), [16**5000]], ids=["long", "negative", "inside"]
)
def test_a_number_that_python_does_not_write_in_decimal_is_quoted(number: object) -> None:
    assert "0x" in quote(number)
    assert len(quote(number)) < 100


def test_a_quote_says_what_is_there() -> None:
    assert quote("x") == "'x'"
    assert quote(7) == "'7'"
    assert quote(None) == "'None'"
    assert quote(["10.77.0.0/33"]) == "\"['10.77.0.0/33']\""
    assert quote({"a": [1]}) == "\"{'a': [1]}\""


@pytest.mark.parametrize("depth", [*range(1, MOST_LEVELS), MOST_LEVELS])
def test_what_is_nested_within_the_bound_is_read(depth: int) -> None:
    text = nested("7", depth)
    assert json.dumps(read_json(text), separators=(",", ":")) == text
    assert read_first(text + "]") == (read_json(text), len(text))


@given(depth=st.integers(MOST_LEVELS + 1, 2000), signs=st.text("[{", min_size=1, max_size=5))
def test_what_is_nested_deeper_is_refused_wherever_it_is_read(depth: int, signs: str) -> None:
    text = nested("7", depth, signs)
    for read in (read_json, read_first, lambda t: Pieces(t.encode()).value()):
        with pytest.raises(ValueError, match="nested deeper"):
            read(text)
    with pytest.raises(BadInput):
        parse_json(text.encode(), "a message")
