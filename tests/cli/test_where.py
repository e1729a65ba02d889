"""Which controller an admin's command speaks to, and what it says where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmk.agent import own_controller, state
from nmk.cli import where
from tests.agent.memberships import joined
from tests.cli.inprocess import Done, nmk
from tests.server.process import Controller

ALL = ["node list", "network create home", "key create", "server status", "server wait"]

pytestmark = pytest.mark.usefixtures("state_dir")


@pytest.fixture(autouse=True)
def unnamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that has nothing, and no controller named."""
    monkeypatch.delenv("NMK_SERVER")
    monkeypatch.delenv("NMK_DATA_DIR", raising=False)
    monkeypatch.setattr(own_controller, "DATA_DIR", tmp_path / "default")


def refused(command: str) -> Done:
    """A command that finds no controller."""
    more = ["--timeout", "0"] if command == "server wait" else []
    done = nmk(*command.split(), *more)
    assert (done.code, done.out) == (75, "")
    return done


@pytest.mark.parametrize("command", ALL)
def test_where_there_is_nothing_both_ways_are_named(command: str) -> None:
    hint = refused(command).err.partition("  try: ")[2]
    for way in ("`nmk server`", "--server", "NMK_SERVER", "NMK_DATA_DIR"):
        assert way in hint


@pytest.mark.parametrize("command", ALL)
def test_a_node_is_told_its_controllers(command: str) -> None:
    state.save(joined())
    hint = refused(command).err.partition("  try: ")[2]
    assert hint.startswith("this machine is a node: run it on the controller, 192.0.2.1, 2001:db8")
    assert "--server or NMK_SERVER" in hint


@pytest.mark.parametrize("command", ALL)
def test_a_controller_that_is_down_is_to_be_started(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state.save(joined())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/controller.key").touch()
    monkeypatch.setenv("NMK_DATA_DIR", str(tmp_path / "mine"))
    done = refused(command)
    assert f"unix://{tmp_path}/mine/admin.sock" in done.err
    assert f"  try: {where.start_command()}; or name a controller elsewhere" in done.err
    assert "--server or NMK_SERVER" in done.err


def test_a_damaged_state_is_no_matter(state_dir: Path) -> None:
    (state_dir / "home.json").write_text("{")
    assert "`nmk server`" in refused("node list").err


def test_one_that_was_named_is_not_started_here() -> None:
    state.save(joined())
    done = nmk("node", "list", "--server", "http://127.0.0.1:1")
    assert "  try: is `nmk server` running there? Another one is named by --server or" in done.err


def test_commands_find_the_controller_of_a_data_directory(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_DATA_DIR", str(controller.data))
    assert nmk("server", "status").code == 0
    monkeypatch.chdir(controller.data.parent)
    monkeypatch.setenv("NMK_DATA_DIR", controller.data.name)
    assert nmk("server", "status").code == 0


def test_commands_find_the_data_directory_of_the_settings_file(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config/server.toml").write_text(f'data-dir = "{controller.data}"\n')
    assert nmk("server", "status").code == 0
    assert nmk("doctor", "-o", "json").out.count('"server"') == 1
    monkeypatch.setenv("NMK_SERVER", "http://127.0.0.1:1")
    assert nmk("server", "status").code == 75


def test_a_wrong_key_is_not_a_missing_one(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_SERVER", f"http://127.0.0.1:{controller.admin_port}")
    assert nmk("server", "status").err.startswith("nmk: the admin API needs the admin key\n  try: ")
    monkeypatch.setenv("NMK_API_KEY", "00" * 32)
    wrong = nmk("server", "status")
    assert wrong.code == 1
    assert wrong.err.startswith("nmk: the key that was given is not the admin key of this controll")
