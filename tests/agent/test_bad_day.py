"""A bad settings file at a reboot, a /run that is full: what holds all the same."""

from __future__ import annotations

import errno
import json
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from math import inf
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from nmk.agent import history, interface, mend, state, surroundings
from nmk.agent.attempts import Attempts
from nmk.agent.checks import gateway
from nmk.agent.exits import KillSwitch
from nmk.agent.lock import PERSON_SECONDS
from nmk.agent.membership import Membership, Wishes
from nmk.agent.mend import UNDONE, mend_network, shut_network, shut_networks
from nmk.agent.places import make_runtime_directory
from nmk.agent.settings import route_wishes, take_note, variable_of
from nmk.agent.status import way_out
from nmk.agent.tick import check_in_network, put_right, watch_gateways
from nmk.agent.updown import down, up
from nmk.cli import machine
from nmk.core.gateways import Egress, Gateway
from nmk.core.parse import EVERYTHING
from nmk.core.route_table import NO_TABLE, RouteTable, compile_table, rules_of
from nmk.core.routes import Routing
from nmk.core.settings import NETWORK_SETTINGS, WISHES
from nmk.core.surroundings import NOTHING, VALID_MARK, Surroundings
from nmk.core.tunnel import Command
from nmk.errors import BadInput, CommandFailed, NmkError, StateUnwritable
from nmk.system import facts
from nmk.system.keys import public_key
from nmk.system.runner import Runner
from tests.agent.memberships import joined, peer
from tests.hostile.door import Asked, Door

RULESET = "table inet nmk-home { }"


class Noting(Runner):
    """A machine that has nothing of nmk's but the packet filter that it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = ""
        self.renewed = 0

    def read(self, argv: Sequence[str]) -> str:
        if argv[:4] == ["nft", "--stateless", "list", "table"] and self.filter:
            return self.filter
        raise CommandFailed(f"{argv[0]} says nothing")

    def change(self, command: Command) -> None:
        if command.argv[0] != "nft":
            raise CommandFailed(f"{command.argv[0]} does nothing")
        self.filter = (command.stdin or "").split("delete table inet nmk-home\n", 1)[1]
        self.renewed += 1


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nmk.agent.surroundings.has_tool", lambda _: True)
    monkeypatch.setattr("nmk.system.filter.has_tool", lambda _: True)
    monkeypatch.setattr("nmk.system.sysctl.write", lambda *_: None)


def guarded(as_read: dict[str, dict[str, int | str]] | None) -> Membership:
    """A machine with a kill switch that `nmk set` has noted."""
    me = replace(joined(peer(2)), interface="nmk-none")
    wishes = Wishes(settings={"exit-node": "peer-2", "kill-switch": "on"})
    return replace(me, wishes=wishes, urls=("http://127.0.0.1:9",), as_read=as_read)


def spoil(state_dir: Path) -> Path:
    config = state_dir.parent / "config"
    config.mkdir()
    (config / "agent.toml").write_text("mtu = 14000\n")
    return config / "agent.toml"


@pytest.mark.parametrize("as_read", [None, {}], ids=["of 0.2.0", "noted"])
@pytest.mark.parametrize("action", [put_right, check_in_network], ids=lambda a: a.__name__)
def test_a_kill_switch_is_laid_after_a_reboot_whatever_a_settings_file_says(
    state_dir: Path,
    action: Callable[[str, Runner], object],
    as_read: dict[str, dict[str, int | str]] | None,
) -> None:
    spoil(state_dir)
    state.save(guarded(as_read=as_read))
    run = Noting()
    with pytest.raises(NmkError) as raised:  # no interface can be made here
        action("home", run)
    assert "agent.toml" not in raised.value.message
    assert run.filter.rstrip().endswith("drop\n\t}\n}")


@pytest.mark.parametrize("as_read", [None, {}], ids=["of 0.2.0", "noted"])
@pytest.mark.parametrize("name", [*NETWORK_SETTINGS, *WISHES])
@pytest.mark.parametrize("action", [shut_network, put_right, check_in_network])
@pytest.mark.usefixtures("state_dir")
def test_a_kill_switch_is_laid_after_a_reboot_whatever_a_variable_says(
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[str, Runner], object],
    name: str,
    as_read: dict[str, dict[str, int | str]] | None,
) -> None:
    monkeypatch.setenv(variable_of(name), "no such value")
    state.save(guarded(as_read=as_read))
    run = Noting()
    with suppress(NmkError):  # no interface can be made here
        action("home", run)
    assert run.filter.rstrip().endswith("drop\n\t}\n}")


@pytest.mark.parametrize("variable", ["NMK_SPLAY", "NMK_NETWORK", "NMK_MTU"])
@pytest.mark.usefixtures("state_dir")
def test_a_check_in_lays_kill_switches_whatever_its_variables_say(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    run = Noting()
    monkeypatch.setattr(machine, "check_root", lambda _: None)
    monkeypatch.setattr(machine, "runner", lambda *_: run)
    state.save(guarded(as_read={}))
    CliRunner().invoke(machine.checkin, ["--quiet"], env={variable: "no such value"})
    assert run.filter.rstrip().endswith("drop\n\t}\n}")


def of_alpha() -> Membership:
    """The machine's other network, as 0.2.0 left it: that gives the machine a role."""
    me = replace(joined(peer(2)), network="alpha", interface="nmk-alpha", order=1, as_read=None)
    assert me.known
    view = replace(me.known.view, gateway=Gateway(egress=Egress(("172.20.5.0/24",))))
    return replace(me, known=replace(me.known, view=view), urls=("http://127.0.0.1:9",))


@pytest.mark.parametrize("as_read", [None, {}], ids=["of 0.2.0", "noted"])
@pytest.mark.parametrize("action", [shut_network, put_right, check_in_network])
@pytest.mark.parametrize("idle", [{}, {"down": True}], ids=["up", "down"])
def test_a_kill_switch_is_laid_whatever_another_networks_settings_say(
    state_dir: Path,
    action: Callable[[str, Runner], object],
    as_read: dict[str, dict[str, int | str]] | None,
    idle: dict[str, Any],
) -> None:
    spoil(state_dir)
    state.save(of_alpha())
    state.save(replace(guarded(as_read=as_read), **idle))
    run = Noting()
    with suppress(NmkError):  # no interface can be made here
        action("home", run)
    assert run.filter.rstrip().endswith("drop\n\t}\n}")
    assert "nmk-alpha" in run.filter  # which is closed to this network


@pytest.mark.parametrize("options", [(), ("-n", "alpha")], ids=["all", "another"])
@pytest.mark.parametrize("is_dry", [False, True], ids=["run", "dry"])
def test_a_check_in_lays_the_kill_switch_of_every_network_before_it_waits(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], is_dry: bool
) -> None:
    """For its turn by `--splay`, and for the controller of another network."""

    class Home(Noting):
        dry = is_dry

        def change(self, command: Command) -> None:
            if "nmk-home" not in (command.stdin or ""):
                raise CommandFailed("nothing else can be done here")
            super().change(command)

    run, seen = Home(), list[tuple[str, str]]()

    def answer(_: Asked) -> bytes:
        seen.append(("asked", run.filter))
        return b"no HTTP"

    def wait(_: float) -> None:
        seen.append(("waits", run.filter))

    monkeypatch.setattr(machine, "check_root", lambda _: None)
    monkeypatch.setattr(machine, "runner", lambda *_: run)
    monkeypatch.setattr(machine, "time", SimpleNamespace(sleep=wait))
    (state_dir / "aaa.json").write_text("damaged")
    with Door(answer) as door:
        state.save(replace(of_alpha(), urls=(door.url,)))
        state.save(guarded(as_read={}))
        dry = ("--dry-run",) if is_dry else ()
        CliRunner().invoke(machine.checkin, ["--quiet", "--splay", "1", *options, *dry])
    assert {when for when, _ in seen} == {"asked"} if is_dry else {"asked", "waits"}
    assert all(bool(there) != is_dry for _, there in seen)


def test_kill_switches_wait_for_another_run_together(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not each for its own ten seconds, where that run never ends."""
    waits = []

    def wait(_: str, __: Runner, seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            monkeypatch.setattr(mend, "time", SimpleNamespace(monotonic=lambda: inf))

    assert state_dir.is_dir()
    monkeypatch.setattr(mend, "shut_network", wait)
    for network in ("a", "b"):
        state.save(replace(guarded(as_read={}), network=network))
    mend.shut_networks(Noting())
    assert 0 < waits[0] <= PERSON_SECONDS
    assert waits[1:] == [0]


@pytest.mark.usefixtures("state_dir")
def test_a_kill_switch_that_is_there_costs_a_check_in_one_look() -> None:
    class Idle(Noting):
        asked = 0

        def read(self, argv: Sequence[str]) -> str:
            self.asked += 1
            return super().read(argv)

        def change(self, command: Command) -> None:
            raise AssertionError(command)

    first, then = Noting(), Idle()
    state.save(guarded(as_read={}))
    shut_networks(first)
    then.filter = first.filter
    shut_networks(then)
    assert then.asked == 1


@pytest.mark.parametrize("action", [lambda _, run: shut_networks(run), check_in_network])
@pytest.mark.usefixtures("state_dir")
def test_a_kill_switch_that_another_program_has_flushed_is_laid_first_whatever_was_noted(
    action: Callable[[str, Runner], object],
) -> None:
    """As after a restart that /run outlives: what was noted there is not what the kernel has."""

    class Shut(Noting):
        def read(self, argv: Sequence[str]) -> str:
            assert argv[0] == "nft" or self.filter, f"{argv} comes before the filter"
            return super().read(argv)

    state.save(guarded(as_read={}))
    shut_networks(Noting())
    run = Shut()
    with suppress(NmkError):  # no interface can be made here
        action("home", run)
    assert run.filter.rstrip().endswith("drop\n\t}\n}")


@pytest.mark.parametrize("trouble", ["port", "name", "wg", "nft", "down", "deleted", "state"])
@pytest.mark.parametrize("action", [shut_network, put_right, mend_network, check_in_network])
@pytest.mark.usefixtures("state_dir")
def test_a_kill_switch_comes_before_all_that_may_fail_or_hang(
    monkeypatch: pytest.MonkeyPatch,
    action: Callable[[str, Runner], object],
    trouble: str,
) -> None:
    """Its port held by another user, its name by another interface, a `wg` that does not answer."""

    class Shut(Noting):
        def read(self, argv: Sequence[str]) -> str:
            assert argv[0] == "nft" or self.filter, f"{argv} comes before the filter"
            if trouble == "wg" and argv[0] == "wg":
                raise CommandFailed("wg took more than 60 s")
            return super().read(argv)

        def change(self, command: Command) -> None:
            if trouble == "nft" and "guard-input" in (command.stdin or ""):
                raise CommandFailed("this kernel has not got all of that")
            super().change(command)

    me = guarded(as_read={})
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as squatter:
        squatter.bind(("::", 0))
        wishes = replace(me.wishes, listen_port=squatter.getsockname()[1])
        me = replace(me, wishes=wishes if trouble == "port" else me.wishes)
        me = replace(me, interface="lo" if trouble == "name" else "nmk-none")
        me = replace(me, down=trouble == "down")
        me = replace(me, phase="deleted" if trouble == "deleted" else "joined")
        state.save(me)
        run = Shut()
        if trouble == "state":
            monkeypatch.setattr("nmk.agent.state.write_private", full_disk)
        with suppress(NmkError):
            action("home", run)
    assert run.filter.rstrip().endswith("drop\n\t}\n}")


@pytest.mark.usefixtures("state_dir")
def test_a_lan_that_changes_is_no_quarrel_with_another_program(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Anybody in a LAN can give this machine another address, by a router advertisement."""
    lan, run = [("eth0", "192.168.1.5/24")], Noting()
    monkeypatch.setattr("nmk.system.facts.all_addresses", lambda: [*lan])
    monkeypatch.setattr("nmk.system.facts.is_outward", lambda _: True)
    monkeypatch.setattr("nmk.agent.mend._last", {})
    state.save(replace(guarded(as_read={}), down=True))
    put_right("home", run)
    assert not mend_network("home", run)
    for number in (7, 9, 11):
        lan.append(("eth0", f"192.168.{number}.5/24"))
        assert not mend_network("home", run)
        assert f"192.168.{number}.0/24" in run.filter
    assert [entry.cause for entry in history.read("home")] == ["change"]
    run.filter = ""
    assert mend_network("home", run)
    assert history.read("home")[-1].changes[0] == UNDONE


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_gateways_are_watched_whatever_a_settings_file_says(state_dir: Path) -> None:
    spoil(state_dir)
    state.save(guarded(as_read=None))
    watch_gateways("home", Noting())


@pytest.mark.parametrize("command", [down, up])
def test_a_wish_that_is_refused_is_not_noted(
    state_dir: Path, command: Callable[[str, Runner], object]
) -> None:
    file = spoil(state_dir)
    before = replace(joined(peer(2)), down=command is up)
    state.save(before)
    with pytest.raises(BadInput, match=str(file)):
        command("home", Noting())
    assert state.load("home") == before


def test_a_run_that_is_full_is_told_of_and_is_no_quarrel(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me, run = joined(peer(2)), Noting()
    want = Surroundings(ruleset=RULESET)

    def tick(me: Membership) -> tuple[Membership, list[str]]:
        tried = Attempts()
        me, work = surroundings.begin(me, surroundings.plan(me, want, run), run, tried)
        return surroundings.finish(me, work, run, tried), [e.message for e in tried.errors]

    said = f"{state_dir.parent}/run/home.ruleset cannot be written: No space left on device"
    with monkeypatch.context() as now:
        now.setattr("nmk.agent.surroundings.write_private", full_disk)
        for _ in range(3):
            me, errors = tick(me)
            assert errors == [said]
            assert surroundings.is_settled(me)
        assert run.renewed == 1
        run.filter += "# changed by another"
        tick(me)
        assert run.renewed == 2
    assert tick(me)[1] == []
    surroundings._unwritten.clear()
    assert (tick(me)[1], run.renewed) == ([], 2)


@pytest.mark.usefixtures("state_dir")
def test_a_note_that_could_not_be_written_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []
    run, tried = Noting(), Attempts()
    monkeypatch.setattr(run, "warn", heard.append)
    monkeypatch.setattr("nmk.agent.surroundings.write_private", full_disk)
    me, want = joined(peer(2)), Surroundings(ruleset=RULESET)
    surroundings.begin(me, surroundings.plan(me, want, run), run, tried)
    assert [line.rpartition(": ")[2] for line in heard] == ["No space left on device"]
    tried.complain()
    interface.complain(replace(me, problems=tried.problems))
    assert [problem.code for problem in tried.problems] == ["note-unwritable"]
    assert tried.problems[0].hint.startswith("make room: df -hi ")


def test_a_file_in_the_place_of_the_notes_is_no_want_of_room(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does another check-in mend it."""
    place = state_dir.parent / "run"
    place.touch()
    run, tried = Noting(), Attempts()
    monkeypatch.setattr(run, "warn", lambda _: None)
    me, want = joined(peer(2)), Surroundings(ruleset=RULESET)
    surroundings.begin(me, surroundings.plan(me, want, run), run, tried)
    assert [problem.hint for problem in tried.problems] == [f"move it away: mv {place} /root/"]
    surroundings._unwritten.clear()
    monkeypatch.setattr(gateway, "desired_when_down", lambda _: want)
    me = replace(me, problems=tried.problems, down=True, laid=frozenset({"filter"}))
    found = gateway.check_surroundings(me, run, {})
    assert [f.mend for f in found if "renew" in f.reason] == [f"move it away: mv {place} /root/"]


@pytest.mark.parametrize("umask", [0o000, 0o277, 0o777])
def test_no_umask_closes_what_is_ours_to_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: int
) -> None:
    monkeypatch.setenv("NMK_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(tmp_path / "made"))
    monkeypatch.setattr(facts, "is_volatile", lambda _: True)
    before = os.umask(umask)
    try:
        state.make_directory()
        make_runtime_directory()
        facts.machine_instance(tmp_path / "run")
    finally:
        os.umask(before)
    names = ("state", "made", "run", "run/instance")
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in names]
    assert modes == [0o711, 0o700, 0o700, 0o600]
    (tmp_path / "run/instance").chmod(0)
    (tmp_path / "run").chmod(0o500)
    facts.machine_instance(tmp_path / "run")
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in names[2:]]
    assert modes == [0o700, 0o600]


@pytest.mark.parametrize("content", [(), ("kept",)])
def test_a_directory_in_a_states_place(state_dir: Path, content: tuple[str, ...]) -> None:
    place = state_dir / "home.json"
    place.mkdir()
    for name in content:
        (place / name).touch()
    if content:
        with pytest.raises(StateUnwritable) as raised:
            state.remove("home")
        assert raised.value.hint == f"move it away: mv {place} /root/"
        assert [path.name for path in place.iterdir()] == ["kept"]
    else:
        state.remove("home")
        assert not place.exists()


class Emptied(Runner):
    """A machine whose routing table goes with the interface, as the kernel has it."""

    def __init__(self) -> None:
        super().__init__()
        self.table = [{"dst": "default", "dev": "nmk-home"}]
        self.lines: list[str] = []

    def read(self, argv: Sequence[str]) -> str:
        if "route" in argv and "-4" in argv:
            return json.dumps(self.table)
        return "[]"

    def change(self, command: Command) -> None:
        self.lines += (command.stdin or "").splitlines()


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize("is_gone", [False, True])
def test_a_route_that_went_with_its_interface_is_not_deleted(is_gone: bool) -> None:
    """The kernel would answer "No such process", and the check-in fail."""
    me, run, tried = replace(joined(peer(2)), laid=frozenset({"routes"})), Emptied(), Attempts()
    work = surroundings.plan(me, NOTHING, run)
    assert work.table == NO_TABLE
    if is_gone:
        run.table = []
    surroundings.lay(me, work, run, tried)
    assert any(line.startswith("route del") for line in run.lines) != is_gone


@pytest.mark.usefixtures("state_dir")
def test_a_route_that_another_program_put_in_our_table_is_not_ours() -> None:
    """What we want is put right; what we do not want stays, and nothing fails for it."""
    me, run, tried = replace(joined(peer(2)), laid=frozenset({"routes"})), Emptied(), Attempts()
    run.table = [{"dst": "default", "dev": "eth0"}, {"dst": "198.18.7.0/24", "dev": "eth0"}]
    want = Surroundings(table=RouteTable(frozenset({"0.0.0.0/0"})))
    for wish, lines in (
        (want, ["route replace 0.0.0.0/0 dev nmk-home table 7236972 scope global"]),
        (NOTHING, []),
    ):
        run.lines = []
        surroundings.lay(me, surroundings.plan(me, wish, run), run, tried)
        assert run.lines == lines
    assert not tried.errors


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kernel settings of a machine with a strict filter that is not told of the mark."""
    for name, value in (("all/src_valid_mark", 0), ("all/rp_filter", 0), ("eth0/rp_filter", 1)):
        path = tmp_path / "sys/net/ipv4/conf" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    monkeypatch.setattr("nmk.system.sysctl._ROOT", tmp_path / "sys")
    return tmp_path / "sys/net/ipv4/conf"


def read_only(*_: object) -> None:
    raise CommandFailed("Read-only file system")


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize("looks_writable", [False, True])
@pytest.mark.parametrize("everywhere", ["0", "1", "2"])
@pytest.mark.parametrize("uplink", ["0", "1", "2"])
def test_an_exit_node_that_would_cut_the_machine_off_is_left_out(
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    uplink: str,
    everywhere: str,
    looks_writable: bool,
) -> None:
    """A strict reverse path filter, and a mark that it cannot be told of, as in a container."""
    (settings / "all/rp_filter").write_text(everywhere)
    (settings / "eth0/rp_filter").write_text(uplink)
    monkeypatch.setattr("nmk.system.sysctl.write", read_only)
    monkeypatch.setattr("os.access", lambda *_: looks_writable)
    me, run, tried = joined(peer(2)), Emptied(), Attempts()
    led = Routing({}, ("192.168.7.0/24", *EVERYTHING), exit="peer-2")
    table = compile_table(me.order, me.known.view, led) if me.known else NO_TABLE
    want = Surroundings(table=table, sysctls={VALID_MARK: "1"})
    run.table = []
    me, work = surroundings.begin(me, surroundings.plan(me, want, run), run, tried)
    surroundings.finish(me, work, run, tried)
    is_out = max(uplink, everywhere) == "1"
    assert "route replace 192.168.7.0/24 dev nmk-home table 7236972 scope global" in run.lines
    assert (
        "route replace 0.0.0.0/0 dev nmk-home table 7236972 scope global" in run.lines
    ) != is_out
    rules = rules_of(me.order)
    last = {f"rule add {rule}" for _, rule in {(4, rules.everything), *rules.closed}}
    assert last.isdisjoint(run.lines) == is_out
    said = [error for error in tried.errors if "rp_filter is strict" in error.message]
    assert [error.hint for error in said if "eth0/rp_filter=2" in error.hint] == [
        error.hint for error in said
    ]
    assert (len(said), len(tried.errors)) == (is_out, is_out + looks_writable)


@pytest.mark.usefixtures("state_dir")
def test_an_exit_node_that_has_cut_the_machine_off_is_taken_out(
    settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    me, run, tried = replace(joined(peer(2)), laid=frozenset({"routes"})), Emptied(), Attempts()
    want = Surroundings(table=RouteTable(frozenset(EVERYTHING)), sysctls={VALID_MARK: "1"})
    surroundings.lay(me, surroundings.plan(me, want, run), run, tried)
    assert run.lines == ["route del 0.0.0.0/0 dev nmk-home table 7236972"]
    (settings / "all/src_valid_mark").write_text("1\n")
    run.lines = []
    surroundings.lay(me, surroundings.plan(me, want, run), run, tried)
    assert "route replace ::/0 dev nmk-home table 7236972 scope global" in run.lines


IDLE: dict[str, dict[str, Any]] = {"down": {"down": True}, "deleted": {"phase": "deleted"}}


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize("idle", IDLE)
@pytest.mark.parametrize(
    "action", [put_right, check_in_network, mend_network], ids=lambda a: a.__name__
)
def test_a_kill_switch_is_laid_while_the_interface_is_down(
    action: Callable[[str, Runner], object], idle: str
) -> None:
    """After a reboot, and when another program has removed it; before a controller is asked."""
    run, seen = Noting(), list[str]()

    def answer(_: Asked) -> bytes:
        seen.append(run.filter)
        return b"no HTTP"

    with Door(answer) as door:
        state.save(replace(guarded(as_read={}), urls=(door.url,), **IDLE[idle]))
        for renewed in (1, 2):  # the second time, all but the filter is as it was
            with suppress(NmkError):  # no controller is there, the node deleted
                action("home", run)
            assert run.filter.rstrip().endswith("drop\n\t}\n}")
            assert run.renewed == renewed
            run.filter = ""
    assert all(seen)
    assert bool(seen) == (action is check_in_network and idle == "down")


@pytest.mark.usefixtures("state_dir")
def test_a_check_in_lays_what_is_missing_beside_an_interface_before_it_asks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another program has removed the filter; the controller takes its time."""
    me = replace(guarded(as_read={}), laid=frozenset({"filter"}))
    seen = list[str]()

    class Up(Noting):
        def read(self, argv: Sequence[str]) -> str:
            if argv[0] == "wg":
                return f"{me.private_key}\t{public_key(me.private_key)}\t51821\toff\n"
            if argv[:3] == ["ip", "-json", "address"]:
                return '[{"ifname": "nmk-none", "flags": [], "mtu": 1420, "addr_info": []}]'
            return super().read(argv)

    def answer(_: Asked) -> bytes:
        seen.append(run.filter)
        return b"no HTTP"

    run = Up()
    monkeypatch.setattr("nmk.system.wireguard.exists", lambda _: True)
    with Door(answer) as door:
        state.save(replace(me, urls=(door.url,)))
        with suppress(NmkError):
            check_in_network("home", run)
    assert seen
    assert all(seen)


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize("idle", IDLE)
@pytest.mark.parametrize("there", ["laid", "emptied", "gone"])
def test_a_kill_switch_is_told_of_as_it_is(idle: str, there: str) -> None:
    me, run = replace(guarded(as_read={}), **IDLE[idle]), Noting()
    state.save(me)
    with suppress(NmkError):
        put_right("home", run)
    if there == "gone":
        run.filter = ""
    if there == "emptied":
        run.filter = run.filter.replace("\n\t\tdrop\n", "\n")
    out = way_out(me, run)
    assert bool(out.cut_off) == (there == "laid")
    said = "the kill switch is not laid: everything leaves openly"
    missing = KillSwitch(False, said, "nmk checkin -n home")
    assert out.kill_switch == (KillSwitch() if there == "laid" else missing)


def test_an_emptied_settings_file_opens_no_kill_switch(state_dir: Path) -> None:
    """A power cut leaves files of 0 bytes; one that only has a comment, or is gone, is a wish."""
    me, file = replace(joined(peer(2)), interface="nmk-none"), spoil(state_dir)
    file.write_text('exit-node = "peer-2"\nkill-switch = "on"\n')
    me, _ = take_note(me)
    file.write_text("")
    me, [problem] = take_note(me)
    assert problem.message == f"{file} is empty, and was not; what it held before goes on"
    assert problem.hint == f"write its settings anew; to have none: rm {file}"
    assert route_wishes(me).kill_switch
    file.write_text("# none\n")
    assert take_note(me)[1] == ()
    assert not route_wishes(me).kill_switch
    file.unlink()
    assert not route_wishes(me).kill_switch
