"""Text to value. Every function names the culprit when it refuses."""

from __future__ import annotations

import base64
import binascii
import re
import reprlib
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_interface,
    ip_network,
)

from nmk.errors import BadInput

Address = IPv4Address | IPv6Address
Range = IPv4Network | IPv6Network

EVERYTHING = ("0.0.0.0/0", "::/0")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_INTERFACE = re.compile(r"[A-Za-z0-9_=+.-]{1,15}", re.ASCII)  # wg-quick(8); IFNAMSIZ - 1 bytes
_NUMBER = re.compile(r"-?[0-9]{1,20}", re.ASCII)
_DURATION = re.compile(r"([0-9]{1,9})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_LONGEST_DURATION = 100 * 365 * 86400  # seconds; calendars end in the year 9999
MAX_PORT = 65535
KEY_BYTES = 32
_LONGEST_QUOTE = 80
_WIDEST = {4: 8, 6: 32}  # a range wider than this is a slip of the keyboard
_NARROWEST = {4: 30, 6: 126}  # room for two machines
_MAPPED = IPv6Network("::ffff:0:0/96")  # RFC 4291, 2.5.5.2


class _Brief(reprlib.Repr):
    """As `repr`, but never deep or long, whatever the value is."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring, self.maxother = _LONGEST_QUOTE, 2 * _LONGEST_QUOTE

    def repr_int(self, x: int, _level: int) -> str:
        """Python refuses to write a long one in decimal (ValueError)."""
        is_short = x.bit_length() < 4 * _LONGEST_QUOTE
        return str(x) if is_short else hex(x)[: 2 * _LONGEST_QUOTE]


_BRIEF = _Brief()
_NO_TEXT = (int, list, tuple, dict, set, frozenset)


def brief(value: object) -> str:
    """A value, or an error, as Python writes it, in no more than a few lines. Never fails."""
    return _BRIEF.repr(value)


def quote(text: object) -> str:
    """The culprit as an error shows it: quoted, escaped, never long."""
    shown = brief(text) if isinstance(text, _NO_TEXT) else str(text)
    if len(shown) > _LONGEST_QUOTE:
        shown = shown[: _LONGEST_QUOTE - 3] + "..."
    return repr(shown)


def find_meant(word: str, known: Iterable[str]) -> str | None:
    """The one of the known names that a mistyped one is nearly; None where none is."""
    from difflib import get_close_matches  # too much for each start

    return next(iter(get_close_matches(word.lower(), known, n=1, cutoff=0.6)), None)


def look_in(command: str, word: str, known: Iterable[str]) -> str:
    """The command that lists what there is, as a hint, with the name that was meant."""
    meant = find_meant(word, known)
    return f"{command}   ({meant}?)" if meant else command


def parse_label(text: str, what: str = "name") -> str:
    """A DNS label in lower case (RFC 1123, 2.1): networks and nodes are named so."""
    if not _LABEL.fullmatch(text):
        raise BadInput(
            f"{quote(text)} cannot be a {what}",
            "use a-z, 0-9 and inner hyphens, at most 63 characters",
        )
    return text


def parse_network_name(text: str) -> str:
    """A network's name: a label, and none that a settings file has beside the networks'."""
    if parse_label(text, "network name") in {"agent", "server"}:
        raise BadInput(f"{quote(text)} cannot be a network name", "choose another name")
    return text


def label_from(text: str) -> str:
    """The label nearest to a free text such as a host name; "node" where nothing is left."""
    label = re.sub(r"[^a-z0-9-]+", "-", text.split(".", maxsplit=1)[0].lower())[:63].strip("-")
    return label or "node"


def parse_interface(text: str) -> str:
    """A network interface's name, 15 bytes at most."""
    if not _INTERFACE.fullmatch(text) or text in {".", ".."}:
        raise BadInput(
            f"{quote(text)} cannot be an interface name",
            "use at most 15 letters, digits and _=+.-",
        )
    return text


def parse_int(text: str | int, low: int, high: int, what: str) -> int:
    """A whole number within bounds, both included."""
    is_number = isinstance(text, int) and not isinstance(text, bool)
    if is_number or (isinstance(text, str) and _NUMBER.fullmatch(text)):
        value = int(text)
        if low <= value <= high:
            return value
    raise BadInput(f"{quote(text)} cannot be the {what}", f"use a number from {low} to {high}")


def parse_seconds(text: str, most: int, what: str) -> float:
    """A time in seconds, from none to so many."""
    with suppress(ValueError):
        seconds = float(text)
        if 0 <= seconds <= most:  # and no NaN
            return seconds
    raise BadInput(f"{quote(text)} cannot be the {what}", f"use a number from 0 to {most}")


def parse_port(text: str | int) -> int:
    """A UDP or TCP port, 1-65535."""
    return parse_int(text, 1, MAX_PORT, "port")


def parse_address(text: str) -> Address:
    """An IPv4 or IPv6 address without zone, IPv4-mapped ones refused."""
    try:
        address = read_address(_as_text(text))
    except ValueError:
        raise BadInput(f"{quote(text)} is no IP address", "write it like 10.20.0.7") from None
    if isinstance(address, IPv6Address) and (address.scope_id or address.ipv4_mapped):
        raise BadInput(f"{quote(text)} cannot be used here", "write the plain address")
    return address


def parse_interface_address(text: str) -> tuple[Address, str]:
    """An address, and the same with its prefix length, "192.168.1.7/24", in canonical form.

    One with a zone is refused.
    """
    try:
        host, _, length = _as_text(text).partition("/")
        address = read_address(host)
        # ip_interface makes a network as well, which costs more than all the rest.
        plain = length.isascii() and length.isdecimal() and str(int(length)) == length
        if plain and int(length) <= address.max_prefixlen:
            found = f"{address}/{length}"
        else:
            found = str(ip_interface(text))
    except ValueError:
        address, found = IPv4Address(0), ""
    if not found or "%" in found:
        raise BadInput(f"{quote(text)} is no address with a prefix length")
    return address, found


def read_address(text: str) -> Address:
    """As `ip_address`, which tries IPv4 first: that costs more than all the rest of an IPv6 one.

    Raises ValueError.
    """
    return IPv6Address(text) if ":" in text else IPv4Address(text)


def _as_text(value: object) -> str:
    """What JSON holds where a text should be: Python's ipaddress reads numbers as well."""
    if not isinstance(value, str):
        raise ValueError(value)  # noqa: TRY004  # so that it is refused like a bad text
    return value


def parse_cidr(text: str) -> Range:
    """A range in CIDR form: no host bits, no zone, its prefix length written out."""
    try:
        cidr = ip_network(_as_text(text))
    except ValueError as error:
        why, hint = "is no range", "write it like 10.20.0.0/16 or fd12:3456:789a::/64"
        if "host bits" in str(error) and "%" not in text:
            why = "has host bits set"
            hint = f"the range that holds it is {ip_network(text, strict=False)}"
        raise BadInput(f"{quote(text)} {why}", hint) from None
    if "%" in text:
        raise BadInput(f"{quote(text)} has a zone", "write the plain range")
    if "/" not in text:
        raise BadInput(f"{quote(text)} is no range", f"write it with its prefix: {cidr}")
    if isinstance(cidr, IPv6Network) and cidr.subnet_of(_MAPPED):
        raise BadInput(f"{quote(text)} is IPv4 in IPv6", "write it as an IPv4 range")
    return cidr


def parse_range(text: str) -> Range:
    """A network's range in CIDR form: no host bits, unicast, room for two machines or more."""
    cidr = parse_cidr(text)
    low, high = _WIDEST[cidr.version], _NARROWEST[cidr.version]
    if not low <= cidr.prefixlen <= high:
        raise BadInput(
            f"{quote(text)} has the wrong size for a network",
            f"use a prefix from /{low} to /{high}",
        )
    if (
        cidr.is_multicast
        or cidr.is_loopback
        or cidr.is_link_local
        or cidr.is_reserved
        or cidr.network_address.is_unspecified
    ):
        raise BadInput(
            f"{quote(text)} is reserved and cannot carry a network",
            "use a private range such as 10.20.0.0/16",
        )
    return cidr


def overlap(one: Range, other: Range) -> bool:
    """Whether two ranges share addresses."""
    return one.version == other.version and one.overlaps(other)


def parse_endpoint(text: str) -> str:
    """`ADDRESS:PORT` or `[ADDRESS6]:PORT`, in canonical form."""
    check_no_url(text)
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host) != (host.startswith("[") and host.endswith("]")):
        raise BadInput(
            f"{quote(text)} is no endpoint",
            "write it like 198.51.100.7:51821 or [2001:db8::7]:51821",
        )
    try:
        address = parse_address(host[1:-1] if ":" in host else host)
    except BadInput as error:
        hint = "give an address and no name, like 198.51.100.7:51821 or [2001:db8::7]:51821"
        raise BadInput(error.message, hint) from None
    if address.is_unspecified or address.is_multicast:
        raise BadInput(f"{quote(text)} cannot be reached", "use the machine's own address")
    return join_endpoint(address, parse_port(port))


def check_no_url(text: str) -> None:
    """Raises BadInput where an endpoint is written as a URL."""
    _, scheme, rest = text.partition("://")
    if scheme:
        place = rest.partition("/")[0]
        raise BadInput(f"{quote(text)} is a URL, and no endpoint", f"without the rest: {place}")


def parse_pinned(text: str) -> str:
    """As `parse_endpoint`, or the address alone where the node's own port is meant."""
    found = parse_endpoint(with_port(text, MAX_PORT))
    return found if with_port(text, MAX_PORT) == text else found.rpartition(":")[0]


def with_port(text: str, port: int) -> str:
    """The text of an endpoint, with this port where it is `HOST` or `[ADDRESS6]` alone."""
    return f"{text}:{port}" if text.endswith("]") or (text and ":" not in text) else text


def join_endpoint(address: Address | str, port: int) -> str:
    """The text form of an endpoint, as `wg` reads and prints it."""
    return f"[{address}]:{port}" if ":" in str(address) else f"{address}:{port}"


def parse_key(text: str) -> str:
    """A Curve25519 public key in base64, as `wg pubkey` prints it; all zeros are refused."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != KEY_BYTES or not any(raw) or base64.b64encode(raw).decode() != text:
        raise BadInput(f"{quote(text)} is no WireGuard key", "copy the 44 characters whole")
    return text


def parse_duration(text: str) -> int | None:
    """Seconds of `90s`, `15m`, `24h`, `7d`, `2w`; None for `never`."""
    if text == "never":
        return None
    found = _DURATION.fullmatch(text)
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 0 < seconds <= _LONGEST_DURATION:
        raise BadInput(f"{quote(text)} is no time span", "write it like 30m, 24h, 7d or never")
    return seconds
