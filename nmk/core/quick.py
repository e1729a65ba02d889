"""The file of a WireGuard hub, as wg-quick(8), wg-easy and others write it, as a value."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import TypeVar

from nmk.core.hub_names import MOST_CLIENTS, distinct, in_use, name_in, without_keys
from nmk.core.parse import (
    KEY_BYTES,
    MAX_PORT,
    Address,
    Range,
    parse_address,
    parse_int,
    parse_key,
    parse_port,
    quote,
)
from nmk.errors import BadInput

MOST_TEXT = 1 << 20  # characters of a file
_USUAL = {4: 24, 6: 64}  # prefix lengths
_MOST_ADDRESSES = 16  # of the hub; each address of a client is compared with all of them
_LONGEST_COMMENT = 200  # characters of it that are looked at

_INTERFACE, _PEER = "[Interface]", "[Peer]"
_SETTINGS = {
    _INTERFACE: (
        *("PrivateKey", "ListenPort", "Address", "FwMark", "DNS", "MTU", "Table", "SaveConfig"),
        *("PreUp", "PostUp", "PreDown", "PostDown"),
    ),
    _PEER: ("PublicKey", "PresharedKey", "AllowedIPs", "Endpoint", "PersistentKeepalive"),
}
_SECTIONS = {kind.lower(): kind for kind in _SETTINGS}
_KNOWN = {kind: {name.lower(): name for name in names} for kind, names in _SETTINGS.items()}
_SECRETS = {"PrivateKey", "PresharedKey"}
_NO_KEY = base64.b64encode(bytes(KEY_BYTES)).decode()
_LEFT = {
    **dict.fromkeys(("PreUp", "PostUp", "PreDown", "PostDown"), "nmk runs no commands of the file"),
    "Table": "nmk sets its own routes",
    "SaveConfig": "clients that only `wg set` was told of are in the file after `wg-quick save`",
    "DNS": "nmk leaves the resolver alone",
    "MTU": "the MTU is a setting of the network",
    "FwMark": "nmk has a mark of its own",
    "Endpoint": "a client is answered where it calls from",
}
_NO_HOST = "nmk gives a client its own addresses alone"
_DEFAULTS = {("Table", "auto"), ("SaveConfig", "false"), ("FwMark", "off"), ("FwMark", "0")}

_NAT = re.compile(r"\b(?:masquerade|snat)\b", re.IGNORECASE)  # iptables(8), nft(8)
_WRONG_FILE = "is it the hub's file of wg-quick(8), such as /etc/wireguard/wg0.conf?"
_COMMENT_OUT = "correct the line, or put a # before it"
_TAKE_ONE_OUT = "take one of the two out"

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class HubClient:
    """A peer of the hub. `addresses`: the single hosts among its AllowedIPs, IPv4 first.

    `name` is a DNS label that no other client of the hub has.
    """

    name: str
    public_key: str
    preshared_key: str | None = field(repr=False)
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hub:
    """A WireGuard interface that clients call. `addresses` carry prefix lengths.

    `private_key` is clamped (RFC 7748, 5), the form in which `wg` shows it. `left`: what of the
    file is not taken over, each as a line for people that says why. `lets_out`: its hooks translate
    addresses, so its clients reach the internet, or a LAN, by the hub.
    """

    private_key: str = field(repr=False)
    listen_port: int
    addresses: tuple[str, ...]
    clients: tuple[HubClient, ...]
    left: tuple[str, ...]
    lets_out: bool = False

    @property
    def ranges(self) -> tuple[str, ...]:
        """The ranges that the hub and its clients are in, as far as the file tells."""
        told = [ip_interface(a).network for a in self.addresses]
        return tuple(str(r if r.num_addresses > 1 else _wider(r)) for r in told)


@dataclass(frozen=True, slots=True)
class _Setting:
    line: int
    name: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Section:
    line: int
    kind: str
    settings: list[_Setting]
    comments: list[str]  # that may say its name, the likeliest first


@dataclass(frozen=True, slots=True)
class _Peer:
    section: _Section
    key: _Setting
    preshared_key: str | None = field(repr=False)
    ranges: tuple[tuple[int, Range], ...]  # with their lines

    @property
    def addresses(self) -> tuple[str, ...]:
        hosts = [r.network_address for _, r in self.ranges if _is_host(r)]
        return tuple(str(a) for a in sorted(hosts, key=lambda a: a.version))


def parse_quick(text: str) -> Hub:
    """The hub of a file (wg(8), CONFIGURATION FILE FORMAT; wg-quick(8), CONFIGURATION).

    Raises BadInput that names the line and quotes the culprit, unless that is a secret. More is
    refused than `wg` would: a hub has a port and addresses, and a client has an address and a key
    that nobody else has.
    """
    if len(text) > MOST_TEXT:
        last = text.count("\n", 0, MOST_TEXT) + 1
        raise _bad(last, "the file goes on after 1 MiB", _WRONG_FILE)
    reader = _Reader()
    for number, line in enumerate(f"{text}\n".removeprefix("\ufeff").split("\n"), 1):
        reader.read(number, line)
    interface = reader.interface
    if interface is None:
        last = text.rstrip().count("\n") + 1
        raise _bad(last, "the file ends without an [Interface]", _WRONG_FILE)
    private_key = _read_private_key(interface)
    port = _one(interface, "ListenPort", "the one in use: wg show INTERFACE listen-port")
    listen_port = _at(port.line, parse_port, port.value)
    addresses = _read_addresses(interface)
    peers = [_read_peer(section) for section in reader.peers]
    names = distinct([name_in(section.comments) for section in reader.peers])
    _check_peers(peers, names, addresses)
    left = [*_left(interface, "")]
    for name, peer in zip(names, peers, strict=True):
        whose = f", client {name}"
        left += [*_left(peer.section, whose), *_left_ranges(peer, whose)]
    return Hub(
        private_key=private_key,
        listen_port=listen_port,
        addresses=addresses,
        clients=tuple(
            HubClient(name, p.key.value, p.preshared_key, p.addresses)
            for name, p in zip(names, peers, strict=True)
        ),
        left=tuple(f"line {line}{said}" for line, said in sorted(left)),
        lets_out=any(_NAT.search(s.value) for s in _all(interface, "PostUp")),
    )


class _Reader:
    """The sections of a file, taken in line by line.

    A run of comment lines belongs to the header right below it, else to the section whose line it
    touches; one on its own belongs to nobody.
    """

    def __init__(self) -> None:
        self.interface: _Section | None = None
        self.peers: list[_Section] = []
        self._section: _Section | None = None
        self._run: list[str] = []
        self._touches = False  # whether a line of a section is right above the run

    def read(self, number: int, line: str) -> None:
        if "\0" in line:
            raise _bad(number, "there is a NUL byte", "is it a text file, in UTF-8?")
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

    def _open(self, number: int, body: str) -> _Section:
        kind = _SECTIONS.get(body.lower())
        if kind is None:
            raise _bad(number, f"{_shown(body)} is no section", f"there are {' and '.join(_KNOWN)}")
        section = self._section = _Section(number, kind, [], [])
        if kind == _PEER:
            self.peers.append(section)
            if len(self.peers) > MOST_CLIENTS:
                raise _bad(number, f"there are over {MOST_CLIENTS} peers", _WRONG_FILE)
        elif self.interface:
            first = self.interface.line
            raise _bad(number, f"there is an [Interface] in line {first} too", _TAKE_ONE_OUT)
        else:
            self.interface = section
        return section

    def _add(self, number: int, body: str) -> _Section:
        before, equals, value = body.partition("=")
        word, *more = before.split() or [""]
        if more or not equals:
            raise _bad(number, f"{_shown(word)} has no = after it", _COMMENT_OUT)
        section = self._section
        if section is None:
            raise _bad(number, f"{_shown(word)} is in no section", "put it below [Interface]")
        name = _KNOWN[section.kind].get(word.lower())
        if name is None:
            raise _bad(number, f"{_shown(word)} is no setting of {section.kind}", _COMMENT_OUT)
        setting = _Setting(number, name, value.strip())
        if name in _SECRETS:
            _check_secret(setting)  # at once, so that the rest of a broken one is never quoted
        section.settings.append(setting)
        return section


def _check_secret(setting: _Setting) -> None:
    try:
        raw = base64.b64decode(setting.value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES or base64.b64encode(raw).decode() != setting.value:
        message = f"the {setting.name} is no WireGuard key"
        raise _bad(setting.line, message, "copy its 44 characters whole")


def _read_private_key(interface: _Section) -> str:
    hint = "the one in use: wg show INTERFACE private-key"
    setting = _one(interface, "PrivateKey", hint)
    if setting.value == _NO_KEY:
        raise _bad(setting.line, "the PrivateKey is all zeros", hint)
    raw = bytearray(base64.b64decode(setting.value))
    raw[0] &= 248
    raw[31] = (raw[31] & 127) | 64
    return base64.b64encode(raw).decode()


def _read_addresses(interface: _Section) -> tuple[str, ...]:
    """The hub's own addresses. wg-quick takes spaces between them for commas."""
    found: dict[str, None] = {}
    for setting in _all(interface, "Address"):
        for text in setting.value.replace(",", " ").split():
            address, length = _at(setting.line, _parse_prefixed, text)
            _check_host(setting.line, address)
            found[f"{address}/{length}"] = None
            if len(found) > _MOST_ADDRESSES:
                raise _bad(setting.line, f"over {_MOST_ADDRESSES} addresses", _WRONG_FILE)
    if not found:
        raise _bad(interface.line, "this [Interface] has no Address", "ip address show INTERFACE")
    return tuple(found)


def _read_peer(section: _Section) -> _Peer:
    key = _one(section, "PublicKey", "take the section out, or complete it")
    try:
        parse_key(key.value)
    except BadInput as error:
        raise _bad(key.line, f"{_shown(key.value)} is no WireGuard key", error.hint) from None
    for setting in _all(section, "PersistentKeepalive"):
        if setting.value.lower() != "off":
            _at(setting.line, _parse_keepalive, setting.value)
    shared = _one_or_none(section, "PresharedKey")
    return _Peer(
        section=section,
        key=key,
        preshared_key=shared.value if shared and shared.value != _NO_KEY else None,
        ranges=_read_ranges(section),
    )


def _read_ranges(section: _Section) -> tuple[tuple[int, Range], ...]:
    found: dict[str, tuple[int, Range]] = {}
    for setting in _all(section, "AllowedIPs"):
        for text in setting.value.split(",") if setting.value else ():
            address, length = _at(setting.line, _parse_prefixed, text.strip())
            cidr = ip_network(f"{address}/{length}", strict=False)
            found.setdefault(str(cidr), (setting.line, cidr))
    return tuple(found.values())


def _check_peers(
    peers: Sequence[_Peer], names: Sequence[str], hub_addresses: tuple[str, ...]
) -> None:
    """Each client has addresses of the hub's ranges, and they and its key are nobody else's."""
    own = [ip_interface(a) for a in hub_addresses]
    keys: dict[str, int] = {}
    owners: dict[str, str] = {}  # by texts: one can choose ranges that all have the same hash
    for peer, name in zip(peers, names, strict=True):
        line = keys.setdefault(peer.key.value, peer.key.line)
        if line != peer.key.line:
            raise _bad(
                peer.key.line, f"client {name} has the PublicKey of line {line}", _TAKE_ONE_OUT
            )
        if not peer.addresses:
            raise _bad(
                peer.section.line,
                f"client {name} has no address of its own",
                "give it one among its AllowedIPs, such as 10.8.0.2/32",
            )
        for line, cidr in peer.ranges:
            owner = owners.setdefault(str(cidr), name)
            if owner != name:
                raise _bad(
                    line, f"{quote(cidr)} of client {name} is client {owner}'s too", _TAKE_ONE_OUT
                )
            if _is_host(cidr):
                _check_address(line, name, cidr.network_address, own)


def _check_address(
    line: int, name: str, address: Address, hub: Sequence[IPv4Interface | IPv6Interface]
) -> None:
    _check_host(line, address)
    if any(address == h.ip for h in hub):
        message = f"{quote(address)} of client {name} is the hub's own"
        raise _bad(line, message, "give the client another")
    ranges_told = all(h.network.num_addresses > 1 for h in hub if h.version == address.version)
    if ranges_told and not any(address.version == h.version and address in h.network for h in hub):
        ranges = ", ".join(str(h.network) for h in hub)
        raise _bad(
            line,
            f"{quote(address)} of client {name} is outside of the hub's {ranges}",
            "give the hub's Address the prefix length of a range that holds its clients",
        )


def _wider(host: Range) -> Range:
    """The usual range around a hub's address that came without one."""
    return host.supernet(new_prefix=_USUAL[host.version])


def _check_host(line: int, address: Address) -> None:
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise _bad(line, f"{quote(address)} is no machine's address", "use one like 10.8.0.1")


def _left(section: _Section, whose: str) -> Iterator[tuple[int, str]]:
    for s in section.settings:
        if s.name in _LEFT and s.value and (s.name, s.value.lower()) not in _DEFAULTS:
            yield s.line, f"{whose}: {s.name} = {_shown(s.value)}: {_LEFT[s.name]}"


def _left_ranges(peer: _Peer, whose: str) -> Iterator[tuple[int, str]]:
    for line, cidr in peer.ranges:
        if not _is_host(cidr):
            yield line, f"{whose}: AllowedIPs = {quote(cidr)}: {_NO_HOST}"


def _is_host(cidr: Range) -> bool:
    return cidr.prefixlen == cidr.max_prefixlen


def _parse_prefixed(text: str) -> tuple[Address, int]:
    """An address and its prefix length, that of a single host where there is none."""
    address, slash, length = text.partition("/")
    found = parse_address(address)
    whole = found.max_prefixlen
    return found, parse_int(length, 0, whole, "prefix length") if slash else whole


def _parse_keepalive(text: str) -> int:
    return parse_int(text, 0, MAX_PORT, "PersistentKeepalive")


def _all(section: _Section, name: str) -> list[_Setting]:
    return [setting for setting in section.settings if setting.name == name]


def _one_or_none(section: _Section, name: str) -> _Setting | None:
    found = _all(section, name)
    if len(found) > 1:
        raise _bad(found[1].line, f"there is a {name} in line {found[0].line} too", _TAKE_ONE_OUT)
    return found[0] if found else None


def _one(section: _Section, name: str, hint: str) -> _Setting:
    found = _one_or_none(section, name)
    if found is None:
        raise _bad(section.line, f"this {section.kind} has no {name}", hint)
    return found


def _at(line: int, parse: Callable[[str], Value], text: str) -> Value:
    """What `parse` makes of a text; its refusal names the line, and quotes it as `_shown` does."""
    try:
        return parse(without_keys(text))
    except BadInput as error:
        raise _bad(line, error.message, error.hint) from None


def _shown(text: str) -> str:
    return quote(without_keys(text))


def _bad(line: int, message: str, hint: str) -> BadInput:
    return BadInput(f"line {line}: {message}", hint)
