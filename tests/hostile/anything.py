"""Strategies: any JSON, and what is right but for some places."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

SOME_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)
_NASTY: list[Any] = [
    *("", "..", "/", "\0", "é", "\x1b]0;x\7", "\u202e", "\ud800", "a" * 70_000, "-x", "*"),
    *("0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", "127.0.0.1:1", "10.77.0.1"),
    "[fe80::1%x\ny]:1",
    *(-1, 0, 1, 2**31, 2**53, 2**53 + 1, 2**64, 1e308, True, None),
    *([], {}, [[]] * 300, ["10.77.0.1"] * 100, {"a": 1}),
]
NASTY = st.sampled_from(_NASTY)


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a JSON value one can put something else."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    inner = [
        path
        for key, item in items
        for path in ([*paths(item, (*so_far, key))] if isinstance(item, dict | list) else [])
    ]
    keys = value if isinstance(value, dict) else range(len(value))
    return [*inner, *((*so_far, key) for key in keys)]


class Gone:
    """Nothing, where something was."""


Change = tuple[int, Any]
"""A place, counted round and round, and what goes there."""
changes = st.lists(
    st.tuples(st.integers(0, 500), SOME_JSON | NASTY | st.just(Gone)), min_size=1, max_size=3
)


def changed(value: Any, wrong: list[Change]) -> Any:
    """The JSON value with these changes."""
    value = copy.deepcopy(value)
    for number, other in wrong:
        places = paths(value)
        if not places:
            return value
        *way, last = places[number % len(places)]
        inside = value
        for key in way:
            inside = inside[key]
        if other is Gone:
            del inside[last]
        else:
            inside[last] = copy.deepcopy(other)
    return value


def nested(inner: str, depth: int, signs: str = "[") -> str:
    """JSON text so deep in lists and objects, which take turns as `signs` have it."""
    order = [signs[level % len(signs)] for level in range(depth)]
    opened = "".join('{"a":' if sign == "{" else "[" for sign in order)
    return opened + inner + "".join("}" if sign == "{" else "]" for sign in reversed(order))


DEPTHS = st.integers(65, 1200) | st.integers(930, 1000)  # the last ones are just what Python reads
DEEP = "@deep@"
"""Stands for a value that is too deep for Python to write; see `with_deep`."""


def with_deep(value: Any, depth: int, signs: str) -> bytes:
    """A JSON value as bytes, with what is nested so deep wherever it has DEEP."""
    return json.dumps(value).replace(json.dumps(DEEP), nested("1", depth, signs)).encode()
