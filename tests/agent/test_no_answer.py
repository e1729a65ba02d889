"""Programs that do not answer, or are gone: what is removed all the same, and what is said."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from nmk import tools
from nmk.agent import interface, state
from nmk.agent.checks.machine import check_wireguard
from nmk.agent.checks.network import check_applied, check_interface
from nmk.agent.leave import leave
from nmk.agent.membership import Membership
from nmk.agent.status import live
from nmk.core.tunnel import Command
from nmk.errors import CommandFailed, CommandUnanswered, NmkError, ToolMissing
from nmk.system import runner, wireguard
from nmk.system.runner import Runner
from tests.agent.controllers import RealController
from tests.agent.memberships import joined, peer
from tests.lab.polling import patient

HANGS, KILLED = "exec /bin/sleep 600", "kill -9 $$"
SAID = {
    HANGS: "'wg show lo dump' did not answer in 0.2 s",
    KILLED: "'wg show lo dump' was killed by signal 9",
    "exit 127": "'wg show lo dump' ended with 127: it does not say why",
}
pytestmark = pytest.mark.usefixtures("state_dir")
IP = """case "$*" in
"-json address show dev lo") echo '[{"ifname": "lo", "mtu": 1420, "flags": ["UP"],
  "addr_info": [{"local": "%s", "prefixlen": 24}]}]' ;;
*) echo '[]' ;;
esac"""
OURS, OTHERS = "10.77.0.1", "192.168.9.1"


class Machine(Runner):
    """Looks with the programs that a test has made, and changes nothing."""

    def __init__(self, directory: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.directory = directory
        self.again = 0.2  # seconds for one that hung the last time
        self._patch = patch
        self.changed: list[str] = []

    def change(self, command: Command) -> None:
        self.changed.append(str(command))

    def has(self, name: str, script: str) -> None:
        """It has that program. Only a `wg` that hangs is given up, however busy we are."""
        if name == "wg":
            first, again = (0.2, self.again) if script == HANGS else (patient(8), patient(1))
            self._patch.setitem(runner._LIMITS, name, first)
            self._patch.setattr(runner, "_AGAIN", again)
        path = self.directory / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with an interface of the network `home` that is called `lo`, as that is there."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setattr(tools, "_SYSTEM_PATH", "/nowhere")
    monkeypatch.setenv("PATH", str(programs))
    return Machine(programs, monkeypatch)


def member(**fields: object) -> Membership:
    me = replace(joined(peer(2)), interface="lo", phase="deleted", **fields)  # type: ignore[arg-type]
    state.save(me)
    return me


@pytest.mark.parametrize("wg", SAID)
def test_an_interface_of_ours_goes_without_an_answer(wg: str, machine: Machine) -> None:
    machine.has("wg", wg)
    machine.has("ip", IP % OURS)
    member()
    said: list[str] = []
    leave("home", machine, said.append)
    assert "ip link delete dev lo" in machine.changed
    assert said == ["this machine has left home"]


def test_one_of_ours_goes_without_the_program(machine: Machine) -> None:
    machine.has("ip", IP % OURS)
    interface.remove(member(), machine)
    assert "ip link delete dev lo" in machine.changed


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("wg", SAID)
def test_one_that_may_be_ours_keeps_the_state(wg: str, machine: Machine, *, force: bool) -> None:
    machine.has("wg", wg)
    machine.has("ip", IP % OTHERS)
    me = member()
    with pytest.raises(CommandFailed) as raised:
        leave("home", machine, lambda _: None, force=force)
    assert raised.value.message == SAID[wg]
    assert machine.changed == []
    assert state.load("home").private_key == me.private_key


@pytest.mark.parametrize("wg", SAID)
def test_the_cause_is_named_and_no_other_program(wg: str, machine: Machine) -> None:
    machine.has("wg", wg)
    machine.has("ip", IP % OURS)
    me = replace(member(), phase="joined")
    assert live(me, machine) == ("unanswered", None)
    [found] = check_interface(me, Runner(), {})
    assert (found.level, found.reason) == ("broken", f"lo: {SAID[wg]}")


def test_a_program_that_hangs_is_not_waited_for_as_long_again(machine: Machine) -> None:
    machine.again = 0.1
    machine.has("wg", HANGS)
    with pytest.raises(NmkError, match=r"in 0\.2 s"):
        machine.read(["wg"])
    with pytest.raises(NmkError, match=r"in 0\.1 s"):
        machine.read(["wg"])
    machine.has("wg", "exit 0")
    machine.read(["wg"])
    machine.has("wg", HANGS)
    with pytest.raises(NmkError, match=r"in 0\.2 s"):
        machine.read(["wg"])


@pytest.mark.parametrize("program", ["nft", "ip", "sysctl", "iptables"])
def test_no_command_of_a_check_in_keeps_the_lock_for_a_minute(
    program: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bound for all; a tenth of a second passes here for each of its seconds."""
    real = runner._run
    monkeypatch.setattr(runner, "_run", lambda a, i, limit: real(a, i, limit / 10))
    machine.has(program, HANGS)
    for seconds in ("0.8", "0.1"):
        with pytest.raises(CommandUnanswered, match=rf"did not answer in {seconds} s"):
            machine.read([program])


@pytest.mark.parametrize("device", ["gone", "no device"])
def test_a_machine_without_tun_is_named(
    device: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has("wireguard-go", "echo wireguard-go v0.0.1")
    monkeypatch.setattr(wireguard, "kernel_has_wireguard", lambda: False)
    [found] = check_wireguard(machine)
    assert found.level == "ok"
    path = tmp_path / "tun"
    if device == "no device":
        os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(10, 201))
    monkeypatch.setattr(wireguard, "_TUN", path)
    [found] = check_wireguard(machine)
    assert (found.level, "/dev/net/tun: No such" in found.reason) == ("broken", True)
    me = replace(member(), interface="nmk-none", phase="joined")
    assert [one.level for one in check_applied(me, machine)] == ["warn"]


@pytest.mark.parametrize("force", [False, True])
def test_a_packet_filter_that_stays_for_lack_of_nft_is_said(
    machine: Machine, *, force: bool
) -> None:
    machine.has("wg", "exit 0")
    machine.has("ip", IP % OURS)
    me = replace(member(laid=frozenset({"filter"})), interface="nmk-gone")
    state.save(me)
    with pytest.raises(ToolMissing) as raised:
        leave("home", machine, lambda _: None, force=force)
    assert "'table inet nmk-home' stays" in raised.value.message
    assert "nft delete table inet nmk-home" in raised.value.hint
    assert state.file_of("home").exists() is not force


def test_a_leave_that_does_not_come_to_its_end_says_what_the_controller_has(
    machine: Machine, controller: RealController
) -> None:
    machine.has("wg", "exit 0")
    machine.has("ip", IP % OURS)
    there = {"urls": (controller.url,), "controller_key": controller.token().controller_key}
    me = replace(member(laid=frozenset({"filter"})), interface="nmk-gone", phase="joined", **there)  # type: ignore[arg-type]
    state.save(me)
    with pytest.raises(ToolMissing) as raised:
        leave("home", machine, lambda _: None)
    assert raised.value.message.endswith("; home has no such node any more on the controller")
