"""The tables of settings: they drive the CLI, the API, the files and the documents."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from nmk.core.parse import find_meant, parse_int, parse_label, quote
from nmk.errors import BadInput


@dataclass(frozen=True, slots=True)
class Setting:
    """One number that a network stores and a machine may override for itself.

    `low` and `high` bound it, both included; `zero` says whether 0 (off) is allowed besides.
    """

    name: str
    default: int
    low: int
    high: int
    unit: str
    help: str
    zero: bool = False

    def parse(self, text: str | int) -> int:
        """The value, or BadInput that quotes the text."""
        if self.zero and str(text) == "0":
            return 0
        return parse_int(text, self.low, self.high, self.name)


NETWORK_SETTINGS: dict[str, Setting] = {
    s.name: s
    for s in (
        Setting("mtu", 1420, 1280, 9000, "bytes", "MTU of the WireGuard interface"),
        Setting(
            "keepalive", 25, 10, 3600, "seconds", "WireGuard's persistent keepalive, 0 is off", True
        ),
        Setting("interval", 60, 5, 86400, "seconds", "time between two check-ins of a node"),
        Setting("listen-port", 51821, 1, 65535, "", "first UDP port that a joining node tries"),
    )
}


@dataclass(frozen=True, slots=True)
class Wish:
    """One setting that only the owner of a machine has. `choices` empty: a node's name, or none."""

    name: str
    default: str
    choices: tuple[str, ...]
    help: str

    def parse(self, value: object) -> str:
        """The value, or BadInput that quotes it. TOML's true and false are on and off."""
        text = value
        if self.choices and (isinstance(value, bool) or value in ("true", "false")):
            text = "on" if value in (True, "true") else "off"
        if isinstance(text, str) and (text in self.choices or (not self.choices and not text)):
            return text
        if self.choices or not isinstance(text, str):
            hint = (
                f"use one of: {', '.join(self.choices)}" if self.choices else "give a node's name"
            )
            raise BadInput(f"{quote(value)} cannot be {self.name}", hint)
        try:
            return parse_label(text)
        except BadInput:
            raise BadInput(f"{quote(value)} cannot be {self.name}", "give a node's name") from None


WISHES: dict[str, Wish] = {
    w.name: w
    for w in (
        Wish(
            "accept-roles",
            "on",
            ("on", "off"),
            "be the gateway that the controller wants this machine to be",
        ),
        Wish("accept-routes", "on", ("on", "off"), "follow the ranges of egress gateways"),
        Wish("exit-node", "", (), "the node that all traffic goes by; empty: none"),
        Wish(
            "kill-switch",
            "off",
            ("on", "off"),
            "with an exit node: nothing but the LAN goes past it, be the tunnel up or down",
        ),
    )
}


def parse_local(name: str, value: object) -> int | str:
    """A machine's own setting: one of a network's that it overrides, or a wish of its owner."""
    if name in WISHES:
        return WISHES[name].parse(value)
    check_local(name)
    if not isinstance(value, (int, str)):
        raise BadInput(f"{quote(value)} cannot be the {quote(name)}")
    return NETWORK_SETTINGS[name].parse(value)


def check_local(name: str) -> None:
    """Raises BadInput where a machine has no such setting."""
    if name not in WISHES and name not in NETWORK_SETTINGS:
        raise _no_setting(name, [*WISHES, *NETWORK_SETTINGS])


def parse_settings(pairs: Mapping[str, str | int]) -> dict[str, int]:
    """Known settings with their values parsed; BadInput names the first that is not known."""
    return {name: find_setting(name).parse(value) for name, value in pairs.items()}


def find_setting(name: str) -> Setting:
    """The setting of that name, or BadInput that lists what there is."""
    if name not in NETWORK_SETTINGS:
        raise _no_setting(name, NETWORK_SETTINGS)
    return NETWORK_SETTINGS[name]


def _no_setting(name: str, known: Collection[str]) -> BadInput:
    meant = find_meant(name, known)
    hint = f"write {meant}" if meant else f"there are: {', '.join(known)}"
    return BadInput(f"{quote(name)} is no setting", hint)


def effective(stored: Mapping[str, int]) -> dict[str, int]:
    """Every setting's value: what is stored, else the default."""
    return {name: stored.get(name, s.default) for name, s in NETWORK_SETTINGS.items()}
