"""A state directory that one shell knows of and the next does not: its network is no leftover."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from nmk import processes
from nmk.agent import elsewhere, own_link, state, uninstall
from nmk.agent.doctor import check_leftovers
from nmk.agent.join import join
from nmk.agent.leave import leave_lost
from nmk.agent.membership import Wishes
from nmk.agent.places import NOTES, forget_runtime, runtime_directories, runtime_directory
from nmk.agent.salvage import leftovers
from nmk.cli import machine, machine_seeing
from nmk.core import units
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


@pytest.mark.parametrize("whose", ["directory", "above", "writable", "file", "link", "relative"])
def test_a_state_that_others_than_root_could_have_laid_is_none(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whose: str
) -> None:
    line = "NMK_STATE_DIR={}"
    if whose == "directory":
        os.chown(theirs, NOBODY, NOBODY)
    elif whose == "above":
        os.chown(tmp_path, NOBODY, NOBODY)
    elif whose == "writable":
        theirs.chmod(0o1777)
    elif whose == "file":
        os.chown(theirs / "home.json", NOBODY, NOBODY)
    elif whose == "link":
        (theirs / "home.json").replace(theirs / "home")
        (theirs / "home.json").symlink_to("home")
    else:
        monkeypatch.chdir(theirs.parent)
        line = f"NMK_STATE_DIR={theirs.name}"
    by_crontab(theirs, monkeypatch, line)
    assert elsewhere.elsewhere() == []
    assert leftovers(Guarded()).cure == FORCE


def test_a_state_in_a_shared_folder_is_one(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o777)
    by_crontab(theirs, monkeypatch, "NMK_STATE_DIR={}")
    assert [there.directory for there in elsewhere.elsewhere()] == [theirs]
    assert leftovers(Guarded()).cure != FORCE


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
    assert (variables in found) == (user == 0)


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


def test_what_is_looked_at_elsewhere_is_bounded(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [tmp_path / f"place{i}" for i in range(100)]
    for place in places:
        place.mkdir()
        for number in range(3):
            (place / f"n{number}.json").touch()
    for number in range(2000):
        (theirs / f"n{number}.json").touch()
    lines = "".join(f"NMK_STATE_DIR={place}\n" for place in [*places, theirs])
    by_crontab(theirs, monkeypatch, lines)
    assert len(elsewhere.elsewhere()) == 64
    assert len(leftovers(Guarded()).told[0]) < 1000
    by_crontab(theirs, monkeypatch, WAYS["crontab"])
    assert len(elsewhere._networks(theirs)) <= 1000
