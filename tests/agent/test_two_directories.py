"""Networks of one machine with states in two directories: each goes by the other all the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import elsewhere, kill_note, others, own_place, state, surroundings, tick
from nmk.agent.desired import desired
from nmk.agent.doctor import _examine_network
from nmk.agent.heads import head_of, marked
from nmk.agent.leave import leave
from nmk.agent.membership import Membership, encode
from nmk.agent.salvage import load, open_way, take_down
from nmk.agent.status import status
from nmk.core.gateways import Egress, Exit, Gateway
from nmk.core.route_table import rules_of
from nmk.core.settings import effective
from nmk.core.tunnel import Command
from nmk.errors import AlreadyJoined, CommandFailed, StateDamaged
from nmk.system import sysctl, wireguard
from nmk.system.runner import Runner
from tests.agent.memberships import full_view, joined, joining, told
from tests.agent.test_damaged import blind
from tests.agent.test_lost_state import Ruled
from tests.agent.test_other_networks import offering, playing

RANGE = Gateway(egress=Egress(("192.168.50.0/24",)))
LAB = replace(joined(offering(3, RANGE)), network="lab", interface="nmk-lab", order=2)
_HOME = joining(interface="mesh0", phase="joined")
_VIEW = full_view(_HOME) | {"network": {"name": "home", "cidrs": ["10.88.0.0/24"], **effective({})}}
_VIEW["self"]["addresses"] = ["10.88.0.1"]
HOME = replace(told(_HOME, _VIEW), phase="joined", order=1)


class Untouched(Runner):
    """A machine of which nothing can be told, and that nothing may change."""

    def read(self, argv: Sequence[str]) -> str:
        raise CommandFailed(f"{argv[0]} says nothing")

    def change(self, command: Command) -> None:
        raise AssertionError(command)


@pytest.fixture
def there(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with home's state, as its check-in has noted; this shell looks in another."""
    save_there(state_dir, HOME, monkeypatch)
    monkeypatch.setenv("NMK_STATE_DIR", str(tmp_path / "here"))
    (tmp_path / "here").mkdir()
    return state_dir


def save_there(directory: Path, me: Membership, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as shell:
        shell.setenv("NMK_STATE_DIR", str(directory))
        state.save(me)
        elsewhere.note(me.network)


def cut_short(directory: Path) -> None:
    (directory / "home.json").write_bytes(encode(HOME)[:-100])


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_gateway_is_no_way_into_a_network_whose_state_is_elsewhere(
    there: Path, is_damaged: bool
) -> None:
    if is_damaged:
        (there / "home.json").write_bytes(encode(replace(HOME, interface="nmk-home"))[:-100])
    name = "nmk-home" if is_damaged else "mesh0"
    ruleset = desired(playing(LAB, Gateway(exit=Exit())), {}, ()).surroundings.ruleset or ""
    assert f'\t\toifname {{ "{name}" }} drop\n' in ruleset
    assert f'iifname != {{ "nmk-lab", "{name}" }} accept\n' in ruleset


@pytest.mark.parametrize("asked", ["filter", "rules"])
def test_what_carries_our_mark_is_a_network_though_nothing_else_tells_of_it(
    state_dir: Path, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a container, which shares the machine's network and not its files."""
    assert not list(state_dir.iterdir())
    monkeypatch.setattr(wireguard, "_may_be", lambda _: True)
    monkeypatch.setattr(others, "_marked", {})
    monkeypatch.setattr(others, "marked", lambda _, but: {"nmk-lab", "nmk-boxed"} - {*but})
    found = desired(playing(LAB, Gateway(exit=Exit())), {}, ()).surroundings
    if asked == "filter":
        assert '\t\toifname { "nmk-boxed" } drop\n' in (found.ruleset or "")
    else:
        assert (4, rules_of(2).lan) not in found.table.rules


@pytest.mark.usefixtures("there")
def test_a_lan_claims_nothing_where_a_network_elsewhere_may_have_an_exit_node() -> None:
    rules = desired(LAB, {}, ()).surroundings.table.rules
    assert (4, rules_of(2).lan) not in rules
    assert {rule for rule in rules_of(2).lans if rule[0] == 4} <= rules


@pytest.mark.parametrize("noted", [True, False, None])
@pytest.mark.parametrize("is_damaged", [False, True])
def test_nobody_is_answered_outside_while_one_elsewhere_notes_a_kill_switch(
    there: Path, noted: bool | None, is_damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where its filter was removed, by a firewall that starts anew."""
    if is_damaged:
        cut_short(there)
    with monkeypatch.context() as shell:
        shell.setenv("NMK_STATE_DIR", str(there))
        kill_note.forget("home")
        if noted is not None:
            kill_note.note("home", on=noted)
    ruleset = desired(LAB, {}, ()).surroundings.ruleset or ""
    assert ("chain answer" in ruleset) == (noted is not True)


def test_a_gateway_names_a_range_that_a_network_elsewhere_has(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tick, "has_tool", lambda _: True)
    monkeypatch.setattr(surroundings, "is_settled", lambda _: True)
    monkeypatch.setattr(sysctl, "read", lambda _: "1")
    me = playing(LAB, "10.88.0.128/25")
    assert tick.serves(me) == "network"
    shutil.rmtree(there)
    assert tick.serves(me) == "yes"


@pytest.mark.parametrize("is_damaged", [False, True])
def test_of_two_networks_in_one_place_one_moves_whose_directory_it_is(
    there: Path, is_damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 0.2.0 each directory had a first one."""
    me = replace(LAB, order=1)
    state.save(me)
    if is_damaged:
        cut_short(there)
    assert own_place.settle(me, Ruled(o1="mesh0")).order == 2
    monkeypatch.setenv("NMK_STATE_DIR", str(there))
    assert own_place.settle(HOME, Ruled(o1="mesh0")).order == 1


def test_a_place_is_left_to_a_network_that_only_its_interface_tells_of(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a container, which has joined as this one did, in the first place."""
    me = replace(LAB, order=1)
    state.save(me)
    monkeypatch.setattr(wireguard, "_may_be", lambda _: True)
    monkeypatch.setattr(others, "_marked", {})
    monkeypatch.setattr(others, "marked", lambda _, but: {"nmk-boxed"} - {*but})
    assert state_dir.exists()
    assert own_place.settle(me, Ruled(o1="nmk-boxed")).order == 2
    assert own_place.settle(me, Ruled(o1="wg9")).order == 1, "somebody's exception"


def test_of_what_others_can_write_elsewhere_the_name_alone_is_believed(
    there: Path, tmp_path: Path
) -> None:
    """Its owner would say which interface a kill switch lets everything out by."""
    state.save(LAB)
    assert [me.interface for me in others.others_of("lab")] == ["mesh0"]
    path = there / "home.json"
    for mode, owner, names in ((0o666, 0, 1), (0o600, 1000, 1), (0o600, 0, 2)):
        path.chmod(mode)
        os.chown(path, owner, owner)
        if names == 2:
            (tmp_path / "second").hardlink_to(path)
        assert others.others_of("lab") == []
        assert others.interfaces_of(LAB) == {"nmk-home"}, "as it is usually called"
        assert others.untold_of("lab") == [("home", None)]
    (tmp_path / "second").unlink()
    assert [me.interface for me in others.others_of("lab")] == ["mesh0"]


def test_what_is_put_there_between_two_looks_is_not_read_either(
    there: Path, tmp_path: Path
) -> None:
    """A link to a file of root's is a name that somebody else has given it."""
    path = (there / "home.json").rename(tmp_path / "moved")
    (there / "home.json").symlink_to(path)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        state.read(there / "home.json", "home")
    assert not head_of("home", there)


@pytest.mark.parametrize(("owner", "is_shut"), [(0, False), (1000, True)])
def test_a_kill_switchs_note_elsewhere_is_believed_where_root_alone_can_have_written_it(
    there: Path, owner: int, is_shut: bool
) -> None:
    note = there / "home.kill-switch"
    note.write_text("off\n")
    os.chown(note, owner, owner)
    assert kill_note.noted("home", there) is is_shut


def test_another_programs_wireguard_that_hangs_is_waited_for_once_and_briefly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wg = tmp_path / "wg"
    wg.write_text(
        f"#!/bin/sh\n[ $2 = interfaces ] && exec echo wg9\necho >>{tmp_path}/asked\nexec sleep 9\n"
    )
    wg.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(wireguard, "_may_be", lambda _: True)
    monkeypatch.setattr(others, "marked", marked)
    monkeypatch.setattr(others, "_marked", {})
    monkeypatch.setattr(others, "_LIMIT", 0.2)
    for _ in range(3):
        assert others.interfaces_of(LAB) == set()
    assert (tmp_path / "asked").read_text() == "\n"


def test_what_is_left_behind_of_a_state_that_has_moved_gives_nothing_of_it_up(
    there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kill switch's note: every command names the place, and what removes the note."""
    kill_note.note("home", on=True)
    left = kill_note.file_of("home")
    [home] = elsewhere.elsewhere()
    hint = f"{home.by('nmk status')}; then remove what was left here: rm {left}"
    run = Untouched()
    for command in (
        lambda: leave("home", run, print, force=True),
        lambda: leave("home", run, print),
        lambda: open_way("home", run),
        lambda: take_down("home", run),
    ):
        with pytest.raises(AlreadyJoined, match=str(there)) as refused:
            command()
        assert refused.value.hint == hint
    with pytest.raises(StateDamaged) as raised:
        load("home", blind())
    assert raised.value.message.endswith(f"whose state is in {there}")
    assert raised.value.hint == hint
    shown = status("home", run, 0, reachable=lambda _: False)
    assert shown["next"] == hint
    [finding, *_] = _examine_network("home", run, lambda: 0)
    assert finding.mend == hint
    left.unlink()
    assert state.networks() == []
    monkeypatch.setenv("NMK_STATE_DIR", str(there))
    assert state.load("home") == HOME


def test_a_damaged_state_is_given_up_though_a_note_tells_of_another_place(there: Path) -> None:
    """As of one that was moved, and is not there any more."""
    state.save(HOME)
    path = state.file_of("home")
    (there / "home.json").unlink()
    path.write_bytes(path.read_bytes()[:-100])
    run = blind()
    with pytest.raises(StateDamaged) as raised:
        load("home", run)
    assert "nmk leave -n home --force" in raised.value.hint
    open_way("home", run)
    take_down("home", run)
    said: list[str] = []
    leave("home", run, said.append, force=True)
    assert said[-1] == "this machine would leave home"
