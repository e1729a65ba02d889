"""What one network of a machine means for another one on it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nmk.agent import interface, state, surroundings, tick
from nmk.agent.checks import gateway as checks
from nmk.agent.desired import desired
from nmk.agent.membership import Membership, encode
from nmk.agent.wishes import note
from nmk.core.gateways import OBSTACLES, Egress, Exit, Gateway, gateway_json
from nmk.core.route_table import rules_of
from nmk.errors import CommandFailed
from nmk.system import sysctl
from nmk.system.runner import Runner
from tests.agent.memberships import joined, peer

pytestmark = pytest.mark.usefixtures("state_dir")


def playing(me: Membership, gateway: Gateway | str) -> Membership:
    """The membership as such a gateway, or as an egress gateway of that range."""
    assert me.known
    if isinstance(gateway, str):
        gateway = Gateway(egress=Egress((gateway,)))
    view = replace(me.known.view, gateway=gateway)
    return replace(me, known=replace(me.known, view=view))


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine itself keeps it from being a gateway."""
    monkeypatch.setattr(tick, "has_tool", lambda _: True)
    monkeypatch.setattr(surroundings, "is_settled", lambda _: True)
    monkeypatch.setattr(sysctl, "read", lambda _: "1")


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("is_down", [False, True])
@pytest.mark.parametrize("ranges", ["10.78.0.0/24", "10.77.0.128/25"])
def test_a_range_in_another_network_of_the_gateways_machine_is_named(
    ranges: str, is_down: bool
) -> None:
    lab = replace(joined(peer(2)), network="lab", interface="nmk-lab", order=1, down=is_down)
    state.save(lab)
    is_inside = ranges == "10.77.0.128/25" and not is_down
    me = playing(joined(peer(2)), ranges)
    assert tick.serves(me) == ("network" if is_inside else "yes")
    found = checks._inside_others(me, desired(me, {}, ()))
    assert [f.level for f in found] == ["broken"] * is_inside
    if is_inside:
        assert "10.77.0.128/25 leads into network lab of this machine" in found[0].reason
        assert f"{found[0].mend}".endswith("gateway remove -n home web egress " + ranges)
    assert "network" in OBSTACLES


@pytest.mark.usefixtures("able")
def test_a_gateway_says_that_its_owner_took_it_down() -> None:
    me = playing(joined(peer(2)), "192.168.50.0/24")
    assert tick.serves(replace(me, down=True)) == "down"


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize(
    ("egress", "exit_", "said"),
    [
        ("lo", None, "yes"),
        ("eth7", None, "interface"),
        ("eth7", "eth8", "interface"),
        ("eth7", "lo", "egress-interface"),
        ("lo", "eth8", "exit-interface"),
    ],
)
def test_a_gateway_says_which_interface_is_missing(
    egress: str, exit_: str | None, said: str
) -> None:
    gateway = Gateway(
        egress=Egress(("192.168.50.0/24",), interface=egress), exit=Exit("auto", exit_)
    )
    assert tick.serves(playing(joined(peer(2)), gateway)) == said


def offering(number: int, gateway: Gateway) -> dict[str, Any]:
    return {**peer(number), "gateway": gateway_json(gateway)}


def test_an_exit_node_of_one_network_is_seen_to_by_the_others_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else what a LAN claims goes past it by their rules until their next check-ins."""
    lab = joined(offering(3, Gateway(egress=Egress(("192.168.50.0/24",)))))
    state.save(replace(lab, network="lab", interface="nmk-lab"))  # of two ranges the first wins
    state.save(replace(joined(offering(2, Gateway(exit=Exit()))), order=1))
    is_open: dict[str, bool] = {}

    def apply(me: Membership, *_: object) -> Membership:
        rules = desired(me, {}, ()).surroundings.table.rules
        is_open[me.network] = (4, rules_of(me.order).lan) in rules
        return me

    monkeypatch.setattr(interface, "apply", apply)
    note("home", {"kill-switch": "on"}, Runner())
    assert is_open == {"home": False}
    for wished, is_lab_open in (("peer-2", False), ("", True)):
        note("home", {"exit-node": wished}, Runner())
        assert is_open == {"home": False, "lab": is_lab_open}


def test_what_another_network_cannot_follow_is_said_and_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state.save(replace(joined(peer(3)), network="lab", interface="nmk-lab", order=1))
    state.save(joined(offering(2, Gateway(exit=Exit()))))
    said: list[str] = []

    def apply(me: Membership, *_: object) -> Membership:
        if me.network == "lab":
            raise CommandFailed("no")
        return me

    monkeypatch.setattr(interface, "apply", apply)
    note("home", {"exit-node": "peer-2"}, Runner(warn=said.append))
    assert said == ["lab: no"]


def test_an_interface_that_another_network_has_is_no_strangers(state_dir: Path) -> None:
    """As after a join with an earlier nmk, while ours was down."""
    me, lab = joined(), replace(joined(), network="lab", interface="nmk-home")
    state.save(me)
    assert "ip link delete dev nmk-home;" in interface._taken(me).hint
    state.save(lab)
    hint = "it is that of {}; nmk leave -n {}, then join with --interface NAME"
    assert interface._taken(me).hint == hint.format("lab", "home")
    assert interface._taken(lab).hint == hint.format("home", "lab")
    (state_dir / "home.json").write_bytes(encode(me)[:-100])  # damaged
    assert interface._taken(lab).hint == hint.format("home", "lab")
