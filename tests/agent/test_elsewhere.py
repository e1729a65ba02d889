"""A state directory that one shell knows of and the next does not: its network is no leftover."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from click.testing import CliRunner

from nmk import processes
from nmk.agent import elsewhere, own_link, state, uninstall
from nmk.agent.checks.machine import check_state
from nmk.agent.doctor import check_leftovers
from nmk.agent.join import _make_state, join
from nmk.agent.leave import leave_lost
from nmk.agent.membership import Wishes
from nmk.agent.own_place import next_order
from nmk.agent.places import CHOICES, NOTES, forget_runtime, runtime_directories, runtime_directory
from nmk.agent.salvage import leftovers
from nmk.cli import machine, machine_seeing, main, wishes
from nmk.core import units
from nmk.core.route_table import table_of
from nmk.core.tunnel import Command
from nmk.errors import AlreadyJoined, CommandFailed, NotJoined
from nmk.system import starters
from nmk.system.runner import Runner
from nmk.wire.token import Token
from tests.agent.memberships import joined
from tests.cli.inprocess import nmk

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
    monkeypatch.delenv("NMK_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("NMK_CONFIG_DIR", raising=False)


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


def test_a_network_that_is_new_has_a_place_of_its_own_on_the_machine(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside those in other directories too, and where only rules tell of another."""
    save_there(theirs, monkeypatch, 5)
    note(theirs, monkeypatch)

    class Ruled(Guarded):
        def read(self, argv: Sequence[str]) -> str:
            if argv[:2] == ["ip", "-json"] and "rule" in argv:
                rule = {"priority": 20_013, "src": "all", "not": None, "fwmark": "0x6e6d6b"}
                return json.dumps([rule | {"table": str(table_of(6)), "suppress_prefixlen": 0}])
            return super().read(argv)

    assert next_order("work", Guarded()) == 6
    assert next_order("work", Ruled()) == 7


def test_a_machine_has_the_states_of_all_its_networks_in_one_directory(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(theirs, monkeypatch)
    with pytest.raises(AlreadyJoined) as raised:
        elsewhere.check_one_directory()
    assert raised.value.message == (
        f"home has its state in {theirs}, and a machine has those of all its networks in one "
        "directory"
    )
    assert raised.value.hint == f"NMK_STATE_DIR={theirs} nmk join -"


def save_there(theirs: Path, monkeypatch: pytest.MonkeyPatch, order: int) -> None:
    with monkeypatch.context() as there:
        there.setenv("NMK_STATE_DIR", str(theirs))
        state.save(replace(joined(), order=order))


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
        monkeypatch.setattr(elsewhere, "agent_environments", lambda: iter([("17", environment)]))
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


COMMANDS = ("checkin", "down", "leave", "ping web", "set mtu=1400", "show", "showconf", "up")
LOOKS = ("doctor", "log", "status")


@pytest.mark.parametrize(
    ("command", "named"),
    [*product(COMMANDS, ("", " -n home")), *product(LOOKS, (" -n home",))],
)
def test_no_command_would_have_a_machine_join_whose_state_is_elsewhere_or_lost(
    state_dir: Path, theirs: Path, monkeypatch: pytest.MonkeyPatch, command: str, named: str
) -> None:
    """By a variable that this shell lacks, in another program's place, or with its directory."""
    for module in (machine_seeing, machine, wishes):
        monkeypatch.setattr(module, "runner", lambda *_, **__: Guarded(), raising=False)
    monkeypatch.setattr("nmk.agent.ping.Runner", Guarded)
    monkeypatch.setattr("nmk.system.facts.os.geteuid", lambda: 0)
    assert theirs == state_dir
    found = nmk(*f"{command}{named}".split()).err  # nobody knows of the other place
    assert found.endswith(f"  try: {FORCE}\n"), found
    with monkeypatch.context() as replaced:
        replaced.setenv("NMK_STATE_DIR", str(state_dir))
        replaced.setattr(state, "is_others", lambda _: True)  # of another program
        assert nmk(*f"{command}{named}".split()).err.endswith(f"  try: {FORCE}\n")
    note(theirs, monkeypatch)
    found = nmk(*f"{command}{named}".split()).err
    assert f"but in home in {theirs}\n" in found
    assert found.endswith(f"  try: NMK_STATE_DIR={theirs} nmk status\n"), found


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


def test_a_state_that_is_in_use_is_not_elsewhere_and_is_missed_where_it_is_gone(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(theirs, monkeypatch)
    monkeypatch.setenv("NMK_STATE_DIR", str(theirs))
    assert elsewhere.elsewhere() == []
    (theirs / "home.json").write_text("damaged")
    assert elsewhere.elsewhere() == []
    (theirs / "home.json").unlink()
    (theirs / "more").touch()
    assert f"{theirs}/home.json is not there" in refused(theirs)
    elsewhere.check_not_elsewhere("home")  # it is a place to join in
    (theirs / "more").unlink()
    shutil.rmtree(theirs)
    assert f"{theirs} is not there" in leftovers(Guarded()).told[0]
    with pytest.raises(NotJoined):
        leave_lost("home", Guarded(), print)
    elsewhere.check_not_elsewhere("home")


def test_other_places_come_along_and_are_quoted(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spaced = tmp_path / "a volume"
    theirs.rename(spaced)
    with monkeypatch.context() as there:
        there.setenv("NMK_STATE_DIR", str(spaced))
        there.setenv("NMK_CONFIG_DIR", str(tmp_path))
        elsewhere.note("home")
    [found] = elsewhere.elsewhere()
    assert found.by("nmk up") == f"NMK_STATE_DIR='{spaced}' NMK_CONFIG_DIR={tmp_path} nmk up"


@pytest.mark.parametrize("way", ["note", *WAYS])
@pytest.mark.parametrize("name", ["it's", 'a "b"', "a;b", "plain"])
def test_a_network_is_found_whatever_its_directory_is_called_and_wherever_it_runs(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, way: str
) -> None:
    """The runtime directory is another one, too, which no other shell knows of."""
    odd, run = tmp_path / name, tmp_path / "r2"
    theirs.rename(odd)
    if way == "note":
        with monkeypatch.context() as there:
            there.setenv("NMK_STATE_DIR", str(odd))
            there.setenv("NMK_RUNTIME_DIR", str(run))
            elsewhere.note("home")
            elsewhere.note("home")
    else:
        word = units._unit_word(str(odd))[1:-1] if way == "unit" else units._cron_word(str(odd))
        table = tmp_path / "crontab"
        table.write_text(WAYS[way].format(word))
        monkeypatch.setattr(starters, "_CRONTABS", (str(table),))
    [found] = elsewhere.elsewhere()
    assert (found.network, found.directory) == ("home", odd)
    assert leftovers(Guarded()).cure != FORCE
    with pytest.raises(NotJoined):
        leave_lost("home", Guarded(), print)
    if way == "note":
        monkeypatch.setenv("NMK_STATE_DIR", str(odd))
        monkeypatch.setenv("NMK_RUNTIME_DIR", str(run))
        forget_runtime("home")
        assert not [*run.glob("*"), *runtime_directories()[1].glob("home.*")]


def test_a_note_goes_with_its_network(theirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note(theirs, monkeypatch)
    monkeypatch.setenv("NMK_STATE_DIR", str(theirs))
    state.remove("home")
    assert not list(runtime_directory().glob("home*"))


NOBODY = 65534
SOURCE = Path(elsewhere.__file__).parents[1]


def refused(theirs: Path) -> str:
    """What `nmk leave -n home --force` says that leaves all as it is, beside its hint."""
    assert leftovers(Guarded()).cure != FORCE
    with pytest.raises(NotJoined) as refused:
        leave_lost("home", Guarded(), print)
    with pytest.raises(AlreadyJoined) as refused_too:
        uninstall.uninstall(Guarded(), print)
    where = refused.value.message.removeprefix("the state of home is in ")
    assert where.startswith(str(theirs))
    assert refused_too.value.message == f"this machine is in home, whose state is in {where}"
    assert refused.value.hint == refused_too.value.hint
    return f"{refused.value.message}\n{refused.value.hint}"


@pytest.mark.parametrize(
    "whose", ["file", "link", "linked", "writable", "empty", "named", "relative"]
)
@pytest.mark.parametrize("is_noted", [False, True])
def test_a_state_that_others_than_root_could_have_laid_is_none(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str, is_noted: bool
) -> None:
    """Of a note its network stays, wherever its state is, and nothing there is called a state."""
    line, path = "NMK_STATE_DIR={}", theirs / "home.json"
    if is_noted:
        note(theirs, monkeypatch)
    if whose == "file":
        os.chown(path, NOBODY, NOBODY)
    elif whose == "link":
        path.replace(theirs / "home")
        path.symlink_to("home")
    elif whose == "linked":
        (tmp_path / "home.json").hardlink_to(path)
    elif whose == "writable":
        path.chmod(0o666)
    elif whose == "empty":
        path.write_text("{}")
    elif whose == "named":  # a file of root's that its user has given another name
        path.rename(theirs / "config.json")
    else:
        monkeypatch.chdir(theirs.parent)
        line = f"NMK_STATE_DIR={theirs.name}"
    by_crontab(theirs, monkeypatch, line)
    if not is_noted:
        assert elsewhere.elsewhere() == []
        assert leftovers(Guarded()).cure == FORCE
    elif whose != "relative":
        assert f"(so says {runtime_directory()}/home.state; but {path} is" in refused(theirs)


@pytest.mark.parametrize("way", ["note", "crontab"])
@pytest.mark.parametrize("whose", ["writable", "owner", "share", "owner of the share"])
def test_a_state_that_others_can_replace_is_said_with_what_mends_that(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str, way: str
) -> None:
    if way == "note":
        note(theirs, monkeypatch)
    else:
        by_crontab(theirs, monkeypatch, WAYS[way])
    place = tmp_path if "share" in whose else theirs
    if "owner" in whose:
        os.chown(place, NOBODY, NOBODY)
        reason = f"{place} does not belong to root"
        mend = f"where it has what you want root to use: chown root {place}"
    else:
        place.chmod(0o777)
        reason, mend = f"{place} can be written by others than root", f"chmod go-w {place}; then: "
    if place == tmp_path:  # which others use
        mend = f"NMK_STATE_DIR={theirs} nmk"
    if place == tmp_path and way == "note":
        monkeypatch.setattr(
            elsewhere, "find_replaceable", lambda _: None
        )  # of the notes, there too
    if place == tmp_path and way == "crontab":
        assert f"home in {theirs}" in leftovers(Guarded()).told[0]
    said = refused(theirs)
    assert reason in said
    assert f"\n{mend}" in said
    assert said.endswith(f"NMK_STATE_DIR={theirs} nmk leave -n home")
    [finding] = check_leftovers(Guarded())
    assert reason in finding.reason
    assert (finding.mend or "").startswith(mend)


@pytest.mark.parametrize("what", ["a tool's", "the usual place"])
def test_a_link_that_somebody_lays_in_a_share_leads_root_nowhere(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Its user moves the state away, and lays a link of his own there."""
    share, tool = tmp_path / "share", tmp_path / "tool"
    (share / "nmk").mkdir(parents=True)
    theirs = theirs.rename(share / "nmk/state")
    note(theirs, monkeypatch)
    tool.mkdir()
    (tool / "config.json").write_text("{}")
    (share / "nmk").rename(share / "gone")
    share.chmod(0o777)
    (share / "nmk").mkdir()
    os.chown(share / "nmk", NOBODY, NOBODY)
    if what == "the usual place":
        monkeypatch.setenv("NMK_STATE_DIR", str(tool))
    theirs.symlink_to(tool)
    line = f"* * * * * NMK_STATE_DIR={theirs} nmk checkin\n"
    by_crontab(tmp_path / "state", monkeypatch, line)
    said = refused(theirs)
    assert f"{theirs} is a symbolic link that others than root can have laid" in said
    assert f"ls -la {theirs.parent}" in said
    assert "config" not in " ".join(leftovers(Guarded()).told)
    if what == "a tool's":
        assert str(tool) not in said
        assert [path.name for path in tool.iterdir()] == ["config.json"]


def test_a_link_of_roots_leads_to_a_state_and_is_noted_resolved(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = tmp_path / "link"
    link.symlink_to(theirs.name)
    by_crontab(theirs, monkeypatch, f"NMK_STATE_DIR={link}\n")
    assert [there.directory for there in elsewhere.elsewhere()] == [theirs]
    note(link, monkeypatch)
    link.unlink()
    monkeypatch.setattr(starters, "_CRONTABS", ())
    assert [there.directory for there in elsewhere.elsewhere()] == [theirs]
    link.symlink_to(link)
    for nowhere in (link, "/a\0b", "/" + "x" * 300, "/x" * 3000):
        by_crontab(theirs, monkeypatch, f"NMK_STATE_DIR={nowhere}\n")
        assert [there.directory for there in elsewhere.elsewhere()] == [theirs]


def test_a_noted_state_that_is_gone_is_said_and_given_up_with_its_note(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(theirs, monkeypatch)
    (theirs / "home.json").unlink()
    shutil.rmtree(theirs)
    noted = runtime_directory() / "home.state"
    said = refused(theirs)
    assert f"{theirs} (so says {noted}; but {theirs} is not there)" in said
    assert f"remove {noted}, then: {FORCE}" in said
    [finding] = check_leftovers(Guarded())
    assert finding.level == "broken"
    assert str(noted) in finding.reason
    noted.unlink()
    assert elsewhere.elsewhere() == []
    assert leftovers(Guarded()).cure == FORCE


@pytest.mark.parametrize("is_chosen", [True, False])
def test_what_an_agent_may_have_whose_state_is_moved_away_is_not_removed(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, is_chosen: bool
) -> None:
    environment = {"NMK_STATE_DIR": str(theirs)} if is_chosen else {}
    theirs.rename(theirs.with_name("gone"))
    monkeypatch.setattr(elsewhere, "agent_environments", lambda: iter([("17", environment)]))
    if not is_chosen:
        assert leftovers(Guarded()).cure == FORCE
        return
    assert "end process 17" in leftovers(Guarded()).cure
    for network in ("home", "lost"):
        with pytest.raises(NotJoined, match="`nmk agent`, process 17") as refused:
            leave_lost(network, Guarded(), print)
        assert FORCE not in (refused.value.hint or "")
    token = Token(("http://192.0.2.1:50051",), bytes(32), "home", "k1", bytes(32))
    elsewhere.check_not_elsewhere(token.network)  # which network it has, nobody knows


@pytest.mark.parametrize("way", ["join", "check-in", "doctor"])
def test_a_state_directory_that_others_can_replace_is_warned_of(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr("nmk.agent.checks.machine.filesystem.is_volatile", lambda _: False)
    monkeypatch.setattr("nmk.agent.join.filesystem.is_volatile", lambda _: False)
    for mode in (0o755, 0o777):
        state_dir.chmod(mode)
        if way == "doctor":
            [found] = check_state()
            said = [f"{found.reason}; {found.mend}"] if found.level == "warn" else []
        elif way == "join":
            said = []
            _make_state(Runner(), said.append)
        else:
            monkeypatch.setattr(machine, "check_root", lambda _: None)
            monkeypatch.setattr("nmk.agent.mend.shut_networks", lambda _: None)
            monkeypatch.setattr("nmk.agent.rounds.check_in_all", lambda *_, **__: iter(()))
            state.save(joined())
            told = CliRunner().invoke(machine.checkin, [], standalone_mode=False)
            said = told.output.splitlines()
            quiet = CliRunner().invoke(machine.checkin, ["--quiet"], standalone_mode=False)
            assert (quiet.exception, quiet.output) == (None, "")
        reason = f"{state_dir} can be written by others than root; chmod go-w {state_dir}"
        assert [line for line in said if reason in line] == said
        assert len(said) == (mode == 0o777)


@pytest.mark.parametrize("how", ["owner", "mode"])
def test_a_crontab_that_others_have_written_leads_nowhere(
    theirs: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    by_crontab(theirs, monkeypatch, WAYS["crontab"])
    assert [e.network for e in elsewhere.elsewhere()] == ["home"]
    table = theirs.with_name("crontab")
    if how == "owner":
        os.chown(table, NOBODY, NOBODY)
    else:
        table.chmod(0o664)
    assert elsewhere.elsewhere() == []
    assert starters.crontab() is None


PROGRAM = b"""
import signal
print("ready", flush=True)
signal.pause()
"""


@contextmanager
def agent_of(user: int, variables: dict[str, str]) -> Iterator[Path]:
    """What looks like an agent, once it runs: its directory in /proc."""
    process = subprocess.Popen(
        ["/usr/bin/python3", "-", "nmk", "agent"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=variables,
        user=user,
        cwd="/",
    )
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(PROGRAM)
        process.stdin.close()
        assert process.stdout.readline() == b"ready\n"
        yield Path(f"/proc/{process.pid}")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("user", [0, NOBODY])
def test_only_an_agent_of_root_tells_of_anything(user: int) -> None:
    variables = {"NMK_STATE_DIR": f"/srv/of-{user}"}
    with agent_of(user, variables) as process:
        assert processes.is_roots(process) == (user == 0)
        found = list(starters.agent_environments())
        assert ((process.name, variables) in found) == (user == 0)


def test_a_program_that_is_set_user_id_is_not_taken_for_roots(tmp_path: Path) -> None:
    """Whoever starts it chooses its command line and its variables."""
    process = tmp_path / "17"
    process.mkdir()
    (process / "status").write_text("Name:\tsudo\nUid:\t0\t0\t0\t0\n")
    (process / "exe").touch()
    for mode, is_roots in ((0o755, True), (0o4755, False)):
        (process / "exe").chmod(mode)
        assert processes.is_roots(process) is is_roots
    (process / "exe").chmod(0o755)
    (process / "status").write_text("Name:\tsu\nUid:\t65534\t0\t0\t0\n")
    assert not processes.is_roots(process)


@pytest.mark.parametrize("noted", [True, False])
def test_a_hint_names_no_runtime_directory_in_which_nmk_has_noted_nothing(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noted: bool
) -> None:
    place = tmp_path / "etc"
    place.mkdir()
    by_crontab(theirs, monkeypatch, f"NMK_STATE_DIR={{}} NMK_RUNTIME_DIR={place} nmk checkin")
    if noted:
        with monkeypatch.context() as there:
            there.setenv("NMK_STATE_DIR", str(theirs))
            there.setenv("NMK_RUNTIME_DIR", str(place))
            elsewhere.note("home")
    [found] = elsewhere.elsewhere()
    more = f" NMK_RUNTIME_DIR={place}" if noted else ""
    assert found.by("nmk up") == f"NMK_STATE_DIR={theirs}{more} nmk up"


def test_leaving_removes_what_nmk_has_made_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "etc"
    place.mkdir()
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(place))
    theirs = {"resolv.conf", ".resolv.conf.swp", "resolv.links", "resolv2.link"}
    ours = {f"resolv.{kind}" for kind in (*NOTES, "answered")}
    for name in theirs | ours | {".resolv.state.tmp"}:
        (place / name).touch()
    forget_runtime("resolv", is_last=True)
    assert {path.name for path in place.iterdir()} == theirs


def test_all_that_is_kept_of_a_network_is_known_to_be() -> None:
    named = re.compile(r'f"\{(?:me\.)?network\}\.(\w+)"')
    kinds = {k for file in SOURCE.glob("agent/*.py") for k in named.findall(file.read_text())}
    assert kinds - {"json", "log", "toml"} == set(NOTES)


def lay(directory: Path, network: str) -> None:
    """The beginning of a state."""
    head = f'{{"version":1,"network":"{network}","remote_name":"{network}",'
    (directory / f"{network}.json").write_text(head)


def test_what_is_looked_at_elsewhere_is_bounded(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / f"place{i}" for i in range(100)]
    for place in places:
        place.mkdir()
        for number in range(3):
            lay(place, f"n{number}")
    for number in range(2000):
        lay(theirs, f"n{number}")
    lines = "".join(f"NMK_STATE_DIR={place}\n" for place in [*places, theirs])
    by_crontab(theirs, monkeypatch, lines)
    assert len(elsewhere.elsewhere()) == 64
    assert len(leftovers(Guarded()).told[0]) < 1000
    by_crontab(theirs, monkeypatch, WAYS["crontab"])
    assert 0 < len(elsewhere._networks(theirs)) <= 1000


@pytest.mark.parametrize("name", [*CHOICES, "NMK_DATA_DIR"])
@pytest.mark.parametrize("command", ["leave -n home --force", "status", "doctor", "network list"])
def test_a_place_with_more_levels_than_any_has_is_refused(
    name: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main.nmk, "main", None)  # nothing is begun
    monkeypatch.setenv(name, "/x" * 2000)
    assert main.run(command.split()) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"nmk: {name} has more than 64 levels: '/x/x")
    assert said.count("\n") == 2
    assert len(said) < 400
