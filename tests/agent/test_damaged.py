"""State files, and what lies beside them, that are not as nmk left them."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmk.agent import history, last_check_in, liveness, patience, state
from nmk.agent.checks.machine import check_state
from nmk.agent.leave import leave, leave_lost
from nmk.agent.membership import encode
from nmk.agent.salvage import salvage
from nmk.agent.settings import read_file
from nmk.agent.status import status
from nmk.core.tunnel import Command
from nmk.errors import BadInput, CommandFailed, NotJoined, StateDamaged, StateUnwritable
from nmk.system.runner import DryRunner, Runner
from tests.agent.memberships import joined, peer

ME = joined(peer(2))
WRITTEN = encode(ME)
Lay = Callable[[Path], object]


class Blind(DryRunner):
    """A machine of which nothing can be told."""

    def read(self, argv: Sequence[str]) -> str:
        raise CommandFailed(f"{argv[0]} says nothing")


def blind() -> Runner:
    return Blind(lambda _: None, warn=lambda _: None)


def too_large(path: Path) -> None:
    path.touch()
    os.truncate(path, state.MOST_BYTES + 1)


LAID: dict[str, Lay] = {
    "nothing": Path.touch,
    "too large": too_large,
    "a pipe": os.mkfifo,
    "a directory": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a loop": lambda path: path.symlink_to(path),
    "a number": lambda path: path.write_bytes(b"1" * 10_000_000),
    "deeply nested": lambda path: path.write_bytes(b"[" * 10_000_000),
    "binary": lambda path: path.write_bytes(bytes(range(256)) * 100),
}


@pytest.mark.parametrize("lay", LAID.values(), ids=LAID.keys())
def test_whatever_lies_in_a_states_place(state_dir: Path, lay: Lay) -> None:
    lay(state_dir / "home.json")
    with pytest.raises(StateDamaged) as raised:
        state.load("home")
    assert "nmk leave -n home --force" in raised.value.hint
    assert state.others("office") == []
    shown = status("home", blind(), 0, reachable=lambda _: False)
    assert (shown["state"], shown["peers"]) == ("damaged", [])
    assert "home.json" in shown["problem"]
    said: list[str] = []
    with pytest.raises(StateDamaged):
        leave("home", blind(), said.append)
    leave("home", blind(), said.append, force=True)
    assert said[-1] == "this machine would leave home"


@pytest.mark.parametrize("lay", LAID.values(), ids=LAID.keys())
def test_whatever_lies_in_the_place_of_what_is_beside_it(
    state_dir: Path, lay: Lay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(state_dir))
    for name in ("home.log", "home.gateways", "home.trouble", "home.health", "home.toml"):
        lay(state_dir / name)
    assert history.read("home") == []
    assert liveness.dead("home") == set()
    assert last_check_in.load("home", None).worked is None
    assert patience.speaks("home", StateDamaged("no")) in {True, False}
    with contextlib.suppress(BadInput):
        assert read_file(state_dir / "home.toml") == {}


@pytest.mark.parametrize("number", ["1e999", "-1", "NaN", '"x"', "true", "99999999999999999999"])
def test_numbers_that_are_none(
    state_dir: Path, number: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(state_dir))
    entry = {"at": 0, "cause": "up", "revision": 1, "changes": [], "more": 0, "failed": None}
    lines = [json.dumps({**entry, key: "?"}).replace('"?"', number) for key in entry]
    (state_dir / "home.log").write_text("\n".join([*lines, json.dumps(entry)]))
    for found in history.read("home"):
        assert 0 <= found.at < 2**53
        assert 0 <= found.revision < 2**53
    (state_dir / "home.trouble").write_text(f'["state-damaged", {number}]')
    patience.speaks("home", StateDamaged("no"))
    row = {"received": 0, "sent": 0, "unanswered": None}
    rows = [json.dumps({**row, key: "?"}).replace('"?"', number) for key in row]
    for text in rows:
        (state_dir / "home.gateways").write_text(f'{{"x": {text}}}')
        assert liveness.dead("home") == set()
        liveness._trail(json.loads(text))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, len(WRITTEN)), st.binary(max_size=40), st.integers(0, 40))
def test_a_file_damaged_anywhere_keeps_nobody_in(
    state_dir: Path, place: int, put: bytes, over: int
) -> None:
    path = state_dir / "home.json"
    path.write_bytes(WRITTEN[:place] + put + WRITTEN[place + over :])
    left = salvage("home", blind())
    assert left.network == "home"
    assert len(left.interface) <= 15
    assert status("home", blind(), 0, reachable=lambda _: False)["network"] == "home"


def test_what_a_truncated_file_still_tells(state_dir: Path) -> None:
    (state_dir / "home.json").write_bytes(WRITTEN[: WRITTEN.index(b'"wishes"')])
    left = salvage("home", blind())
    assert (left.interface, left.private_key, left.order) == (ME.interface, ME.private_key, 0)


def test_nothing_is_written_that_could_not_be_read(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list(state_dir.iterdir())
    monkeypatch.setattr(state, "MOST_BYTES", len(WRITTEN))
    state.save(ME)
    with pytest.raises(StateUnwritable, match="above the bound"):
        state.save(joined(peer(2), peer(3)))
    assert state.load("home") == ME


def test_what_nobody_knows_is_not_kept() -> None:
    """A peer of 14 KB is one of 300 bytes once it is taken in."""
    large = peer(2) | {"unknown": "x" * 10_000, "lan": ["192.168.1.7/24"] * 300}
    assert len(encode(joined(large))) < len(encode(joined(peer(2)))) + 64 * 20


THEIRS = {
    "settings": '{\n  "log-driver": "journald",\n  "storage": {"version": 1}\n}\n',
    "with remarks": '// of the daemon\n{ "hosts" : [] }',
    "broken": '{"name": "x", "version": "1.0.0",',
    "a list": '[\n  {"id": 1}]',
    "words": '["a", "b"]',
}


@pytest.mark.parametrize("text", THEIRS.values(), ids=THEIRS.keys())
def test_a_file_of_another_program_is_no_state_and_stays(state_dir: Path, text: str) -> None:
    path = state_dir / "daemon.json"
    path.write_text(text)
    path.chmod(0o644)
    assert state.networks() == []
    assert [finding.level for finding in check_state()] != ["broken"]
    with pytest.raises(NotJoined):
        state.choose("daemon")
    with pytest.raises(StateDamaged) as raised:  # as by `nmk join --as daemon`
        state.load("daemon")
    assert raised.value.hint == f"move it away: mv {path} /root/"
    with pytest.raises(NotJoined):
        leave_lost("daemon", Nothing(), lambda _: None)
    state.remove("daemon")
    assert path.read_text() == text


class Nothing(Runner):
    """A machine with nothing of nmk's, where nothing may be changed."""

    def read(self, argv: Sequence[str]) -> str:
        raise CommandFailed(f"{argv[0]} says nothing")

    def change(self, command: Command) -> None:
        raise AssertionError(command)


@pytest.mark.parametrize("part", [0, 1, 10, 14, 23, 40, 60, 100, 1000, len(WRITTEN) - 1])
def test_a_state_that_was_cut_short_stays_one(state_dir: Path, part: int) -> None:
    (state_dir / "home.json").write_bytes(WRITTEN[:part])
    assert state.networks() == ["home"]
    state.remove("home")
    assert not state_dir.exists()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(0, len(WRITTEN)), st.integers(0, 4096))
def test_a_state_with_a_hole_stays_one(state_dir: Path, place: int, size: int) -> None:
    path = state_dir / "home.json"
    path.write_bytes(WRITTEN[:place] + bytes(min(size, len(WRITTEN) - place)) + WRITTEN[place:])
    assert state.networks() == ["home"]
