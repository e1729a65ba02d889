from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from nmk.agent.checks import network as network_checks
from nmk.agent.membership import Membership, Wishes, decode, encode
from nmk.agent.settings import (
    local_settings,
    route_wishes,
    take_note,
    unread,
    variable_of,
    wished,
)
from nmk.core.routes import RouteWishes
from nmk.core.settings import NETWORK_SETTINGS, WISHES
from nmk.errors import BadInput
from nmk.files import MOST_SETTINGS
from nmk.system.runner import Runner
from tests.agent.memberships import joining


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (*NETWORK_SETTINGS, *WISHES):
        monkeypatch.delenv(variable_of(name), raising=False)
    monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path))
    return tmp_path


def noted(**settings: int | str) -> Membership:
    """A membership with what `nmk set` has noted."""
    return joining(wishes=Wishes(settings={k.replace("_", "-"): v for k, v in settings.items()}))


@pytest.mark.usefixtures("config")
def test_nothing_is_set() -> None:
    assert local_settings("home", None) == {}
    assert wished("home", joining()) == {}
    assert route_wishes(joining()) == RouteWishes()


def test_the_environment_wins_over_the_network_over_the_machine(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config / "agent.toml").write_text("mtu = 1300\nkeepalive = 30\ninterval = 90\n")
    (config / "home.toml").write_text("mtu = 1310\nkeepalive = 0\n")
    (config / "office.toml").write_text("mtu = 1400\n")
    monkeypatch.setenv("NMK_MTU", "1320")
    monkeypatch.setenv("NMK_LISTEN_PORT", "5000")
    assert local_settings("home", None) == {
        "mtu": 1320,
        "keepalive": 0,
        "interval": 90,
        "listen-port": 5000,
    }


def test_what_was_noted_gives_way_to_all_of_them(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = noted(mtu=1290, keepalive=40, interval=30, exit_node="gw")
    (config / "agent.toml").write_text("mtu = 1300\n")
    monkeypatch.setenv("NMK_KEEPALIVE", "0")
    assert local_settings("home", me) == {"mtu": 1300, "keepalive": 0, "interval": 30}
    assert wished("home", me) == {
        "mtu": (1300, str(config / "agent.toml")),
        "keepalive": (0, "NMK_KEEPALIVE"),
        "interval": (30, "nmk set"),
        "exit-node": ("gw", "nmk set"),
    }


def test_wishes_for_routes_come_from_everywhere(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (config / "agent.toml").write_text(
        'accept-roles = "off"\naccept-routes = false\nkill-switch = "off"\n'
    )
    (config / "home.toml").write_text("kill-switch = true\n")
    assert route_wishes(noted(exit_node="gw")) == RouteWishes(
        accept=False, roles=False, exit_node="gw", kill_switch=True, guarded=True
    )
    monkeypatch.setenv("NMK_EXIT_NODE", "other")
    monkeypatch.setenv("NMK_KILL_SWITCH", "off")
    assert route_wishes(noted(exit_node="gw")) == RouteWishes(
        accept=False, roles=False, exit_node="other", guarded=True
    )
    assert local_settings("home", noted(exit_node="gw")) == {}


def test_who_has_no_exit_node_any_more_stays_guarded(config: Path) -> None:
    assert route_wishes(noted(exit_node="")) == RouteWishes(guarded=True)
    (config / "home.toml").write_text('exit-node = ""\n')
    assert route_wishes(noted(exit_node="gw")) == RouteWishes(guarded=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mtu = 10", "home.toml: '10' cannot be the mtu"),
        ("mtu = [1]", "home.toml: '[1]' cannot be the 'mtu'"),
        ("mtu = true", "home.toml: 'True' cannot be the mtu"),
        ("speed = 10", "home.toml: 'speed' is no setting"),
        ("accept-routes = 1", "home.toml: '1' cannot be accept-routes"),
        ('kill-switch = "On"', "home.toml: 'On' cannot be kill-switch"),
        ("exit-node = 7", "home.toml: '7' cannot be exit-node"),
        ("exit-node = true", "home.toml: 'True' cannot be exit-node"),
        ('exit-node = "Gate Way"', "home.toml: 'Gate Way' cannot be exit-node"),
        ("mtu =", "home.toml is not valid TOML"),
        ("\0", "home.toml is not valid TOML"),
    ],
)
def test_a_bad_file_is_named(config: Path, text: str, message: str) -> None:
    (config / "home.toml").write_text(text)
    with pytest.raises(BadInput) as raised:
        local_settings("home", None)
    assert message in raised.value.message


@pytest.mark.usefixtures("config")
def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMK_MTU", "many")
    with pytest.raises(BadInput, match="NMK_MTU: 'many' cannot be the mtu"):
        local_settings("home", None)


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize("name", [*NETWORK_SETTINGS, *WISHES])
def test_what_a_variable_held_goes_on_while_it_has_a_mistake(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Else what was noted: a kill switch stays shut, whatever variable it is."""
    variable = variable_of(name)
    fresh = noted(exit_node="gw", kill_switch="on", mtu=1290)
    monkeypatch.setenv(variable, "no such value")
    me, [problem] = take_note(fresh)
    assert f"{variable}: 'no such value' cannot be" in problem.message
    assert "; it counts as not set" in problem.message
    assert wished("home", me) == wished("home", fresh)
    assert wished("home", me).keys() == {"exit-node", "kill-switch", "mtu"}
    assert route_wishes(me) == RouteWishes(exit_node="gw", kill_switch=True, guarded=True)
    assert local_settings("home", me) == {"mtu": 1290}
    good = "on" if name in WISHES else "1300"
    monkeypatch.setenv(variable, good)
    me, problems = take_note(fresh)
    assert problems == ()
    before = wished("home", me)
    assert before[name][1] == variable
    monkeypatch.setenv(variable, "no such value")
    kept, [problem] = take_note(decode(encode(me), "home", "x"))
    assert "; what it was before goes on" in problem.message
    assert wished("home", kept) == before
    assert take_note(kept) == (kept, (problem,))
    assert unread(kept) == (problem,)
    monkeypatch.delenv(variable)
    assert take_note(kept)[0].as_read == {}


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "a directory": Path.mkdir,
    "a pipe": os.mkfifo,
    "binary": lambda path: path.write_bytes(bytes(range(256))),
    "too large": lambda path: path.write_bytes(b"#" * (MOST_SETTINGS + 1)),
    "a loop": lambda path: path.symlink_to(path),
    "a mistake": lambda path: path.write_text("mtu = 1330\nkill-switch = 7\n"),
}


@pytest.mark.parametrize("lay", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_a_file_held_goes_on_while_it_cannot_be_read(
    config: Path, lay: Callable[[Path], object]
) -> None:
    file = config / "home.toml"
    (config / "agent.toml").write_text("keepalive = 40\n")
    file.write_text('mtu = 1310\nexit-node = "gw"\nkill-switch = true\n')
    me, problems = take_note(joining())
    assert problems == ()
    before = wished("home", me)
    file.unlink()
    lay(file)
    (config / "agent.toml").write_text("keepalive = 50\n")
    kept, problems = take_note(decode(encode(me), "home", "x"))
    assert [(p.code, str(file) in p.message) for p in problems] == [("bad-input", True)]
    assert wished("home", kept) == before | {"keepalive": (50, str(config / "agent.toml"))}
    assert route_wishes(kept) == RouteWishes(exit_node="gw", kill_switch=True, guarded=True)
    assert take_note(kept) == (kept, problems)
    with pytest.raises(BadInput):  # nobody knows what it held
        take_note(joining())


def test_the_line_to_correct_is_named(config: Path) -> None:
    (config / "home.toml").write_text("")
    me, _ = take_note(joining())
    assert unread(me) == ()
    (config / "home.toml").write_text("\nmtu = 1400 bytes\n")
    [problem] = unread(me)
    assert f"{config}/home.toml is not valid TOML: " in problem.message
    assert problem.hint == f"correct line 2 of {config}/home.toml"
    assert network_checks.check_applied(me, Runner())[0].mend == problem.hint


def test_a_file_that_is_gone_holds_nothing(config: Path) -> None:
    (config / "home.toml").write_text("mtu = 1310\n")
    me, _ = take_note(joining())
    (config / "home.toml").unlink()
    me, problems = take_note(me)
    assert (me.as_read, problems, local_settings("home", me)) == ({}, (), {})
