from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import salvage, state
from nmk.agent.lock import locked
from nmk.agent.membership import encode
from nmk.errors import Ambiguous, Locked, NotJoined, StateDamaged, StateUnwritable
from tests.agent.memberships import joined, joining
from tests.cli.inprocess import nmk


def test_saved_found_and_removed(state_dir: Path) -> None:
    me = joined()
    state.save(me)
    assert (state_dir / "home.json").stat().st_mode & 0o777 == 0o600
    assert state.load("home") == me
    state.remove("home")
    state.remove("home")
    assert state.find("home") is None
    assert not state_dir.exists()


def test_a_file_is_taken_apart_once_and_again_when_it_is_another(state_dir: Path) -> None:
    path, aside = state_dir / "home.json", state_dir / "aside"
    state.save(joined())
    assert state.load("home") is state.load("home")
    path.rename(aside)
    state.save(replace(joined(), seq=7))
    assert state.load("home").seq == 7
    aside.rename(path)
    assert state.load("home").seq == joined().seq
    path.write_bytes(encode(replace(joined(), seq=8)))
    assert state.load("home").seq == 8
    path.write_text("{")
    with pytest.raises(StateDamaged):
        state.load("home")


def test_only_state_files_count(state_dir: Path) -> None:
    for name in ("home.json", "office.json", "-bad.json", "server.db", ".home.json.1.tmp"):
        (state_dir / name).touch()
    assert state.networks() == ["home", "office"]


def test_a_network_is_implied_when_there_is_just_one(state_dir: Path) -> None:
    with pytest.raises(NotJoined, match="in no network"):
        state.choose(None)
    (state_dir / "home.json").touch()
    assert state.choose(None) == "home"
    (state_dir / "office.json").touch()
    assert state.choose("office") == "office"
    with pytest.raises(Ambiguous, match="home, office"):
        state.choose(None)
    with pytest.raises(NotJoined, match="'lab'"):
        state.choose("lab")


def test_a_directory_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NMK_STATE_DIR", str(tmp_path / "file" / "below"))
    with pytest.raises(StateUnwritable, match="file/below cannot be made"):
        state.make_directory()
    with pytest.raises(StateUnwritable, match=r"home\.json cannot be written"):
        state.save(joining())


def test_one_run_at_a_time(state_dir: Path) -> None:
    with locked(state_dir), pytest.raises(Locked), locked(state_dir):
        raise AssertionError


def test_no_lock_on_a_directory_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(NotJoined), locked(tmp_path / "nothing"):
        raise AssertionError


@pytest.mark.usefixtures("state_dir")
def test_a_network_that_is_mistyped_is_told_from_none_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NMK_NETWORK", "hmoe")
    commands = (
        "status",
        "doctor",
        "log",
        "show",
        "showconf",
        "ping web",
        "checkin",
        "leave --dry-run",
    )
    monkeypatch.setattr("nmk.system.facts.os.geteuid", lambda: 0)
    monkeypatch.setattr(salvage, "leftovers", lambda _: salvage.Leftovers())
    for known in ((), ("home", "lab")):
        for network in known:
            state.save(replace(joining(), network=network))
        for command in commands:
            hint = "write -n home\n" if known else "nmk join -"
            if not known and command in {"log", "leave --dry-run"}:
                hint = state.LEFT_HINT
            done = nmk(*command.split())
            assert done.code == 1
            assert "not in a network named 'hmoe'" in done.err
            assert hint in done.err, command
