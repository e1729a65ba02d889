"""The gate on the length of files and functions."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.sizes import MOST_LINES, MOST_OF_FUNCTION, too_long


def function(lines: int) -> str:
    return "@once\ndef f():\n" + "    pass\n" * (lines - 1)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1\n" * MOST_LINES, ""),
        ("x = 1\n" * (MOST_LINES + 1), f": {MOST_LINES + 1} lines"),
        (function(MOST_OF_FUNCTION), ""),
        (function(MOST_OF_FUNCTION + 1), f"f has {MOST_OF_FUNCTION + 1} lines"),
        ("class A:\n    async def g(self):\n" + "        pass\n" * 60, "g has 61 lines"),
    ],
)
def test_what_is_too_long_is_named(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "one.py"
    path.write_text(text)
    found = list(too_long(path))
    assert len(found) == bool(told)
    assert all(told in line for line in found)
