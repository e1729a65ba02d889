"""What the dearest replies cost a machine; `scripts/bench hostile-memory` tries all of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scripts.benchmarks.hostile import HOSTILE, Machine, Spent, machine
from scripts.benchmarks.lies import HONEST
from tests.tiers import sample

MOST_MEMORY, MOST_CPU = (figure.limit or 0 for figure in HOSTILE.figures)


@pytest.fixture(scope="module")
def victim() -> Iterator[Machine]:
    with machine() as made:
        yield made


@pytest.fixture(scope="module")
def ordinary(victim: Machine) -> Spent:
    return victim.check_in()


@pytest.fixture(scope="module")
def honest(victim: Machine) -> Spent:
    spent = victim.check_in(HONEST)
    assert spent["failed"] is None
    return spent


@pytest.mark.parametrize(
    ("lie", "failed"),
    sample(
        [
            ("the largest", None),
            ("the longest", None),
            ("4,000 gateways of 64 ranges", "bad-view"),
            ("nodes are small objects", "bad-view"),
            ('"" again and again', "bad-reply"),
            ('"peers" again and again', "bad-reply"),
            ('"gone" again and again', "bad-reply"),
            ("an unsealed text", "bad-reply"),
            ("a bomb", "bad-reply"),
        ],
        "the largest",
        "nodes are small objects",
        "a bomb",
    ),
)
def test_no_reply_costs_more_than_a_large_network(
    victim: Machine, ordinary: Spent, honest: Spent, lie: str, failed: str | None
) -> None:
    spent = victim.check_in(lie)
    assert spent["failed"] == failed
    assert spent["peak"] - ordinary["peak"] <= MOST_MEMORY * 1e6
    assert spent["cpu"] <= MOST_CPU * honest["cpu"]
