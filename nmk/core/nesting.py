"""JSON from outside, and how deep it may be nested.

Python reads nearly as many levels as its stack has frames. Whatever looks at such a value and needs
a few frames more fails then, with an error that nobody expects of it (RecursionError).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MOST_LEVELS = 64  # lists and objects in one another; nft's rules have 20, nmk's own values 8
_NESTS = (list, dict)
_DECODER = json.JSONDecoder()


def read_json(
    text: str | bytes,
    as_object: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
    as_pairs: Callable[[list[tuple[str, Any]]], dict[str, Any]] | None = None,
) -> Any:  # noqa: ANN401  # JSON
    """The value of a JSON text; `as_object` makes something else of each object in it.

    `as_pairs`: makes it, of pairs, where a name may be there more than once.
    Raises ValueError where it is none, or one that is nested deeper than MOST_LEVELS.
    """
    try:
        value = json.loads(text, object_hook=as_object, object_pairs_hook=as_pairs)
    except RecursionError:
        raise _too_deep() from None
    check_nesting(value)
    return value


def read_first(text: str) -> tuple[Any, int]:
    """The value that a text begins with, and where it ends. Raises ValueError as `read_json`."""
    try:
        value, end = _DECODER.raw_decode(text)
    except RecursionError:
        raise _too_deep() from None
    check_nesting(value)
    return value, end


def check_nesting(value: object) -> None:
    """Raises ValueError where a value is nested deeper than MOST_LEVELS."""
    level: list[Any] = [value] if isinstance(value, _NESTS) else []
    for _ in range(MOST_LEVELS):
        if not level:
            return
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, _NESTS)
        ]
    if level:
        raise _too_deep()


def _too_deep() -> ValueError:
    return ValueError(f"it is nested deeper than {MOST_LEVELS} levels")
