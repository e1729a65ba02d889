from __future__ import annotations

import pytest

from nmk.core.settings import (
    NETWORK_SETTINGS,
    WISHES,
    Setting,
    Wish,
    check_local,
    effective,
    find_setting,
    parse_local,
)
from nmk.errors import BadInput


@pytest.mark.parametrize("setting", NETWORK_SETTINGS.values(), ids=lambda s: s.name)
def test_a_setting_takes_its_bounds_and_nothing_outside(setting: Setting) -> None:
    for good in (setting.low, setting.high, setting.default, str(setting.default)):
        assert setting.parse(good) == int(good)
    for bad in (setting.low - 1, setting.high + 1, "", "x", f"{setting.default} ", True):
        if not (setting.zero and bad == 0):
            with pytest.raises(BadInput, match=setting.name):
                setting.parse(bad)


def test_zero_switches_off_what_can_be_off() -> None:
    assert NETWORK_SETTINGS["keepalive"].parse("0") == 0
    with pytest.raises(BadInput):
        NETWORK_SETTINGS["keepalive"].parse("9")
    with pytest.raises(BadInput):
        NETWORK_SETTINGS["mtu"].parse(0)


def test_what_is_not_stored_has_its_default() -> None:
    assert effective({"mtu": 1380}) == {
        "mtu": 1380,
        "keepalive": 25,
        "interval": 60,
        "listen-port": 51821,
    }


def test_an_unknown_setting_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="colour") as refusal:
        find_setting("colour")
    assert "mtu" in refusal.value.hint


SWITCHES = [wish for wish in WISHES.values() if wish.choices]


@pytest.mark.parametrize("wish", WISHES.values(), ids=lambda w: w.name)
def test_what_an_owner_has_not_set_is_a_wish_as_well(wish: Wish) -> None:
    assert wish.parse(wish.default) == wish.default
    assert parse_local(wish.name, wish.default) == wish.default


@pytest.mark.parametrize("wish", SWITCHES, ids=lambda w: w.name)
def test_a_switch_is_on_or_off_and_so_it_is_in_toml(wish: Wish) -> None:
    values = ("on", "off", True, False, "true", "false")
    assert [wish.parse(value) for value in values] == ["on", "off"] * 3
    for bad in ("", "yes", "ON", "on ", "True", "TRUE", 1, 0, None, ["on"]):
        with pytest.raises(BadInput, match=wish.name) as refusal:
            wish.parse(bad)
        assert "on, off" in refusal.value.hint


def test_an_exit_node_is_a_name_or_none() -> None:
    wish = WISHES["exit-node"]
    assert [wish.parse(value) for value in ("", "gw", "web-2")] == ["", "gw", "web-2"]
    for bad in ("Gate Way", "gw\n", "-gw", "x" * 64, 7, None, ["gw"], True, False):
        with pytest.raises(BadInput, match="exit-node"):
            wish.parse(bad)


def test_an_owner_overrides_the_networks_settings_too() -> None:
    assert parse_local("mtu", "1380") == parse_local("mtu", 1380) == 1380
    for name, value in (("mtu", 10), ("mtu", True), ("mtu", None), ("colour", "red"), ("", "")):
        with pytest.raises(BadInput, match=repr(name) if name != "mtu" else "mtu"):
            parse_local(name, value)
    with pytest.raises(BadInput, match="colour") as refusal:
        check_local("colour")
    assert ", ".join([*WISHES, *NETWORK_SETTINGS]) in refusal.value.hint
