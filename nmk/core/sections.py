"""The sections of a WireGuard file, taken in line by line (wg(8), CONFIGURATION FILE FORMAT)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from nmk.core.hub_names import MOST_CLIENTS, in_use, without_keys
from nmk.core.parse import KEY_BYTES, quote
from nmk.errors import BadInput

_LONGEST_COMMENT = 200  # characters of it that are looked at

INTERFACE, PEER = "[Interface]", "[Peer]"
_SETTINGS = {
    INTERFACE: (
        *("PrivateKey", "ListenPort", "Address", "FwMark", "DNS", "MTU", "Table", "SaveConfig"),
        *("PreUp", "PostUp", "PreDown", "PostDown"),
    ),
    PEER: ("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"),
}
_SECTIONS = {kind.lower(): kind for kind in _SETTINGS}
_KNOWN = {kind: {name.lower(): name for name in names} for kind, names in _SETTINGS.items()}
_SECRETS = {"PrivateKey", "PresharedKey"}

WRONG_FILE = "is it the hub's file of wg-quick(8), such as /etc/wireguard/wg0.conf?"
_COMMENT_OUT = "correct the line, or put a # before it"
TAKE_ONE_OUT = "take one of the two out"


@dataclass(frozen=True, slots=True)
class Setting:
    """A line `name = value`; its name as wg(8) writes it."""

    line: int
    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Section:
    """What is below a header, `kind`, which stands in that line."""

    line: int
    kind: str
    settings: list[Setting]
    comments: list[str]  # that may say its name, the likeliest first


class Reader:
    """The sections of a file, taken in line by line.

    A run of comment lines belongs to the header right below it, else to the section whose line it
    touches; one on its own belongs to nobody.
    """

    def __init__(self) -> None:
        self.interface: Section | None = None
        self.peers: list[Section] = []
        self._section: Section | None = None
        self._run: list[str] = []
        self._touches = False  # whether a line of a section is right above the run

    def read(self, number: int, line: str) -> None:
        """Take in a line. Raises BadInput."""
        if "\0" in line:
            raise bad(number, "there is a NUL byte", "is it a text file, in UTF-8?")
        body, mark, comment = line.partition("#")
        body, comment = body.strip(), f"{mark}{comment[:_LONGEST_COMMENT]}".strip()
        if comment and not body:
            self._run.append(comment)
            return
        beside = [comment] if comment else []
        if body.startswith("["):
            section = self._open(number, body)
            section.comments.extend([*beside, *reversed(in_use(self._run))])
        elif body:
            section = self._add(number, body)
            section.comments.extend([*in_use(self._run), *beside])
        elif self._section and self._touches:
            self._section.comments.extend(in_use(self._run))
        self._run, self._touches = [], bool(body)

    def _open(self, number: int, body: str) -> Section:
        kind = _SECTIONS.get(body.lower())
        if kind is None:
            raise bad(number, f"{shown(body)} is no section", f"there are {' and '.join(_KNOWN)}")
        section = self._section = Section(number, kind, [], [])
        if kind == PEER:
            self.peers.append(section)
            if len(self.peers) > MOST_CLIENTS:
                raise bad(number, f"there are over {MOST_CLIENTS} peers", WRONG_FILE)
        elif self.interface:
            first = self.interface.line
            raise bad(number, f"there is an [Interface] in line {first} too", TAKE_ONE_OUT)
        else:
            self.interface = section
        return section

    def _add(self, number: int, body: str) -> Section:
        before, equals, value = body.partition("=")
        word, *more = before.split() or [""]
        if more or not equals:
            raise bad(number, f"{shown(word)} has no = after it", _COMMENT_OUT)
        section = self._section
        if section is None:
            raise bad(number, f"{shown(word)} is in no section", "put it below [Interface]")
        name = _KNOWN[section.kind].get(word.lower())
        if name is None:
            raise bad(number, f"{shown(word)} is no setting of {section.kind}", _COMMENT_OUT)
        setting = Setting(number, name, value.strip())
        if name in _SECRETS:
            _check_secret(setting)  # at once, so that the rest of a broken one is never quoted
        section.settings.append(setting)
        return section


def _check_secret(setting: Setting) -> None:
    try:
        raw = base64.b64decode(setting.value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES or base64.b64encode(raw).decode() != setting.value:
        message = f"the {setting.name} is no WireGuard key"
        raise bad(setting.line, message, "copy its 44 characters whole")


def all_of(section: Section, name: str) -> list[Setting]:
    """The section's settings of a name."""
    return [setting for setting in section.settings if setting.name == name]


def one_or_none(section: Section, name: str) -> Setting | None:
    """The only setting of a name. Raises BadInput where there are several."""
    found = all_of(section, name)
    if len(found) > 1:
        raise bad(found[1].line, f"there is a {name} in line {found[0].line} too", TAKE_ONE_OUT)
    return found[0] if found else None


def one(section: Section, name: str, hint: str) -> Setting:
    """The only setting of a name. Raises BadInput where there is none, with that hint."""
    found = one_or_none(section, name)
    if found is None:
        raise bad(section.line, f"this {section.kind} has no {name}", hint)
    return found


def shown(text: str) -> str:
    """A text as an error quotes it."""
    return quote(without_keys(text))


def bad(line: int, message: str, hint: str) -> BadInput:
    """The refusal of a line."""
    return BadInput(f"line {line}: {message}", hint)
