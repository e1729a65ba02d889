"""The dearest replies that a controller, or anybody on the path, can send to a machine."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from hashlib import blake2b
from typing import Any

from nmk.core.peers import MOST_CANDIDATES, MOST_EGRESS_RANGES, MOST_INFLATED, MOST_OTHERS
from nmk.core.settings import effective
from nmk.core.view import DEFLATED
from nmk.wire.envelope import MAX_REPLY

Json = dict[str, Any]
Make = Callable[[], bytes]
HONEST = "10,000 nodes and 1,000 ext clients"
RANGES = ("10.64.0.0/10", "fd77::/64")
_LARGE = 64 * 1024 * 1024
_FLOOD = {  # what a reply can be full of
    "empty lists": b"[],",
    "small objects": b'{"a":{}},',
    "long numbers": b"9" * 4000 + b",",
    "short texts": b'"ab",',
    "nested lists": b"[",
    "ids": b'"0123456789abcdef",',
}


def lies(head: Json) -> dict[str, Make]:
    """What each sends, by its name: the packed body of a sealed reply, or a whole HTTP response.

    `head`: a full view with nobody in it.
    """

    def view(peers: Iterable[bytes], more: bytes = b"") -> bytes:
        start = json.dumps(head).encode()[:-1]
        return packed(start + more + b',"peers":[[' + b",".join(peers) + b"]]}")

    def flooded(piece: bytes, before: bytes, after: bytes) -> bytes:
        return packed(json.dumps(head).encode()[:-1] + before + flood(piece) + after)

    few = MOST_EGRESS_RANGES // 64
    found: dict[str, Make] = {
        HONEST: lambda: view(map(node, range(10_000)), clients(1_000)),
        "the largest": lambda: view(node(n, lan=_LAN) for n in range(MOST_OTHERS)),
        "the longest": lambda: view(longest(n) for n in range(MOST_OTHERS)),
        "one too many": lambda: view(map(node, range(MOST_OTHERS + 1))),
        "as many ranges as may be": lambda: view(node(n, ranges=64) for n in range(few)),
        "4,000 gateways of 64 ranges": lambda: view(node(n, ranges=64) for n in range(4_000)),
        "one node again and again": lambda: view([node(1, lan=64)] * 3_000),
        "an unsealed text": lambda: http(200, b'{"code":"' + b"x" * _LARGE),
        "an error page": lambda: http(500, b"[" * _LARGE),
        "not under seal": lambda: http(200, b"nmk1\x82" + bytes(MAX_REPLY - 5)),
        "a bomb": lambda: DEFLATED + deflated(b"0" * (1 << 20), 2048)[: MAX_REPLY - 4096],
        "many fields": lambda: view([], b"".join(b',"f%d":0' % n for n in range(500_000))),
    }
    for field in (b'"":0', b'"peers":[]', b'"gone":["0123456789abcdef"]'):
        again = partial(flooded, field + b",", b",", b'"x":0}')
        found[f"{field.partition(b':')[0].decode()} again and again"] = again
    for name, piece in _FLOOD.items():
        found[f"nodes are {name}"] = partial(flooded, piece, b',"peers":[[', b"0]]}")
        found[f"blocks are {name}"] = partial(flooded, piece, b',"peers":[', b"0]}")
        found[f"a field of {name}"] = partial(flooded, piece, b',"x":[', b"0]}")
        found[f"gone are {name}"] = partial(flooded, piece, b',"gone":[', b"0]}")
    return found


_LAN = MOST_CANDIDATES // MOST_OTHERS - 1


def node(number: int, lan: int = 2, ranges: int = 0) -> bytes:
    """A node's entry."""
    high, low = divmod(number, 250)
    wide = [f"172.{16 + i // 256}.{i % 256}.0/24" for i in range(number * 64 % 4032, 4096)]
    egress = {"ranges": wide[:ranges], "nat": "auto", "interface": None, "metric": 100}
    entry = {
        "id": f"{number + 16:016x}",
        "name": f"machine-{number:05}",
        "key": key(number),
        "addresses": [f"10.64.{high}.{low + 2}", f"fd77::{number + 2:x}"],
        "port": 51821,
        "lan": [f"192.168.{high % 256}.{(low + i) % 256}/24" for i in range(lan)],
        "observed": ["198.51.100.7"],
        **({"gateway": {"egress": egress}} if ranges else {}),
    }
    return json.dumps(entry, separators=(",", ":")).encode()


def longest(number: int) -> bytes:
    """A node's entry that says all that a controller tells of everybody, and hardly deflates."""
    noise = blake2b(b"%d" % number, digest_size=64).hexdigest()
    entry = json.loads(node(number, lan=1)) | {
        "name": noise[:63],
        "addresses": [f"10.64.{number // 250}.{number % 250 + 2}", f"fd77::{number + 2:x}"],
        "observed": ["198.51.100.7", _address6(noise[64:])],
        "static": f"[{_address6(noise[32:])}]:51821",
        "lan": [f"{_address6(noise[::-1])}/64"],
    }
    return json.dumps(entry, separators=(",", ":")).encode()


def _address6(digits: str) -> str:
    return "2a01:db8:" + ":".join(f"f{digits[i : i + 3]}" for i in range(0, 18, 3))


def clients(count: int) -> bytes:
    """A view's field of ext clients."""
    rows = [
        {
            "id": f"{number + (1 << 32):016x}",
            "name": f"phone-{number:05}",
            "key": key(number + (1 << 32)),
            "addresses": [f"10.100.{number // 250}.{number % 250 + 2}"],
            "via": f"{17:016x}",
        }
        for number in range(count)
    ]
    return b',"clients":[' + json.dumps(rows).encode() + b"]"


def key(number: int) -> str:
    """A WireGuard key of its own for each number."""
    return base64.b64encode(blake2b(b"%d" % number, digest_size=32).digest()).decode()


def flood(piece: bytes) -> bytes:
    """The piece as often as still goes into a reply."""
    return piece * ((MOST_INFLATED - 4096) // len(piece))


def packed(body: bytes) -> bytes:
    """A body as it is sealed."""
    return DEFLATED + deflated(body, 1)


def deflated(piece: bytes, times: int) -> bytes:
    """A deflate stream of a piece repeated."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return b"".join([*(deflater.compress(piece) for _ in range(times)), deflater.flush()])


def http(status: int, body: bytes) -> bytes:
    """A whole HTTP response."""
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(body)) + body


def empty_view(me: str) -> Json:
    """A full view with nobody in it, for the node with this id."""
    address = ["10.127.255.1", "fd77::1:1"]
    return {
        "epoch": "00" * 8,
        "at": [7, "c0ffee"],
        "full": True,
        "network": {"name": "home", "cidrs": RANGES, **effective({})},
        "self": {"id": me, "name": "victim", "addresses": address, "observed": [], "seq": 0},
    }
