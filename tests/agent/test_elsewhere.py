"""A state directory that one shell knows of and the next does not: its network is no leftover."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from nmk.agent import elsewhere, own_link, state, uninstall
from nmk.agent.doctor import check_leftovers
from nmk.agent.join import join
from nmk.agent.leave import leave_lost
from nmk.agent.membership import Wishes
from nmk.agent.places import runtime_directory
from nmk.agent.salvage import leftovers
from nmk.cli import machine, machine_seeing
from nmk.core.tunnel import Command
from nmk.errors import AlreadyJoined, CommandFailed, NotJoined
from nmk.system import starters
from nmk.system.runner import Runner
from nmk.wire.token import Token
from tests.agent.memberships import joined

FORCE = "nmk leave -n home --force"


class Guarded(Runner):
    """A machine with the packet filter of home, and nothing that may be changed."""

    def read(self, argv: Sequence[str]) -> str:
        if argv[:3] == ["nft", "list", "tables"] or argv[:4] == ["nft", "-j", "list", "tables"]:
            return "table inet nmk-home\n"
        if argv[0] == "nft":
            return "table inet nmk-home {\n\tchain kill-output {\n\t}\n}\n"
        raise CommandFailed(f"{argv[0]} says nothing")

    def change(self, command: Command) -> None:
        raise AssertionError(command)


@pytest.fixture(autouse=True)
def no_others(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    """Nothing of the machine that runs the tests."""
    monkeypatch.setattr("nmk.system.filter.has_tool", lambda _: True)
    monkeypatch.setattr("nmk.agent.places._RUNTIME", runtime_directory())
    monkeypatch.delenv("NMK_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("NMK_CONFIG_DIR", raising=False)
    monkeypatch.setattr("nmk.agent.places.DEFAULT_STATE", Path("/nowhere"))
    monkeypatch.setattr("nmk.agent.elsewhere.DEFAULT_STATE", Path("/nowhere"))
    monkeypatch.setattr(starters, "_CRONTABS", ())
    monkeypatch.setattr(starters, "_SERVICES", ())
    monkeypatch.setattr(elsewhere, "agent_environments", lambda: iter(()))


@pytest.fixture
def theirs(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory with home's state; this shell looks in another one."""
    state.save(joined())
    monkeypatch.setenv("NMK_STATE_DIR", str(tmp_path / "other"))
    return state_dir


def note(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a check-in with the variable does."""
    with monkeypatch.context() as there:
        there.setenv("NMK_STATE_DIR", str(theirs))
        own_link.note(state.load("home"), Runner())


def by_crontab(theirs: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    table = theirs.with_name("crontab")
    table.write_text(line.format(theirs))
    monkeypatch.setattr(starters, "_CRONTABS", (str(table),))


WAYS = {
    "crontab": "* * * * * NMK_STATE_DIR={} /srv/nmk/nmk checkin --quiet\n",
    "variable of a crontab": "NMK_STATE_DIR={}\n* * * * * /srv/nmk/nmk checkin\n",
    "unit": '[Service]\nEnvironment="NMK_STATE_DIR={}"\n',
}


@pytest.mark.parametrize("way", ["note", "process", *WAYS])
def test_what_is_found_leads_to_the_state_that_it_belongs_to(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "note":
        note(theirs, monkeypatch)
    elif way == "process":
        environment = {"NMK_STATE_DIR": str(theirs), "HOME": "/root"}
        monkeypatch.setattr(elsewhere, "agent_environments", lambda: iter([environment]))
    else:
        by_crontab(theirs, monkeypatch, WAYS[way])
    left = leftovers(Guarded())
    assert not left
    assert left.cure == f"NMK_STATE_DIR={theirs} nmk status"
    [finding] = check_leftovers(Guarded())
    assert finding.mend == f"NMK_STATE_DIR={theirs} nmk doctor"
    assert f"home in {theirs}" in finding.reason
    with pytest.raises(NotJoined, match=str(theirs)) as refused:
        leave_lost("home", Guarded(), print)
    assert refused.value.hint == f"NMK_STATE_DIR={theirs} nmk leave -n home"
    assert not Path(os.environ["NMK_STATE_DIR"]).exists()
    with pytest.raises(AlreadyJoined) as refused_too:
        uninstall.uninstall(Guarded(), print)
    assert refused_too.value.hint == f"NMK_STATE_DIR={theirs} nmk leave -n home"


def test_status_says_where_the_network_is(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(theirs, monkeypatch)
    for module in (machine_seeing, machine):
        monkeypatch.setattr(module, "runner", lambda *_, **__: Guarded(), raising=False)
    monkeypatch.setattr(machine_seeing, "check_root", lambda _: None, raising=False)
    told = CliRunner().invoke(machine_seeing.status, [], standalone_mode=False)
    assert told.exception is None, told.exception
    assert f"home in {theirs}" in told.output
    assert f"try: NMK_STATE_DIR={theirs} nmk status" in told.output
    assert "--force" not in told.output
    assert "in no network" not in told.output


def test_a_join_does_not_take_its_place(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(theirs, monkeypatch)
    monkeypatch.setattr("nmk.agent.join.find_tool", lambda _: "")
    monkeypatch.setattr("nmk.agent.join.check_ip", lambda _: None)
    token = Token(("http://192.0.2.1:50051",), bytes(32), "home", "k1", bytes(32))
    with pytest.raises(AlreadyJoined, match=str(theirs)) as refused:
        join(token, Wishes(), None, Guarded(), print)
    assert refused.value.hint == f"NMK_STATE_DIR={theirs} nmk status"
    assert not Path(os.environ["NMK_STATE_DIR"]).exists()


@pytest.mark.usefixtures("theirs")
def test_where_no_state_is_found_what_is_left_can_be_removed() -> None:
    assert leftovers(Guarded()).cure == FORCE
    [finding] = check_leftovers(Guarded())
    assert finding.mend == FORCE


def test_a_state_that_is_gone_or_is_in_use_is_not_elsewhere(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(theirs, monkeypatch)
    with monkeypatch.context() as there:
        there.setenv("NMK_STATE_DIR", str(theirs))
        assert elsewhere.elsewhere() == []
    (theirs / "home.json").unlink()
    assert elsewhere.elsewhere() == []
    assert leftovers(Guarded()).cure == FORCE


def test_other_places_come_along_and_are_quoted(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "a volume"
    theirs.rename(spaced)
    with monkeypatch.context() as there:
        there.setenv("NMK_STATE_DIR", str(spaced))
        there.setenv("NMK_CONFIG_DIR", "/srv/config")
        elsewhere.note("home")
    [found] = elsewhere.elsewhere()
    assert found.by("nmk up") == (f"NMK_STATE_DIR='{spaced}' NMK_CONFIG_DIR=/srv/config nmk up")


def test_a_note_goes_with_its_network(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(theirs, monkeypatch)
    monkeypatch.setenv("NMK_STATE_DIR", str(theirs))
    state.remove("home")
    assert not list(runtime_directory().glob("home*"))
