"""A kill switch that stands on a machine without `wg`, `ip` or nft: it is said, and opened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from nmk import tools
from nmk.agent import own_link, state
from nmk.agent.doctor import examine
from nmk.agent.leave import leave
from nmk.agent.membership import Membership
from nmk.agent.status import status
from nmk.agent.tick import check_in_network, put_right
from nmk.agent.updown import down
from nmk.agent.wishes import note
from nmk.cli.cut_off import tell_cut_off_of
from nmk.cli.machine_status import render_status
from nmk.core.kill_chains import is_shut
from nmk.core.tunnel import Command
from nmk.errors import NmkError, ToolMissing
from nmk.system.keys import public_key
from tests.agent.memberships import full_view, peer, told
from tests.agent.test_kill_switch import Nft, damage, guarded

pytestmark = pytest.mark.usefixtures("state_dir")
_LINK = '[{"ifname": "nmk-none", "mtu": 1420, "flags": ["UP"], "addr_info": []}]'


class Lacking(Nft):
    """A machine of which a test takes programs away."""

    def __init__(self, programs: Path) -> None:
        super().__init__()
        self.programs = programs
        self.key = ""

    def lacks(self, tool: str) -> None:
        (self.programs / tool).unlink()

    def _look_for(self, tool: str) -> None:
        if not (self.programs / tool).exists():
            raise ToolMissing(f"the program {tool!r} is not installed", f"get {tool}")

    def read(self, argv: Sequence[str]) -> str:
        self._look_for(argv[0])
        if argv[0] == "wg":
            return f"{self.key}\t{public_key(self.key)}\t51821\toff\n"
        if argv[0] == "ip":
            return _LINK if "dev" in argv else "[]"
        return super().read(argv)

    def change(self, command: Command) -> None:
        self._look_for(command.argv[0])
        super().change(command)


def member(**wishes: str) -> Membership:
    exits = {**peer(2), "gateway": {"exit": {"nat": "auto", "interface": None}}}
    me = guarded(**wishes)
    return replace(told(me, full_view(me, exits)), phase="joined")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lacking:
    """With a kill switch that stands, as after a reboot: there is no interface."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for tool in ("wg", "ip", "nft", "wireguard-go"):
        (programs / tool).write_text("#!/bin/sh\nexit 1\n")
        (programs / tool).chmod(0o755)
    monkeypatch.setattr(tools, "_SYSTEM_PATH", "/nowhere")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setattr("nmk.system.sysctl.write", lambda *_: None)
    monkeypatch.setattr("nmk.agent.kill_switch._shut_alone", {})
    found = Lacking(programs)
    monkeypatch.setattr("nmk.system.runner.Runner", lambda **_: found)
    monkeypatch.setattr("nmk.agent.desired.Runner", lambda: found)
    state.save(replace(member(), order=1))
    found.key = state.load("home").private_key
    with suppress(NmkError):
        put_right("home", found)
    assert is_shut(found.there)
    return found


def set_off(run: Lacking) -> None:
    note("home", {"kill-switch": "off"}, run)


def set_no_exit(run: Lacking) -> None:
    note("home", {"exit-node": ""}, run)


def file_off(run: Lacking) -> None:
    config = state.file_of("home").parent.parent / "config"
    config.mkdir(exist_ok=True)
    (config / "home.toml").write_text('kill-switch = "off"\n')
    check_in_network("home", run)


def damaged_off(run: Lacking) -> None:
    damage(state.file_of("home").parent, "cut")
    note("home", {"kill-switch": "off"}, run)


def down_once_it_is_not_wanted(run: Lacking) -> None:
    state.save(member(**{"kill-switch": "off"}))
    down("home", run)


def leave_by_force(run: Lacking) -> None:
    leave("home", run, lambda _: None, force=True)


WAYS = (set_off, set_no_exit, file_off, damaged_off, down_once_it_is_not_wanted, leave_by_force)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("tool", ["wg", "ip", "wireguard-go"])
def test_nft_alone_opens_it(tool: str, way: Callable[[Lacking], None], run: Lacking) -> None:
    """And no check-in shuts it again."""
    run.lacks(tool)
    with suppress(NmkError):
        way(run)
    assert "kill-" not in run.there
    if way == leave_by_force:
        assert (run.there, state.find("home")) == ("", None)
    with suppress(NmkError):
        check_in_network("home", run)
    assert "kill-" not in run.there


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("tool", ["wg", "ip"])
def test_leaving_by_force_leaves_no_state_that_shuts_again(
    tool: str, is_told: bool, run: Lacking, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though there is an interface that may be ours: that it stays is said."""
    monkeypatch.setattr(state, "tells_laid", lambda _: is_told)
    monkeypatch.setattr("nmk.system.wireguard.exists", lambda name: name == "nmk-none")
    monkeypatch.setattr(own_link, "is_noted", lambda _: False)
    run.lacks(tool)
    said: list[str] = []
    with pytest.raises(ToolMissing) as raised:
        leave("home", run, said.append, force=True)
    assert raised.value.message.endswith("what is left of home goes when this machine starts anew")
    assert "this machine has left home" not in said
    assert run.there == ""
    assert state.find("home") is None


@pytest.mark.parametrize("tool", ["wg", "ip", "wireguard-go"])
def test_that_it_cuts_off_is_said_with_what_opens_it(
    tool: str, run: Lacking, capsys: pytest.CaptureFixture[str]
) -> None:
    run.lacks(tool)
    shown = status("home", run, 0, reachable=lambda _: False)
    lines = render_status([shown], "table")
    opens = "nmk set -n home kill-switch=off"
    assert f"cut off     the kill switch lets nothing out but to the LAN\n  try: {opens}\n" in lines
    missing = f"the program '{tool}' is not installed"
    assert (missing in [p["message"] for p in shown["problems"]]) == (tool != "wireguard-go")
    cut_off = "the interface is not up, and so the kill switch lets nothing out but to the LAN"
    found = {f.reason: f.mend for f in examine(["home"], run, lambda: 0) if f.network}
    assert found.get(cut_off) == opens
    tell_cut_off_of("home", quiet=False)
    assert capsys.readouterr().err == f"home: {cut_off}\n  try: {opens}\n"


def test_a_tunnel_that_wg_is_missing_for_cuts_nothing_off(
    run: Lacking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmk.system.wireguard.exists", lambda name: name == "nmk-none")
    monkeypatch.setattr("nmk.agent.exits.leaves_by", lambda *_: "nmk-none")
    run.lacks("wg")
    shown = status("home", run, 0, reachable=lambda _: False)
    assert (shown["state"], shown["cut_off"]) == ("unanswered", None)


def test_without_nft_it_may_stand_until_the_machine_starts_anew(
    run: Lacking, state_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Which is said as long as nobody can tell, whether it is wanted any more or not."""
    run.lacks("nft")
    problem = "nft is not installed: the kill switch that was laid may stand"
    off = "nmk set -n home kill-switch=off; then start the machine anew"
    shown = status("home", run, 0, reachable=lambda _: False)
    assert shown["cut_off"] == {"by": "kill switch", "next": off}
    assert shown["kill_switch"]["problem"] == problem
    with pytest.raises(NmkError):
        note("home", {"exit-node": "", "kill-switch": "off"}, run)
    get = "install nft in this machine's own way"
    anew = f"start the machine anew; or {get}, then: nmk checkin -n home"
    for _ in range(2):
        tell_cut_off_of("home", quiet=False)
        assert capsys.readouterr().err == f"home: {problem}\n  try: {anew}\n"
        shown = status("home", run, 0, reachable=lambda _: False)
        assert f"\nunseen      {problem}\n  try: {anew}\n" in render_status([shown], "table")
        found = {f.reason: f.mend for f in examine(["home"], run, lambda: 0) if f.network}
        assert found.get(problem) == anew
        with suppress(NmkError):
            check_in_network("home", run)
    (state_dir.parent / "run" / "home.ruleset").unlink()  # as a reboot does
    tell_cut_off_of("home", quiet=False)
    assert "stand" not in capsys.readouterr().err
