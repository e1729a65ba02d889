from __future__ import annotations

import pytest

from nmk.core.settings import NETWORK_SETTINGS, Setting, effective, find_setting
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
