"""A kill switch of which its state does not tell all: one byte is another, or the rest is gone."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from nmk.agent import state
from nmk.agent.doctor import examine
from nmk.agent.leave import leave
from nmk.agent.membership import Wishes, encode
from nmk.agent.mend import shut_networks
from nmk.agent.salvage import salvage
from nmk.agent.status import status
from nmk.agent.tick import check_in_network, put_right
from nmk.agent.wishes import note
from nmk.cli.machine_status import render_status
from nmk.core.kill_chains import is_shut
from nmk.core.route_table import NO_ORDER
from nmk.errors import NmkError, StateDamaged, StateUnwritable
from nmk.system.runner import Runner
from tests.agent.test_kill_switch import ACTIONS, Nft, guarded, one_check_in, tools

__all__ = ["tools"]

SET = b'"settings":{"exit-node":"peer-2","kill-switch":"on"}'
BROKEN = {
    "a comma": (b'"on"}', b'"on",}'),
    "a bracket": (b'"on"}', b'"on"]'),
    "a comma between": (b'","kill', b'",,"kill'),
    "an exit node of control characters": (b'"peer-2"', b'"peer-2\x01"'),
    "an exit node that is none": (b'"peer-2"', b'"Peer 2"'),
    "an exit node with a quote": (b'"peer-2"', b'""eer-2"'),
    "another exit-node": (b'"exit-node"', b'"exit-nodf"'),
    "other settings": (b'"settings"', b'"settingr"'),
    "no settings": (b'"settings"', b'"setting\x00"'),
}


@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("action", [*ACTIONS, one_check_in], ids=lambda a: a.__name__)
def test_a_kill_switch_that_can_be_read_is_laid_whatever_is_wrong_beside_it(
    state_dir: Path, action: Callable[[str, Runner], object], how: str
) -> None:
    state.save(guarded())
    file = state_dir / "home.json"
    raw = file.read_bytes()
    file.write_bytes(raw.replace(SET, SET.replace(*BROKEN[how])))
    with pytest.raises(StateDamaged):
        state.load("home")
    run = Nft()
    with suppress(NmkError):
        action("home", run)
    assert is_shut(run.there)
    note("home", {"kill-switch": "off"}, run)
    assert run.there == ""
    with suppress(NmkError):
        action("home", run)
    assert run.there == ""
    shown = status("home", run, 0, reachable=lambda _: False)
    assert shown["kill_switch"] is None


def is_said(run: Runner, network: str = "home") -> bool:
    """By `status` and `doctor`: that nobody can tell whether a kill switch is wanted."""
    problem = (
        "the state does not tell whether a kill switch is wanted: without one all leaves openly"
    )
    shown = status(network, run, 0, reachable=lambda _: False)
    lines = render_status([shown], "table")
    found = [f for f in examine([network], run, lambda: 0) if f.network]
    return f"\nunseen      {problem}\n" in f"\n{lines}\n" and any(
        f.reason == problem for f in found
    )


WHOLE = encode(guarded())
HALF = encode(replace(guarded(), wishes=Wishes(settings={"exit-node": "peer-2"})))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300
)
@given(
    st.sampled_from([WHOLE, HALF]),
    st.integers(0, WHOLE.index(b'"known"') - 1),
    st.binary(min_size=1, max_size=1),
)
@example(WHOLE, WHOLE.index(b'"kill-switch"') + 3, b"x")
@example(WHOLE, WHOLE.index(b'"on"') + 1, b"i")
@example(WHOLE, WHOLE.index(b'"on"') + 1, b'"')
@example(WHOLE, WHOLE.index(b'"on"') + 4, b"]")
@example(WHOLE, WHOLE.index(b'"peer-2"') + 1, b"\x01")
@example(WHOLE, WHOLE.index(b'"settings"') + 3, b"x")
@example(WHOLE, WHOLE.index(b'"wishes"') + 3, b"x")
@example(HALF, HALF.index(b'"exit-node"') + 3, b"x")
@example(HALF, HALF.index(b'"peer-2"') + 1, b'"')
@example(HALF, HALF.index(b'"settings"') + 3, b"x")
def test_no_byte_of_a_state_opens_a_kill_switch_unsaid(
    state_dir: Path, written: bytes, place: int, byte: bytes
) -> None:
    """After a reboot: it is read with the wish, or is shut, or it is said; `HALF`: with a file.

    Nothing is noted beside it, as nmk before 0.3.0 noted nothing.
    """
    config = state_dir.parent / "config"
    config.mkdir(exist_ok=True)
    (config / "agent.toml").write_text('kill-switch = "on"' if written == HALF else "")
    (state_dir / "home.json").write_bytes(written[:place] + byte + written[place + 1 :])
    run = Nft()
    shut_networks(run)
    assert is_shut(run.there) or is_said(run)


@pytest.mark.parametrize("end", [b'"kill-switch":"o', b'"kill-switch"', b'"exit-node"', b'"wish'])
def test_a_state_that_is_cut_off_before_its_kill_switch_says_so(
    state_dir: Path, end: bytes
) -> None:
    """None is laid where it is noted nowhere; one that is there stays, and its owner opens it."""
    state.save(guarded())
    (state_dir / "home.kill-switch").unlink()
    file = state_dir / "home.json"
    run = Nft()
    shut_networks(run)
    laid, cut = run.there, WHOLE[: WHOLE.index(end) + len(end)]
    file.write_bytes(cut)
    shut_networks(run)
    assert run.there == laid
    shown = status("home", run, 0, reachable=lambda _: False)
    assert shown["kill_switch"]["laid"]
    assert shown["cut_off"]["next"] == "nmk set -n home kill-switch=off"
    run.there = ""
    shut_networks(run)
    assert run.there == ""
    assert is_said(run)
    hint = status("home", run, 0, reachable=lambda _: False)["kill_switch"]["next"]
    assert "\n" not in str(hint)
    line = str(hint).removeprefix("to shut it: ").partition(";")[0].replace("NODE", "peer-2")
    assert not (state_dir.parent / "config").exists()
    subprocess.run(["sh", "-c", line], check=True)
    shut_networks(run)
    assert is_shut(run.there)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('exit-node = "NODE"\nkill-switch = "on"\n', "'NODE' cannot be exit-node"),
        ('exit-node = "a"\nexit-node = "a"\n', "is not valid TOML"),
    ],
    ids=["as it was pasted", "twice"],
)
def test_a_broken_settings_file_is_named_while_the_state_cannot_be_read_either(
    state_dir: Path, text: str, said: str
) -> None:
    """By the check-in, `status` and `doctor`: it is all that tells of a kill switch."""
    config = state_dir.parent / "config"
    config.mkdir()
    (config / "home.toml").write_text(text)
    (state_dir / "home.json").touch()
    run = Nft()
    with pytest.raises(StateDamaged) as raised:
        check_in_network("home", run)
    shown = status("home", run, 0, reachable=lambda _: False)
    lines = render_status([shown], "table").splitlines()
    found = [f.reason for f in examine(["home"], run, lambda: 0)]
    for told in (raised.value.message, f"{lines}", f"{found}"):
        assert str(config / "home.toml") in told
        assert said in told
    assert ">>" not in f"{shown}"
    (config / "home.toml").write_text('exit-node = "peer-2"\n')
    hint = status("home", run, 0, reachable=lambda _: False)["kill_switch"]["next"]
    line = str(hint).removeprefix("to shut it: ").partition(";")[0]
    assert "exit-node" not in line
    subprocess.run(["sh", "-c", line], check=True)
    shut_networks(run)
    assert is_shut(run.there)


REJOINS = encode(replace(guarded(), successor=replace(guarded(), phase="joining")))
STRUCTURE = b'{}",\\\0x'


@pytest.mark.parametrize("written", [WHOLE, REJOINS], ids=["a member", "one that joins anew"])
def test_no_byte_of_a_state_opens_a_kill_switch_that_is_noted(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, written: bytes
) -> None:
    """After a reboot, whichever byte is another one; what comes after these is never salvaged."""
    state.save(guarded())
    monkeypatch.setattr("nmk.files.os.fsync", lambda _: None)
    places = [
        *range(written.index(b'"phase"'), written.index(b'"down"')),
        *range(written.index(b'"settings"'), written.index(b'"ranges"')),
    ]
    damaged = [
        *(written[:p] + bytes([b]) + written[p + 1 :] for p in places for b in STRUCTURE),
        *(bytes(size) + written[size:] for size in (64, 256, 512, len(written))),
        *(written[:size] for size in (0, 1, 64, 512)),
    ]
    run = Nft()
    for raw in damaged:
        (state_dir / "home.json").write_bytes(raw)
        run.there = ""
        shut_networks(run)
        assert is_shut(run.there), raw


@pytest.mark.parametrize("note_in", [b"", b"on\n", b"of\n", b"off\n\n", bytes(4096)])
def test_a_note_that_is_damaged_is_one_of_a_kill_switch(state_dir: Path, note_in: bytes) -> None:
    state.save(guarded())
    (state_dir / "home.json").write_bytes(b"")
    (state_dir / "home.kill-switch").write_bytes(note_in)
    run = Nft()
    shut_networks(run)
    assert is_shut(run.there)
    note("home", {"kill-switch": "off"}, run)
    assert run.there == ""
    shut_networks(run)
    assert run.there == ""
    assert not is_said(run)  # there is nothing more to ask


@pytest.mark.parametrize("off", [{"kill-switch": "off"}, {"exit-node": ""}])
def test_it_is_noted_when_it_is_switched(state_dir: Path, off: dict[str, str]) -> None:
    """Off only once the state says so, on before: a crash between the two leaves it shut."""
    file = state_dir / "home.kill-switch"
    state.save(guarded(**off))
    assert file.read_text() == "off\n"
    state.save(guarded())
    assert file.read_text() == "on\n"
    assert file.stat().st_mode & 0o777 == 0o600
    (state_dir / ".home.json.tmp").mkdir()  # the state cannot be written
    with pytest.raises(StateUnwritable):
        state.save(guarded(**off))
    assert file.read_text() == "on\n"
    (state_dir / ".home.json.tmp").rmdir()
    state.remove("home")
    assert not list(state_dir.glob("*"))


def test_a_copy_of_another_networks_state_takes_nothing_of_that(state_dir: Path) -> None:
    """As `cp home.json home-old.json` makes one, or a backup that is put in the wrong place."""
    me = replace(guarded(), order=3)
    state.save(me)
    (state_dir / "home-old.json").write_bytes(encode(me))
    run = Nft()
    shut_networks(run)
    assert "table inet nmk-home {" in run.there
    assert "table inet nmk-home-old" not in run.there
    found = salvage("home-old", run)
    assert found.interface == "nmk-home-old"
    assert found.order == NO_ORDER
    assert found.private_key != me.private_key
    with pytest.raises(StateDamaged):
        state.load("home-old")
    assert not is_said(run, "home-old")  # it never was a network
    run.there = ""
    state.remove("home")  # which it is of has been left
    shut_networks(run)
    assert run.there == ""


@pytest.mark.parametrize("byte", [b"\xff", b" ", b"A", b"\0"])
def test_a_state_of_which_the_beginning_is_another_text_stays_one(
    state_dir: Path, byte: bytes
) -> None:
    """Where a kill switch is noted, a network it is, whatever its file looks like."""
    state.save(guarded())
    raw = (state_dir / "home.json").read_bytes()
    (state_dir / "home.json").write_bytes(byte * 1024 + raw[1024:])
    run = Nft()
    shut_networks(run)
    assert is_shut(run.there)
    assert state.networks() == ["home"]
    state.remove("home")
    assert not list(state_dir.glob("home*"))


def opened(run: Runner) -> None:
    note("home", {"kill-switch": "off"}, run)


def left(run: Runner) -> None:
    leave("home", run, lambda _: None, force=True)


@pytest.mark.parametrize("ends", [opened, left])
def test_a_state_that_has_gone_leaves_its_kill_switch_shut(
    state_dir: Path, ends: Callable[[Runner], None]
) -> None:
    """Until its owner opens it, or leaves: a network it is as long as that is noted."""
    run = Nft()
    state.save(guarded())
    (state_dir / "home.json").unlink()
    shut_networks(run)
    assert is_shut(run.there)
    assert state.networks() == ["home"]
    with pytest.raises(StateDamaged, match=r"home\.json has gone"):
        state.load("home")
    ends(run)
    assert (run.there, state.networks()) == ("", [])
    assert not (state_dir / "home.kill-switch").exists()


def test_a_directory_in_the_place_of_the_note(state_dir: Path) -> None:
    """An empty one goes; of one with something in it the failure tells its name."""
    note_file = state_dir / "home.kill-switch"
    note_file.mkdir()
    state.save(guarded(**{"kill-switch": "off"}))
    assert note_file.read_text() == "off\n"
    note_file.unlink()
    state.save(guarded())
    note_file.unlink()
    note_file.mkdir()
    (note_file / "mine").touch()
    with pytest.raises(StateUnwritable) as raised:
        note("home", {"kill-switch": "off"}, Nft())
    assert raised.value.message == f"{note_file} cannot be written: Directory not empty"
    assert raised.value.hint == f"move it away: mv {note_file} /root/"


@pytest.mark.usefixtures("state_dir")
def test_a_kill_switch_that_was_laid_is_not_open_because_nft_is_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state.save(guarded())
    run = Nft()
    shut_networks(run)
    with suppress(NmkError):
        one_check_in("home", run)
    with suppress(NmkError):
        put_right("home", run)
    monkeypatch.setattr("nmk.agent.surroundings.has_tool", lambda _: False)
    run.there = ""  # nothing can be seen
    shown = status("home", run, 0, reachable=lambda _: False)["kill_switch"]
    assert (shown["laid"], shown["problem"]) == (
        None,
        "nft is not installed: the kill switch that was laid may stand",
    )
