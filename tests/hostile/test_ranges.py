"""A controller that gives its network other ranges than those that were agreed on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from nmk.agent import state
from nmk.errors import RangesChanged
from tests.hostile.liar import Json, Liar, Request

SAID = pytest.mark.parametrize(
    ("cidrs", "address"),
    [
        (["203.0.0.0/8"], "203.0.0.9"),  # the owner's bank is in there
        (["10.0.0.0/8"], "10.77.0.1"),
        (["10.77.0.0/24", "2000::/32"], "10.77.0.1"),
    ],
)


@SAID
def test_other_ranges_are_refused_at_every_check_in(
    liar: Liar, cidrs: list[str], address: str
) -> None:
    victim = liar.victim()
    victim.check_in()
    before = state.load("home")

    def widen(_: Request, answer: Json) -> Json:
        answer = {**liar_view(victim.me.id, answer), "full": True}
        answer["network"] = {**answer["network"], "cidrs": cidrs}
        answer["self"] = {**answer["self"], "addresses": [address]}
        return answer

    def liar_view(me: str, answer: Json) -> Json:
        base: dict[str, Any] = {
            "epoch": "00" * 8,
            "network": {"name": "home", "cidrs": [], "mtu": 1420, "keepalive": 25, "interval": 60}
            | {"listen-port": 51821},
            "self": {"id": me, "name": "victim", "addresses": [], "observed": [], "seq": 9},
            "peers": [],
            "clients": [],
        }
        return base | answer

    liar.lie = widen
    for _ in range(2):
        with pytest.raises(RangesChanged, match="joined it with 10") as raised:
            victim.check_in()
        assert cidrs[0] in raised.value.message
    assert state.load("home") == before
    assert json.loads(state.file_of("home").read_bytes())["ranges"] == ["10.77.0.0/24"]
