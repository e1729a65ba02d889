from __future__ import annotations

from pathlib import Path

import pytest

from nmk.agent.settings import local_settings
from nmk.errors import BadInput


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("NMK_MTU", "NMK_KEEPALIVE", "NMK_INTERVAL", "NMK_LISTEN_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("config")
def test_nothing_is_set() -> None:
    assert local_settings("home") == {}


def test_the_environment_wins_over_the_network_over_the_machine(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config / "agent.toml").write_text("mtu = 1300\nkeepalive = 30\ninterval = 90\n")
    (config / "home.toml").write_text("mtu = 1310\nkeepalive = 0\n")
    (config / "office.toml").write_text("mtu = 1400\n")
    monkeypatch.setenv("NMK_MTU", "1320")
    monkeypatch.setenv("NMK_LISTEN_PORT", "5000")
    assert local_settings("home") == {
        "mtu": 1320,
        "keepalive": 0,
        "interval": 90,
        "listen-port": 5000,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mtu = 10", "home.toml: '10' cannot be the mtu"),
        ("mtu = [1]", "home.toml: '[1]' cannot be the 'mtu'"),
        ("mtu = true", "home.toml: 'True' cannot be the mtu"),
        ("speed = 10", "home.toml: 'speed' is no setting"),
        ("mtu =", "home.toml is no TOML"),
        ("\0", "home.toml is no TOML"),
    ],
)
def test_a_bad_file_is_named(config: Path, text: str, message: str) -> None:
    (config / "home.toml").write_text(text)
    with pytest.raises(BadInput) as raised:
        local_settings("home")
    assert message in raised.value.message


@pytest.mark.usefixtures("config")
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMK_MTU", "many")
    with pytest.raises(BadInput, match="NMK_MTU: 'many' cannot be the mtu"):
        local_settings("home")
