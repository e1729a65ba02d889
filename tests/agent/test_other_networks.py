"""What one network of a machine means for another one on it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nmk.agent import state, surroundings, tick
from nmk.agent.checks import gateway as checks
from nmk.agent.desired import desired
from nmk.agent.membership import Membership
from nmk.core.gateways import OBSTACLES, Egress, Gateway
from nmk.system import sysctl
from tests.agent.memberships import joined, peer


def playing(me: Membership, *ranges: str) -> Membership:
    """The membership as an egress gateway of these ranges."""
    assert me.known
    view = replace(me.known.view, gateway=Gateway(egress=Egress(ranges)))
    return replace(me, known=replace(me.known, view=view))


@pytest.mark.usefixtures("state_dir")
def test_a_range_in_another_network_of_the_gateways_machine_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tick, "has_tool", lambda _: True)
    monkeypatch.setattr(surroundings, "is_settled", lambda _: True)
    monkeypatch.setattr(sysctl, "read", lambda _: "1")
    lab = replace(joined(peer(2)), network="lab", interface="nmk-lab", order=1)
    for other in (lab, replace(lab, down=True)):
        state.save(other)
        for ranges, is_inside in (("10.78.0.0/24", False), ("10.77.0.128/25", not other.down)):
            me = playing(joined(peer(2)), ranges)
            assert tick.serves(me) == ("network" if is_inside else "yes")
            found = checks._inside_others(me, desired(me, {}, ()))
            assert [f.level for f in found] == ["broken"] * is_inside
            if is_inside:
                assert "10.77.0.128/25 leads into network lab of this machine" in found[0].reason
                assert f"{found[0].mend}".endswith("gateway remove -n home web egress " + ranges)
    assert "network" in OBSTACLES
