"""What people read of a node's check-ins."""

from __future__ import annotations

import pytest

from nmk.cli.node import problem_lines


@pytest.mark.parametrize(("count", "often"), [(1, "one"), (7, "7")])
def test_check_ins_that_failed_may_work_again(count: int, often: str) -> None:
    failure = {
        "code": "state-unwritable",
        "message": "the disk is full",
        "hint": "df",
        "since": "2026-01-05T10:00:00Z",
        "count": count,
    }
    [line] = problem_lines({"check_in": {"failure": failure, "problems": []}})
    assert line == (
        f"before its last check-in, {often} since 2026-01-05T10:00:00Z did not do all "
        "(if it works again, the next one says so): "
        "the disk is full (state-unwritable); on the machine: df"
    )
