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
_QUICKS = {*_SETTINGS[INTERFACE]} - {"PrivateKey", "ListenPort", "FwMark"}
_SECTIONS = {kind.lower(): kind for kind in _SETTINGS}
_KNOWN = {kind: {name.lower(): name for name in names} for kind, names in _SETTINGS.items()}
_SECRETS = {"PrivateKey", "PresharedKey"}
_SPACE = " \t\r\v\f"  # isspace(3) in the C locale; Python's own is wider
_NO_SPACE = str.maketrans("", "", _SPACE)

WRONG_FILE = "is it the hub's file of wg-quick(8), such as /etc/wireguard/wg0.conf?"
_COMMENT_OUT = "correct the line, or put a # before it"


@dataclass(frozen=True, slots=True)
class Setting:
    """A line `name = value`; its name as wg(8) writes it."""

    line: int
    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Section:
    """What is below a header, `kind`, which stands in that line; of several interfaces, all."""

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
        body = body.strip(_SPACE)
        comment = " ".join(f"{mark}{comment[:_LONGEST_COMMENT]}".split())
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
        kind = _SECTIONS.get(_bare(body).lower())
        if kind is None:
            raise bad(number, f"{shown(body)} is no section", f"there are {' and '.join(_KNOWN)}")
        if kind == INTERFACE and self.interface:
            self._section = self.interface
            return self.interface
        section = self._section = Section(number, kind, [], [])
        if kind == INTERFACE:
            self.interface = section
            return section
        self.peers.append(section)
        if len(self.peers) > MOST_CLIENTS:
            raise bad(number, f"there are over {MOST_CLIENTS} peers", WRONG_FILE)
        return section

    def _add(self, number: int, body: str) -> Section:
        word, equals, value = body.partition("=")
        word = word.strip(_SPACE)
        first = next(iter(word.split()), word)  # the rest may be a secret
        if not equals:
            raise bad(number, f"{shown(first)} has no = after it", _COMMENT_OUT)
        section = self._section
        if section is None:
            raise bad(number, f"{shown(first)} is in no section", "put it below [Interface]")
        name = _KNOWN[section.kind].get(_bare(word).lower())
        if name is None or (name in _QUICKS and name.lower() != word.lower()):
            raise bad(number, f"{shown(word)} is no setting of {section.kind}", _COMMENT_OUT)
        setting = Setting(number, name, value.strip(_SPACE) if name in _QUICKS else _bare(value))
        if name in _SECRETS:
            # At once, so that the rest of a broken one is never quoted.
            check_key(setting, f"the {name} is no WireGuard key")
        elif not setting.value and name not in _QUICKS:
            raise bad(number, f"{name} has nothing after its =", _COMMENT_OUT)
        section.settings.append(setting)
        return section


def _bare(text: str) -> str:
    """As wg(8) reads it: no space counts, also not between."""
    return text.translate(_NO_SPACE)


def check_key(setting: Setting, refusal: str) -> None:
    """Raises BadInput, with that message, for what is no key in base64; all zeros are one."""
    try:
        raw = base64.b64decode(setting.value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES or base64.b64encode(raw).decode() != setting.value:
        raise bad(setting.line, refusal, "copy its 44 characters whole")


def all_of(section: Section, name: str) -> list[Setting]:
    """The section's settings of a name."""
    return [setting for setting in section.settings if setting.name == name]


def last_of(section: Section, name: str) -> Setting | None:
    """The setting of a name that counts for `wg`."""
    return next(iter(all_of(section, name)[::-1]), None)


def shown(text: str) -> str:
    """A text as an error quotes it."""
    return quote(without_keys(text))


def bad(line: int, message: str, hint: str) -> BadInput:
    """The refusal of a line."""
    return BadInput(f"line {line}: {message}", hint)
