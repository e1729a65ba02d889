"""A value that cannot be is said of the variable or the file that has it."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from nmk.cli import api
from nmk.cli.api import AdminApi
from nmk.errors import NotRoot, Unreachable
from nmk.server.datadir import DataDir
from nmk.server.serving import ListenFailed, open_tcp
from tests.cli.inprocess import nmk
from tests.server.process import Controller

BAD = [
    ("log-format", "NMK_LOG_FORMAT", "xml"),
    ("listen", "NMK_LISTEN", "nowhere"),
    ("admin-listen", "NMK_ADMIN_LISTEN", "foo"),
    ("public-url", "NMK_PUBLIC_URL", "ftp://here"),
    ("db", "NMK_DB", "mysql://x"),
    ("db", "NMK_DB", "sqlite://x"),
    ("data-dir", "NMK_DATA_DIR", "/etc/passwd"),
    ("data-dir", "NMK_DATA_DIR", "/" + "x" * 5000),
]


@pytest.mark.parametrize(("option", "variable", "value"), BAD)
@pytest.mark.parametrize("where", ["file", "variable", "typed"])
def test_every_source_of_the_servers_options_is_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    variable: str,
    value: str,
    where: str,
) -> None:
    """Before anything is looked at: another controller has the data directory."""
    data = tmp_path / "data"
    running = DataDir(data)
    monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path))
    if option != "data-dir":
        monkeypatch.setenv("NMK_DATA_DIR", str(data))
    typed = [f"--{option}", value] if where == "typed" else []
    named = {"file": f"{tmp_path}/server.toml: ", "variable": f"{variable}: ", "typed": ""}[where]
    if where == "file":
        (tmp_path / "server.toml").write_text(f'{option} = "{value}"\n')
    if where == "variable":
        monkeypatch.setenv(variable, value)
    done = nmk("server", *typed)
    assert done.code == 2
    assert done.err.startswith(f"nmk: {named}")
    assert value[:5] in done.err.partition(named)[2] if named else value[:5] in done.err
    assert "controller runs" not in done.err
    running._lock.close()


@pytest.mark.parametrize(
    ("variable", "value"), [("NMK_SERVER", "ftp://x"), ("NMK_NETWORK", "a/b"), ("NMK_NETWORK", "")]
)
def test_so_is_that_of_an_admins_options(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    done = nmk("node", "list")
    if not value:  # an empty variable is none
        assert done.code != 2
        return
    assert done.code == 2
    assert done.err.startswith(f"nmk: {variable}: {value!r} ")


def test_a_data_directory_that_no_path_can_be_is_no_internal_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("NMK_SERVER", raising=False)
    monkeypatch.setenv("NMK_DATA_DIR", "/" + "x" * 5000)
    done = nmk("node", "list")
    assert done.code == 75
    assert "internal error" not in done.err


def test_the_admin_api_speaks_plain_http(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_TIMEOUT", 1)
    asked = AdminApi(f"https://127.0.0.1:{controller.admin_port}", "key")
    with pytest.raises(Unreachable) as refusal:
        asked.call("GET", "/status")
    assert f"speaks plain HTTP: --server http://127.0.0.1:{controller.admin_port}" in (
        refusal.value.hint
    )


def test_a_socket_that_is_roots_is_no_matter_of_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    with pytest.raises(NotRoot, match="is for root only") as refusal:
        AdminApi(f"unix://{tmp_path}/admin.sock", None).call("GET", "/status")
    assert "run it again" in refusal.value.hint


def test_a_data_directory_that_is_roots_is_no_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda *_, **__: False)
    monkeypatch.setenv("NMK_DATA_DIR", str(tmp_path))
    done = nmk("server", "status")
    assert "Invalid value" not in done.err
    assert done.code == 75


def test_an_address_that_is_not_this_hosts_is_told_so() -> None:
    with pytest.raises(ListenFailed, match="Cannot assign requested address") as refusal:
        open_tcp("192.0.2.1:5")
    assert refusal.value.hint == "name an address of this host, or all of them: *:PORT"
