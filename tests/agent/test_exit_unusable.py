"""An exit node that was asked for and is none: no check-in passes over it in silence."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import state
from nmk.agent.desired import desired
from nmk.agent.interface import complain
from nmk.agent.membership import Membership, Wishes
from nmk.core.gateways import Exit, Gateway
from nmk.errors import ExitUnusable
from tests.agent.memberships import joined, peer


def member(**settings: str) -> Membership:
    """A machine in a network with the exit gateway `peer-2` and the node `peer-3`."""
    me = joined(peer(2), peer(3))
    assert me.known
    view = me.known.view
    peers = {
        key: replace(one, gateway=Gateway(exit=Exit())) if one.name == "peer-2" else one
        for key, one in view.peers.items()
    }
    named = {name.replace("_", "-"): value for name, value in settings.items()}
    known = replace(me.known, view=replace(view, peers=peers))
    return replace(me, known=known, wishes=Wishes(settings=named), as_read={})


@pytest.fixture
def file(state_dir: Path) -> Path:
    state.make_directory()
    directory = state_dir.parent / "config"
    directory.mkdir()
    return directory / "home.toml"


def test_an_exit_node_mistyped_in_a_file_fails_the_check_in(file: Path) -> None:
    file.write_text('exit-node = "peer-x"\n')
    me = member()
    [problem] = desired(me, {}, ()).problems
    assert problem.message == (
        "exit-node=peer-x: there is no node 'peer-x', and so everything leaves openly"
    )
    assert problem.hint == (
        f"take exit-node out of {file}, then: nmk checkin -n home; exit gateways: peer-2"
    )
    with pytest.raises(ExitUnusable) as raised:
        complain(replace(me, problems=(problem,)))
    assert raised.value.exit_code == 1
    file.write_text('exit-node = "peer-2"\n')
    assert desired(me, {}, ()).problems == ()


@pytest.mark.usefixtures("file")
def test_one_mistyped_in_a_variable_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMK_EXIT_NODE", "nope")
    [problem] = desired(member(), {}, ()).problems
    assert "exit-node=nope: there is no node 'nope'" in problem.message
    assert problem.hint.startswith("take exit-node out of NMK_EXIT_NODE")


@pytest.mark.usefixtures("file")
def test_with_a_kill_switch_it_says_that_nothing_leaves() -> None:
    [problem] = desired(member(exit_node="peer-3", kill_switch="on"), {}, ()).problems
    assert problem.message == (
        "exit-node=peer-3: peer-3 is no exit gateway, "
        "and so the kill switch lets nothing out but to the LAN"
    )
    assert problem.hint == "nmk set -n home kill-switch=off; exit gateways: peer-2"
    assert desired(member(kill_switch="on"), {}, ()).problems == ()
