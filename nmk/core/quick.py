"""The file of a WireGuard hub, as wg-quick(8), wg-easy and others write it, as a value."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface, ip_interface, ip_network
from typing import TypeVar

from nmk.core.gateways import MOST_RANGES, parse_egress_range
from nmk.core.hub_names import distinct, name_in, without_keys
from nmk.core.parse import (
    KEY_BYTES,
    MAX_PORT,
    Address,
    Range,
    overlap,
    parse_address,
    parse_int,
    parse_key,
    parse_port,
    quote,
)
from nmk.core.sections import (
    TAKE_ONE_OUT,
    WRONG_FILE,
    Reader,
    Section,
    Setting,
    all_of,
    bad,
    one,
    one_or_none,
    shown,
)
from nmk.errors import BadInput

MOST_BYTES = 1 << 20  # of a file
_USUAL = {4: 24, 6: 64}  # prefix lengths

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
_DEFAULTS = {("Table", "auto"), ("SaveConfig", "false"), ("FwMark", "off"), ("FwMark", "0")}

_NAT = re.compile(r"\b(?:masquerade|snat)\b", re.IGNORECASE)  # iptables(8), nft(8)

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class HubClient:
    """A peer of the hub. `addresses`: the single hosts among its AllowedIPs, IPv4 first.

    `routes`: the LANs among them, where it is a router; `name` is a DNS label that no other client
    of the hub has.
    """

    name: str
    public_key: str
    preshared_key: str | None = field(repr=False)
    addresses: tuple[str, ...]
    routes: tuple[str, ...] = ()


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
        return tuple(str(r if r.num_addresses > 2 else _wider(r)) for r in told)


@dataclass(frozen=True, slots=True)
class _Peer:
    section: Section
    key: Setting
    preshared_key: str | None = field(repr=False)
    ranges: tuple[tuple[int, Range], ...]  # with their lines

    @property
    def addresses(self) -> tuple[str, ...]:
        hosts = [r.network_address for _, r in self.ranges if _is_host(r)]
        return tuple(str(a) for a in sorted(hosts, key=lambda a: a.version))

    def routes(self, hub: Sequence[str]) -> tuple[str, ...]:
        """The ranges of a LAN behind it, which an egress gateway could have too. `hub`: addresses.

        No more of them than one gateway may have.
        """
        found = [str(r) for _, r in self.ranges if not _is_host(r) and not _no_route(r, hub)]
        return tuple(found[:MOST_RANGES])


def decode_quick(raw: bytes) -> str:
    """The text of a file. Raises BadInput that names the line where it is too long, or no text."""
    if len(raw) > MOST_BYTES:
        last = raw.count(b"\n", 0, MOST_BYTES) + 1
        raise bad(last, "the file goes on after 1 MiB", WRONG_FILE)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise bad(line, "this is no text in UTF-8", "correct it, or take it out") from None


def parse_quick(text: str) -> Hub:
    """The hub of a file (wg(8), CONFIGURATION FILE FORMAT; wg-quick(8), CONFIGURATION).

    Raises BadInput that names the line and quotes the culprit, unless that is a secret. More is
    refused than `wg` would: a hub has a port and addresses, and a client has an address and a key
    that nobody else has.
    """
    reader = Reader()
    for number, line in enumerate(f"{text}\n".removeprefix("\ufeff").split("\n"), 1):
        reader.read(number, line)
    interface = reader.interface
    if interface is None:
        last = text.rstrip().count("\n") + 1
        raise bad(last, "the file ends without an [Interface]", WRONG_FILE)
    private_key = _read_private_key(interface)
    port = one(interface, "ListenPort", "the one in use: wg show INTERFACE listen-port")
    listen_port = _at(port.line, parse_port, port.value)
    addresses = _read_addresses(interface)
    peers = [_read_peer(section) for section in reader.peers]
    names = distinct([name_in(section.comments) for section in reader.peers])
    _check_peers(peers, names, addresses)
    left = [*_left(interface, "")]
    for name, peer in zip(names, peers, strict=True):
        whose = f", client {name}"
        left += [*_left(peer.section, whose), *_left_ranges(peer, whose, addresses)]
    return Hub(
        private_key=private_key,
        listen_port=listen_port,
        addresses=addresses,
        clients=tuple(
            HubClient(name, p.key.value, p.preshared_key, p.addresses, p.routes(addresses))
            for name, p in zip(names, peers, strict=True)
        ),
        left=tuple(f"line {line}{said}" for line, said in sorted(left)),
        lets_out=any(_NAT.search(s.value) for s in all_of(interface, "PostUp")),
    )


def _read_private_key(interface: Section) -> str:
    hint = "the one in use: wg show INTERFACE private-key"
    setting = one(interface, "PrivateKey", hint)
    if setting.value == _NO_KEY:
        raise bad(setting.line, "the PrivateKey is all zeros", hint)
    raw = bytearray(base64.b64decode(setting.value))
    raw[0] &= 248
    raw[31] = (raw[31] & 127) | 64
    return base64.b64encode(raw).decode()


def _read_addresses(interface: Section) -> tuple[str, ...]:
    """The hub's own addresses, as a node has them. wg-quick takes spaces between for commas."""
    found: dict[int, IPv4Interface | IPv6Interface] = {}
    for setting in all_of(interface, "Address"):
        for text in setting.value.replace(",", " ").split():
            address, length = _at(setting.line, _parse_prefixed, text)
            _check_host(setting.line, address)
            own = ip_interface(f"{address}/{length}")
            first = found.setdefault(own.version, own)
            if first != own:
                raise bad(
                    setting.line,
                    f"the hub has two IPv{own.version} addresses, {first} and {own}",
                    "take one out, and nothing but nmk changes: a node has one of each family",
                )
    if not found:
        raise bad(interface.line, "this [Interface] has no Address", "ip address show INTERFACE")
    return tuple(str(a) for a in found.values())


def _read_peer(section: Section) -> _Peer:
    key = one(section, "PublicKey", "take the section out, or complete it")
    try:
        parse_key(key.value)
    except BadInput as error:
        raise bad(key.line, f"{shown(key.value)} is no WireGuard key", error.hint) from None
    for setting in all_of(section, "PersistentKeepalive"):
        if setting.value.lower() != "off":
            _at(setting.line, _parse_keepalive, setting.value)
    shared = one_or_none(section, "PresharedKey")
    return _Peer(
        section=section,
        key=key,
        preshared_key=shared.value if shared and shared.value != _NO_KEY else None,
        ranges=_read_ranges(section),
    )


def _read_ranges(section: Section) -> tuple[tuple[int, Range], ...]:
    found: dict[str, tuple[int, Range]] = {}
    for setting in all_of(section, "AllowedIPs"):
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
            raise bad(
                peer.key.line, f"client {name} has the PublicKey of line {line}", TAKE_ONE_OUT
            )
        if not peer.addresses:
            raise bad(
                peer.section.line,
                f"client {name} has no address of its own",
                "give it one among its AllowedIPs, such as 10.8.0.2/32",
            )
        for line, cidr in peer.ranges:
            owner = owners.setdefault(str(cidr), name)
            if owner != name:
                raise bad(
                    line, f"{quote(cidr)} of client {name} is client {owner}'s too", TAKE_ONE_OUT
                )
            if _is_host(cidr):
                _check_address(line, name, cidr.network_address, own)


def _check_address(
    line: int, name: str, address: Address, hub: Sequence[IPv4Interface | IPv6Interface]
) -> None:
    _check_host(line, address)
    if any(address == h.ip for h in hub):
        message = f"{quote(address)} of client {name} is the hub's own"
        raise bad(line, message, "give the client another")
    ranges_told = all(h.network.num_addresses > 1 for h in hub if h.version == address.version)
    if ranges_told and not any(address.version == h.version and address in h.network for h in hub):
        ranges = ", ".join(str(h.network) for h in hub)
        raise bad(
            line,
            f"{quote(address)} of client {name} is outside of the hub's {ranges}",
            "give the hub's Address the prefix length of a range that holds its clients",
        )


def _wider(host: Range) -> Range:
    """The usual range around a hub's address that came without one."""
    return host.supernet(new_prefix=_USUAL[host.version])


def _check_host(line: int, address: Address) -> None:
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise bad(line, f"{quote(address)} is no machine's address", "use one like 10.8.0.1")
    if address.is_link_local:
        raise bad(line, f"{quote(address)} is of one link alone, and no network's", "take it out")


def _left(section: Section, whose: str) -> Iterator[tuple[int, str]]:
    for s in section.settings:
        if s.name in _LEFT and s.value and (s.name, s.value.lower()) not in _DEFAULTS:
            yield s.line, f"{whose}: {s.name} = {shown(s.value)}: {_LEFT[s.name]}"


def _left_ranges(peer: _Peer, whose: str, hub: Sequence[str]) -> Iterator[tuple[int, str]]:
    routes = peer.routes(hub)
    for line, cidr in peer.ranges:
        if not _is_host(cidr) and str(cidr) not in routes:
            why = _no_route(cidr, hub) or f"a router has at most {MOST_RANGES} ranges"
            yield line, f"{whose}: AllowedIPs = {quote(cidr)}: {why}"


def _no_route(cidr: Range, hub: Sequence[str]) -> str | None:
    """Why a range is none of a LAN behind a client."""
    if any(overlap(cidr, ip_interface(address).network) for address in hub):
        return "it is the hub's own"
    try:
        parse_egress_range(str(cidr))
    except BadInput as error:
        return error.message
    return None


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


def _at(line: int, parse: Callable[[str], Value], text: str) -> Value:
    """What `parse` makes of a text; its refusal names the line, and quotes it as `shown` does."""
    try:
        return parse(without_keys(text))
    except BadInput as error:
        raise bad(line, error.message, error.hint) from None
