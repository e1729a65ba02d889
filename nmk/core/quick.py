"""The file of a WireGuard hub, as wg-quick(8), wg-easy and others write it, as a value.

What `wg setconf` and wg-quick(8) take is taken: keys in any case, settings and addresses that come
again (the last counts), bits of hosts, several [Interface]. What they refuse is refused.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from typing import TypeVar

from nmk.core.hub_names import distinct, name_in, without_keys
from nmk.core.parse import MAX_PORT, Range, parse_int, parse_port, quote
from nmk.core.sections import (
    PEER,
    WRONG_FILE,
    Reader,
    Section,
    all_of,
    bad,
    check_key,
    last_of,
    shown,
)
from nmk.core.tunnel import NO_KEY
from nmk.errors import BadInput

MOST_BYTES = 1 << 20  # of a file
_USUAL = {4: 24, 6: 64}  # prefix lengths
_MOST_MARK = 2**32 - 1
_LAST_COUNTS = ("PrivateKey", "ListenPort", "FwMark", "PublicKey", "PresharedKey")

_LEFT = {
    **dict.fromkeys(("PreUp", "PostUp", "PreDown", "PostDown"), "nmk runs no commands of the file"),
    "Table": "nmk sets its own routes",
    "SaveConfig": "clients that only `wg set` was told of are in the file after `wg-quick save`",
    "DNS": "nmk leaves the resolver alone",
    "MTU": "the MTU is a setting of the network",
    "FwMark": "nmk has a mark of its own",
}
_DEFAULTS = {("Table", "auto"), ("SaveConfig", "false"), ("FwMark", "off"), ("FwMark", "0")}

_NAT = re.compile(r"\b(?:masquerade|snat)\b", re.IGNORECASE)  # iptables(8), nft(8)

Value = TypeVar("Value")
Lines = Iterator[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class InUse:
    """What the hub's interface has while it is up: its key, and its port."""

    private_key: str = field(repr=False)
    listen_port: int


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer of the file, as `wg` has it afterwards. `line`: of its header.

    `ranges`: what is sent to it, without bits of hosts, each with its line.
    """

    line: int
    name: str
    public_key: str
    preshared_key: str | None = field(repr=False)
    ranges: tuple[tuple[int, Range], ...]


@dataclass(frozen=True, slots=True)
class HubConfig:
    """What the file of a hub says. `addresses`: with prefix lengths and lines.

    `private_key` is clamped (RFC 7748, 5), the form in which `wg` shows it. `left`: what of the
    file is not taken over, each line for people with the line of the file. `translates`: its hooks
    translate addresses, so its clients reach the internet, or a LAN, by the hub.
    """

    private_key: str = field(repr=False)
    listen_port: int
    addresses: tuple[tuple[int, IPv4Interface | IPv6Interface], ...]
    peers: tuple[Peer, ...]
    left: tuple[tuple[int, str], ...]
    translates: bool = False

    @property
    def ranges(self) -> tuple[str, ...]:
        """The ranges that the hub and its clients are in, as far as the file tells."""
        told = {a.version: a.network for _, a in reversed(self.addresses)}
        return tuple(str(told[f] if told[f].num_addresses > 2 else _wider(told[f]))
                     for f in sorted(told))  # fmt: skip


def decode_quick(raw: bytes) -> str:
    """The text of a file. Raises BadInput that names the line where it is too long.

    In comments and hooks there may be bytes of any encoding.
    """
    if len(raw) > MOST_BYTES:
        last = raw.count(b"\n", 0, MOST_BYTES) + 1
        raise bad(last, "the file goes on after 1 MiB", WRONG_FILE)
    return raw.decode(errors="replace")


def parse_quick(text: str, in_use: InUse | None = None) -> HubConfig:
    """The hub of a file (wg(8), CONFIGURATION FILE FORMAT; wg-quick(8), CONFIGURATION).

    `in_use`: what the hub has where it is up, for what the file does not say. Raises BadInput that
    names the line and quotes the culprit, unless that is a secret. More is refused than `wg` would:
    a hub has a key, a port and an address.
    """
    reader = Reader()
    for number, line in enumerate(f"{text}\n".removeprefix("\ufeff").split("\n"), 1):
        reader.read(number, line)
    interface = reader.interface
    if interface is None:
        last = text.rstrip().count("\n") + 1
        raise bad(last, "the file ends without an [Interface]", WRONG_FILE)
    _check(interface)
    for section in reader.peers:
        _check(section)
    private_key, odd_key = _read_private_key(interface, in_use)
    listen_port, odd_port = _read_port(interface, in_use)
    addresses, odd_addresses = _read_addresses(interface)
    peers, odd_peers = _read_peers(reader.peers)
    return HubConfig(
        private_key=private_key,
        listen_port=listen_port,
        addresses=addresses,
        peers=peers,
        left=(*odd_key, *odd_port, *odd_addresses, *_left(interface), *odd_peers),
        translates=any(_NAT.search(s.value) for s in all_of(interface, "PostUp")),
    )


Odd = list[tuple[int, str]]  # what is left out, with its line


def _check(section: Section) -> None:
    """Raises BadInput for a value that `wg` would refuse, even where another one counts."""
    for setting in section.settings:
        if setting.name == "PublicKey":
            check_key(setting, f"{shown(setting.value)} is no WireGuard key")
        elif check := _CHECKS.get(setting.name):
            _at(setting.line, check, setting.value)
    if section.kind == PEER and not all_of(section, "PublicKey"):
        hint = "take the section out, or complete it"
        raise bad(section.line, "this [Peer] has no PublicKey", hint)


def _read_private_key(interface: Section, in_use: InUse | None) -> tuple[str, Odd]:
    setting = last_of(interface, "PrivateKey")
    hint = "the one in use: wg show INTERFACE private-key"
    found, odd = setting.value if setting else NO_KEY, Odd()
    if found == NO_KEY:
        if in_use is None or not in_use.private_key:
            raise (
                bad(setting.line, "the PrivateKey is all zeros", hint)
                if setting
                else bad(interface.line, "this [Interface] has no PrivateKey", hint)
            )
        odd = [(setting.line, ": PrivateKey: the one in use is taken")] if setting else []
        found = in_use.private_key
    raw = bytearray(base64.b64decode(found))
    raw[0] &= 248
    raw[31] = (raw[31] & 127) | 64
    return base64.b64encode(raw).decode(), odd


def _read_port(interface: Section, in_use: InUse | None) -> tuple[int, Odd]:
    setting = last_of(interface, "ListenPort")
    try:
        if setting:
            return _at(setting.line, parse_port, setting.value), []
        hint = "the one in use: wg show INTERFACE listen-port"
        raise bad(interface.line, "this [Interface] has no ListenPort", hint)
    except BadInput:
        if in_use is None or not in_use.listen_port:
            raise
    said = f": ListenPort = {shown(setting.value)}: the one in use is taken" if setting else ""
    return in_use.listen_port, [(setting.line, said)] if setting else []


def _read_addresses(
    interface: Section,
) -> tuple[tuple[tuple[int, IPv4Interface | IPv6Interface], ...], Odd]:
    """The hub's own addresses. wg-quick takes spaces between for commas."""
    found: dict[str, tuple[int, IPv4Interface | IPv6Interface]] = {}
    odd: Odd = []
    for setting in all_of(interface, "Address"):
        for text in setting.value.replace(",", " ").split():
            own = _at(setting.line, _parse_prefixed, text)
            if why := why_no_host(own):
                odd.append((setting.line, f": Address = {quote(text)}: {why}"))
            else:
                found.setdefault(str(own), (setting.line, own))
    if not found:
        raise bad(interface.line, "this [Interface] has no Address", "ip address show INTERFACE")
    return tuple(found.values()), odd


def _read_peers(sections: Sequence[Section]) -> tuple[tuple[Peer, ...], Odd]:
    """The peers, as `wg setconf` leaves them.

    Of sections with one key the last says what is sent there, and a range is its last owner's.
    """
    odd: Odd = []
    names = distinct([name_in(section.comments) for section in sections])
    keys = [_value(section, "PublicKey") for section in sections]
    last = {key: number for number, key in enumerate(keys)}
    found = [_read_ranges(section) for section in sections]
    # By texts: one can choose ranges that all have the same hash.
    owners = {text: n for n, ranges in enumerate(found) for text in ranges}
    shared: dict[str, str] = {}
    peers = []
    for number, (section, name, key) in enumerate(zip(sections, names, keys, strict=True)):
        shared[key] = _value(section, "PresharedKey") or shared.get(key, NO_KEY)
        whose = f", client {name}"
        odd += [(line, f"{whose}{said}") for line, said in _left(section)]
        if last[key] != number:
            other = sections[last[key]].line
            odd.append((section.line, f"{whose}: the [Peer] of line {other} has the same key"))
            continue
        kept = []
        for text, (line, cidr) in found[number].items():
            if owners[text] == number:
                kept.append((line, cidr))
            else:
                said = f"AllowedIPs = {quote(text)}: client {names[owners[text]]} has it too"
                odd.append((line, f"{whose}: {said}"))
        psk = shared[key] if shared[key] != NO_KEY else None
        peers.append(Peer(section.line, name, key, psk, tuple(kept)))
    return tuple(peers), odd + _endpoints(sections, names)


def _value(section: Section, name: str) -> str:
    setting = last_of(section, name)
    return setting.value if setting else ""


def _read_ranges(section: Section) -> dict[str, tuple[int, Range]]:
    """What is sent to the peer, each range once, with its line."""
    found: dict[str, tuple[int, Range]] = {}
    for setting in all_of(section, "AllowedIPs"):
        for text in setting.value.split(","):
            cidr = _at(setting.line, _parse_prefixed, text).network
            found.setdefault(str(cidr), (setting.line, cidr))
    return found


def _wider(host: Range) -> Range:
    """The usual range around a hub's address that came without one."""
    return host.supernet(new_prefix=_USUAL[host.version])


def why_no_host(own: IPv4Interface | IPv6Interface) -> str | None:
    """Why an address is none that a machine of a network has."""
    address = own.ip
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        return "it is no machine's address"
    if address.is_link_local:
        return "it is of one link alone, and no network's"
    if address.version == 6 and address.ipv4_mapped:
        return "it is IPv4 in IPv6"
    return None


def _left(section: Section) -> Lines:
    last = {s.name: s.line for s in section.settings}
    for s in section.settings:
        if s.name in _LAST_COUNTS and s.line != last[s.name]:
            yield s.line, f": {s.name}: that of line {last[s.name]} counts"
        elif s.name in _LEFT and s.value and (s.name, s.value.lower()) not in _DEFAULTS:
            yield s.line, f": {s.name} = {shown(s.value)}: {_LEFT[s.name]}"


def _endpoints(sections: Sequence[Section], names: Sequence[str]) -> Odd:
    """`wg-quick save` writes one of each client that is there: a line for all of them."""
    found = [
        (setting, name)
        for section, name in zip(sections, names, strict=True)
        for setting in all_of(section, "Endpoint")
    ]
    if not found:
        return []
    (first, name), more = found[0], len(found) - 1
    others = f" (so are {more} more)" if more else ""
    said = f"Endpoint = {shown(first.value)}: a client is answered where it calls from{others}"
    return [(first.line, f", client {name}: {said}")]


def _parse_prefixed(text: str) -> IPv4Interface | IPv6Interface:
    """An address and its prefix length, that of a single host where there is none."""
    host, slash, length = text.partition("/")
    try:
        address = ip_address(host)
    except ValueError:
        address = None
    if address is None or "%" in host:
        raise BadInput(f"{quote(host)} is no IP address", "write it like 10.20.0.7")
    whole = address.max_prefixlen
    bits = _parse_digits(length, whole, "prefix length") if slash else whole
    return ip_interface(f"{address}/{bits}")


def _parse_keepalive(text: str) -> None:
    if text.lower() != "off":
        _parse_digits(text, MAX_PORT, "PersistentKeepalive")


def _parse_digits(text: str, most: int, what: str) -> int:
    """Digits as strtoul(3) reads them: there may be zeros before."""
    digits = text.lstrip("0") or text[-1:]
    if digits.startswith("-"):
        raise BadInput(f"{quote(text)} cannot be the {what}", f"use a number from 0 to {most}")
    return parse_int(digits, 0, most, what)


def _parse_mark(text: str) -> None:
    """Off, or a number: hexadecimal after 0x, else decimal."""
    number = None
    if found := re.fullmatch(r"0x([0-9A-Fa-f]{1,16})|([0-9]{1,20})", text, re.ASCII):
        number = int(found[1], 16) if found[1] else int(found[2])
    if text.lower() != "off" and (number is None or number > _MOST_MARK):
        raise BadInput(f"{quote(text)} cannot be the FwMark", "use a number, or off")


def _parse_port_number(text: str) -> None:
    """What is a number, whatever becomes of it: 0 is a port that `wg` chooses."""
    if not re.fullmatch(r"[0-9]{1,20}", text, re.ASCII):
        parse_port(text)


def _parse_bool(text: str) -> None:
    if text.lower() not in {"true", "false"}:
        raise BadInput(f"{quote(text)} cannot be SaveConfig", "use true or false")


def _parse_endpoint(text: str) -> None:
    """A host, which may have a name, and a port."""
    host, _, port = text.rpartition(":")
    if not host or not port or host.startswith("[") != host.endswith("]"):
        raise BadInput(f"{quote(text)} is no endpoint", "take it out: clients call the hub")


_CHECKS: dict[str, Callable[[str], None]] = {
    "ListenPort": _parse_port_number,
    "FwMark": _parse_mark,
    "Endpoint": _parse_endpoint,
    "PersistentKeepalive": _parse_keepalive,
    "SaveConfig": _parse_bool,
}


def _at(line: int, parse: Callable[[str], Value], text: str) -> Value:
    """What `parse` makes of a text; its refusal names the line, and quotes it as `shown` does."""
    try:
        return parse(without_keys(text))
    except BadInput as error:
        raise bad(line, error.message, error.hint) from None
