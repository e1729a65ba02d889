"""`nmk log`: what was changed here, when and why; nothing where nothing was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.agent import history
from nmk.agent.attempts import Attempts
from nmk.agent.history import MOST_BYTES, MOST_ENTRIES, MOST_LINES, Entry, Reason, bounded
from nmk.core.tunnel import Change
from nmk.errors import CommandFailed
from nmk.system.runner import DryRunner, Runner
from tests.agent.memberships import joined, peer
from tests.lab import Host, Lab
from tests.mesh import Mesh, has_interface

FILE = "/var/lib/nmk/home.log"


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NMK_STATE_DIR", str(tmp_path))
    return tmp_path


def record(*changes: Change, run: Runner | None = None, reason: Reason | None = None) -> None:
    me = joined(peer(2))
    with history.recording(me, reason or Reason("check-in"), changes, run or Runner(), Attempts()):
        pass


def test_a_plan_is_remembered(state_dir: Path) -> None:
    record(Change("link", "set MTU 1380, up"))
    [entry] = history.read("home")
    assert asdict(entry) | {"at": 0} == {
        "at": 0,
        "cause": "check-in",
        "revision": 7,
        "changes": ("set MTU 1380, up",),
        "more": 0,
        "failed": None,
        "times": 1,
    }
    assert [p.name for p in state_dir.iterdir()] == ["home.log"]
    assert (state_dir / "home.log").stat().st_mode & 0o777 == 0o600


@pytest.mark.usefixtures("state_dir")
def test_what_is_done_again_and_again_is_one_entry() -> None:
    renewed = Change("surroundings", "renew the packet filter")
    for _ in range(3):
        record(renewed, reason=Reason("mended"))
    [entry] = history.read("home")
    assert (entry.changes, entry.times) == (("renew the packet filter",), 3)
    record(renewed)
    assert [e.times for e in history.read("home")] == [3, 1]


def test_an_empty_plan_and_a_dry_run_write_nothing(state_dir: Path) -> None:
    record()
    record(Change("link", "set MTU 1380, up"), run=DryRunner())
    assert list(state_dir.iterdir()) == []


@pytest.mark.usefixtures("state_dir")
def test_one_that_fails_is_remembered_without_its_message() -> None:
    changes = [Change("configure", "listen on UDP 51821")]
    with (
        pytest.raises(CommandFailed),
        history.recording(joined(), Reason("up"), changes, Runner(), Attempts()),
    ):
        raise CommandFailed("wg: what it was given")
    [entry] = history.read("home")
    assert (entry.cause, entry.failed) == ("up", "command-failed")
    assert "was given" not in history.file_of("home").read_text()


def test_a_disk_that_is_full_stops_nothing(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_STATE_DIR", str(state_dir / "absent"))
    record(Change("link", "set MTU 1380, up"))
    assert history.read("home") == []


@pytest.mark.usefixtures("state_dir")
def test_many_changes_are_counted() -> None:
    record(*(Change("address", f"add address {n}") for n in range(MOST_LINES + 5)))
    [entry] = history.read("home")
    assert len(entry.changes) == MOST_LINES
    assert entry.more == 5


@pytest.mark.usefixtures("state_dir")
def test_peers_have_names_also_those_that_go() -> None:
    me, before = joined(peer(2)), joined(peer(3))
    assert me.known
    assert before.known
    [here], [gone] = me.known.view.peers.values(), before.known.view.peers.values()
    changes = [
        Change("peer", f"add peer {here.key} (10.77.0.2/32) at 192.0.2.2:1", here.key),
        Change("remove-peer", f"remove peer {gone.key}", gone.key),
        Change("remove-peer", "remove peer nobodys", "nobodys"),
    ]
    with history.recording(
        me, Reason("check-in", before.known.view), changes, Runner(), Attempts()
    ):
        pass
    [entry] = history.read("home")
    assert entry.changes == (
        "add peer peer-2 (10.77.0.2/32) at 192.0.2.2:1",
        "remove peer peer-3",
        "remove peer nobodys",
    )


@pytest.mark.usefixtures("state_dir")
def test_what_has_led_to_the_changes_comes_first() -> None:
    news = ("peer-2 fell silent", "peer-3 answers again")
    link = Change("link", "set MTU 1380, up")
    record(reason=Reason("gateway", news=news))
    record(link, reason=Reason("gateway", news=news))
    [entry] = history.read("home")
    assert entry.changes == (*news, "set MTU 1380, up")
    record(*[link] * MOST_LINES, reason=Reason("gateway", news=news))
    assert (len(history.read("home")[-1].changes), history.read("home")[-1].more) == (MOST_LINES, 2)


@pytest.mark.parametrize(
    "line", ["", "no JSON", "7", "{}", '{"at": "x"}', '{"at":1,"cause":"up","revision":[]}']
)
def test_a_damaged_line_costs_no_more_than_itself(state_dir: Path, line: str) -> None:
    good = json.dumps(asdict(Entry(1, "up", 2, ("a",))))
    (state_dir / "home.log").write_text(f"{good}\n{line}\n{good[:-9]}\n")
    assert history.read("home") == [Entry(1, "up", 2, ("a",))]
    record(Change("link", "set MTU 1380, up"))
    assert len(history.read("home")) == 2


@given(st.lists(st.text("ab\u20ac", max_size=2000), max_size=150))
def test_the_newest_are_kept_within_the_bound(lines: Sequence[str]) -> None:
    kept = bounded(lines)
    assert kept == list(lines[len(lines) - len(kept) :])
    assert len(kept) <= MOST_ENTRIES
    size = sum(len(line.encode()) + 1 for line in kept)
    assert size <= MOST_BYTES
    if len(kept) < min(len(lines), MOST_ENTRIES):
        assert size + len(lines[-len(kept) - 1].encode()) + 1 > MOST_BYTES


def entries(host: Host) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(host.run("nmk", "log", "-o", "json").stdout)
    return found


def causes(host: Host) -> list[str]:
    return [entry["cause"] for entry in entries(host)]


def test_a_life(lab: Lab) -> None:
    mesh = Mesh(lab, "10.77.0.0/24")
    anna = mesh.join(mesh.machine("anna"))
    [first] = entries(anna)
    assert first.keys() == {
        "network",
        "at",
        "cause",
        "revision",
        "changes",
        "more",
        "failed",
        "times",
    }
    assert (first["network"], first["cause"], first["failed"]) == ("home", "join", None)
    assert first["changes"][0] == "create nmk-home"
    assert first["at"].endswith("Z")

    bert = mesh.join(mesh.machine("bert"))
    anna.run("nmk", "checkin")
    assert causes(anna) == ["join", "check-in"]
    [line] = entries(anna)[-1]["changes"]
    assert line == f"add peer bert (10.77.0.2/32) at {bert.address}:51821"
    written = anna.run("stat", "-c", "%i %Y %s", FILE).stdout
    anna.run("nmk", "checkin")
    anna.run("nmk", "checkin", "--dry-run")
    assert anna.run("stat", "-c", "%i %Y %s", FILE).stdout == written

    with mesh.stopped():
        anna.run("ip", "link", "set", "nmk-home", "mtu", "1300")
        anna.run("nmk", "checkin", check=False)
    assert causes(anna)[-1] == "failed-check-in"
    assert entries(anna)[-1]["changes"] == ["set MTU 1420, up"]

    bert.run("nmk", "leave")
    anna.run("nmk", "checkin")
    assert entries(anna)[-1]["changes"] == ["remove peer bert"]
    anna.run("nmk", "down")
    anna.run("nmk", "up")
    anna.reboot()
    anna.run("nmk", "checkin")
    assert causes(anna)[-3:] == ["down", "up", "restore"]
    told = anna.run("nmk", "log").stdout
    assert "  home  put in place from disk, revision " in told
    assert "\n    remove peer bert\n" in told

    secrets = json.loads(anna.read("/var/lib/nmk/home.json"))
    assert secrets["private_key"] not in anna.read(FILE)
    assert secrets["identity"] not in anna.read(FILE)

    mesh.admin("node", "delete", "anna", "--yes")
    anna.run("nmk", "checkin", check=False)
    assert not has_interface(anna)
    assert entries(anna)[-1] | {"at": "", "revision": 0} == {
        "network": "home",
        "at": "",
        "cause": "deleted",
        "revision": 0,
        "changes": ["remove nmk-home"],
        "more": 0,
        "failed": None,
        "times": 1,
    }
    anna.run("nmk", "leave")
    assert anna.run("test", "-e", FILE, check=False).returncode == 1
    assert "nmk has changed nothing" in anna.run("nmk", "log").stderr
