"""Files nmk that stay on the machine are named."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nmk import archive
from nmk.agent import own_controller, salvage, service, state, surroundings, uninstall
from nmk.cli import machine
from nmk.errors import EXIT_TEMPORARY, FileUnusable, StateUnwritable
from nmk.server.datadir import DataDir
from nmk.system import filter as packet_filter
from nmk.system.runner import DryRunner
from tests.agent.failing_files import Deaf
from tests.agent.memberships import joined
from tests.cli.inprocess import nmk
from tests.reliability.served import Served

NOBODY, SERVICE = 65534, 65533


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where nmk is installed."""
    path = tmp_path / "installed"
    monkeypatch.setattr(uninstall, "INSTALLED", path)
    return path


def test_another_copy_says_which_files_stay(
    installed: Path, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert state_dir.is_dir()
    installed.touch()
    other = tmp_path / "my tools/nmk"
    monkeypatch.setattr(archive, "running_file", lambda: other)
    monkeypatch.setattr(salvage, "leftovers", lambda _: salvage.Leftovers())
    said: list[str] = []
    uninstall.uninstall(DryRunner(lambda _: None), said.append)
    assert f"{installed} stays, as another copy runs; to remove it: rm {installed}" in said
    assert f"this copy stays; to remove it: rm '{other}'" in said
    assert installed not in uninstall.leftovers(purge=True)


def test_what_stays_for_want_of_nft_is_said_in_the_end_and_by_the_exit_code(
    installed: Path, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All else is gone by then, nmk too; a kill switch that stays cuts the machine off."""
    installed.touch()
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(uninstall, "CACHES", (tmp_path / "cache",))
    monkeypatch.setattr(uninstall, "CRON_FILE", tmp_path / "cron")
    monkeypatch.setattr(archive, "running_file", lambda: installed)
    monkeypatch.setattr(service, "remove", lambda *_: [])
    monkeypatch.setattr(surroundings, "has_tool", lambda name: name != "nft")
    monkeypatch.setattr(packet_filter, "has_tool", lambda name: name != "nft")
    monkeypatch.setattr(machine, "check_root", lambda _: None)
    monkeypatch.setattr(machine, "runner", lambda *_: Deaf())
    for network in ("a", "home"):
        me = replace(joined(), network=network, interface=f"none-{network}", down=True)
        me = replace(me, urls=("http://127.0.0.1:9",))
        state.save(replace(me, laid=frozenset({"filter"})) if network == "home" else me)
    done = nmk("uninstall", "--yes")
    assert done.code == 1
    *_, problem, hint = done.err.splitlines()
    assert problem == (
        "nmk: nft is not installed: the packet filter 'table inet nmk-home' stays as it is; "
        "what is left of home goes when this machine starts anew"
    )
    assert hint == "  try: apt-get install nftables; then: nft delete table inet nmk-home"
    assert not any(p.exists() for p in (installed, tmp_path / "cache", state_dir / "home.json"))


def test_the_installed_copy_goes_without_a_word(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed.touch()
    monkeypatch.setattr(archive, "running_file", lambda: installed)
    assert uninstall.kept_files() == []
    assert installed in uninstall.leftovers(purge=False)


@pytest.fixture
def nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of nmk is there but what a test makes, and root runs the command."""
    monkeypatch.setattr(uninstall, "CACHES", ())
    monkeypatch.setattr(uninstall, "CRON_FILE", tmp_path / "cron")
    monkeypatch.setattr(own_controller, "DATA_DIR", tmp_path / "default")
    monkeypatch.setattr(service, "find_manager", lambda *_: None)
    monkeypatch.setattr(salvage, "leftovers", lambda _: salvage.Leftovers())
    monkeypatch.setattr(machine, "check_root", lambda _: None)
    monkeypatch.setattr(machine, "runner", lambda *_: Deaf())


@pytest.mark.parametrize("where", ["server", "another", "elsewhere"])
@pytest.mark.usefixtures("nothing_else")
def test_the_data_of_a_controller_that_runs_is_not_purged(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    data = state_dir / where
    if where == "elsewhere":
        data = tmp_path / where
        monkeypatch.setenv("NMK_DATA_DIR", str(data))
    running = DataDir(data)
    for args in (("--purge",), ("--purge", "--dry-run")):
        done = nmk("uninstall", "--yes", *args)
        assert done.code == EXIT_TEMPORARY
        assert f"a controller runs on {data} (" in done.err
        assert f"process {os.getpid()})\n  try: stop it first, or leave --purge out" in done.err
    done = nmk("uninstall", "--yes")
    assert done.code == 0
    assert f"a controller runs on {data} (" in done.err
    assert ": it goes on" in done.err
    if where == "server":
        remove = f"to remove it, once the controller has ended: rm -r {data}"
        assert f"the controller's data stays in {data}; {remove}\n" in done.err
    assert running.admin_key_file.exists()
    running._lock.close()
    assert nmk("uninstall", "--yes", "--purge").code == 0
    assert running.admin_key_file.exists() == (where == "elsewhere")


@pytest.mark.usefixtures("nothing_else")
def test_a_controller_with_its_data_anywhere_is_found_by_its_settings(
    state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nmk"
    program.write_text("import sys\nfrom nmk.cli.main import run\nsys.exit(run(sys.argv[1:]))\n")
    with Served(tmp_path, program=(sys.executable, str(program))) as served:
        assert nmk("uninstall", "--yes", "--purge").code == 0  # it is no business of these settings
        state_dir.mkdir()
        monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path / "etc"))
        done = nmk("uninstall", "--yes", "--purge")
        assert done.code == EXIT_TEMPORARY
        assert f"a controller runs here (nmk server, process {served.pid})" in done.err
        assert state_dir.exists()


@pytest.mark.parametrize(("user", "is_believed"), [(NOBODY, False), (SERVICE, True), (0, True)])
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.usefixtures("nothing_else", "state_dir")
def test_whose_process_looks_like_a_controller_keeps_nobody_from_a_purge_but_its_owner(
    monkeypatch: pytest.MonkeyPatch, user: int, is_believed: bool
) -> None:
    with TemporaryDirectory() as name:  # which everybody can reach
        place = Path(name)
        settings = {"NMK_CONFIG_DIR": str(place / "etc")}
        monkeypatch.setenv(*next(iter(settings.items())))
        place.chmod(0o755)
        monkeypatch.setenv("NMK_DATA_DIR", str(place / "data"))
        (place / "data").mkdir()
        (place / "data/controller.key").touch()
        os.chown(place / "data/controller.key", SERVICE, SERVICE)
        (place / "server").write_text("echo here; read x\n")
        with subprocess.Popen(
            ("nmk", "server"), executable="/bin/sh", cwd=place, user=user, env=settings,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout
            assert process.stdout.readline() == b"here\n"
            said = f"a controller runs here (nmk server, process {process.pid})"
            assert own_controller.find_running() == (said if is_believed else None)
            done = nmk("uninstall", "--yes", "--purge", "--dry-run")
            assert done.code == (EXIT_TEMPORARY if is_believed else 0)
            process.kill()


@pytest.mark.usefixtures("nothing_else")
def test_a_purge_takes_nothing_else_from_a_place_of_the_owners_choice(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /etc: whatever the variables say, no directory that is not nmk's alone goes whole."""
    monkeypatch.setenv("NMK_CONFIG_DIR", str(state_dir))
    DataDir(state_dir / "server")._lock.close()
    theirs = {"daemon.json", "resolv.conf", "docker", "docker/key.json"}
    (state_dir / "docker").mkdir()
    for name in theirs - {"docker"}:
        (state_dir / name).write_text('{"key": 1}')
    done = nmk("uninstall", "--yes", "--purge")
    assert done.code == 0
    assert {str(p.relative_to(state_dir)) for p in state_dir.rglob("*")} == theirs
    assert f"{state_dir} stays, as its place is of your choice; to remove it: rm -r " in done.err


@pytest.mark.usefixtures("nothing_else")
def test_a_state_that_stays_keeps_nothing_else_there(
    installed: Path, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a disk that is read-only; nor does a service that cannot be removed."""

    def kept(role: str, *_: object) -> list[Path]:
        raise FileUnusable(f"nmk-{role} cannot be removed: Read-only file system")

    installed.touch()
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(uninstall, "CACHES", (tmp_path / "cache",))
    monkeypatch.setattr(archive, "running_file", lambda: installed)
    monkeypatch.setattr(service, "remove", kept)
    state.save(replace(joined(), interface="none-home", urls=("http://127.0.0.1:9",)))
    file = state_dir / "home.json"

    def stays(network: str) -> None:
        raise StateUnwritable(f"{file} cannot be removed: Read-only file system", f"not {network}")

    monkeypatch.setattr(state, "remove", stays)
    done = nmk("uninstall", "--yes")
    assert (done.code, installed.exists(), (tmp_path / "cache").exists()) == (1, False, False)
    for part in ("nmk-agent cannot", "nmk-server cannot", f"{file} cannot be removed: Read-only"):
        assert part in done.err
    assert f"make it writable, then: rm {file}\n" in done.err


@pytest.mark.usefixtures("nothing_else", "state_dir")
def test_a_dry_run_names_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cron").touch()
    manager = service.Manager("cron", tmp_path / "cron", "", 0o644)
    monkeypatch.setattr(
        service, "find_manager", lambda role, _: manager if role == "agent" else None
    )
    said: list[str] = []
    uninstall.uninstall(DryRunner(lambda _: None), said.append)
    assert said.count(f"removing {tmp_path / 'cron'}") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="a process of root's")
@pytest.mark.usefixtures("nothing_else", "state_dir")
def test_an_agent_that_somebody_has_started_is_named(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("echo here; read x\n")
    with subprocess.Popen(
        ("nmk", "agent"), executable="/bin/sh", cwd=tmp_path, env={},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == b"here\n"
        done = nmk("uninstall", "--yes")
        assert f"(nmk agent, process {process.pid}): kill {process.pid}\n" in done.err
        process.kill()
