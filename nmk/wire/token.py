"""The join token: all that a new machine needs to find, trust and enter a network.

`nmk1.` and base64url of zlib-compressed JSON, ended by a checksum so that half a token is told
from a wrong one. It is a secret: whoever has it can join while its key lasts.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import zlib
from dataclasses import dataclass, field
from hashlib import sha256
from urllib.parse import urlsplit

from nmk.core.nesting import read_json
from nmk.core.parse import parse_label, quote
from nmk.errors import BadInput, TokenMalformed

PREFIX = "nmk1."
_CHECK_BYTES = 4
_LONGEST = 8192  # characters; a token with a few URLs has about 250
_MAX_URLS = 16
_TEXT = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """Controller URLs and public key, the access key's id and secret, the network's name."""

    urls: tuple[str, ...]
    controller_key: bytes
    network: str
    key_id: str
    secret: bytes = field(repr=False)


def encode_token(token: Token) -> str:
    """The printed form."""
    body = json.dumps(
        [
            list(token.urls),
            _b64(token.controller_key),
            token.network,
            token.key_id,
            _b64(token.secret),
        ],
        separators=(",", ":"),
    )
    raw = zlib.compress(body.encode(), 9)
    return PREFIX + _b64(raw + sha256(raw).digest()[:_CHECK_BYTES])


def parse_token(text: str) -> Token:
    """The token in a text, white space around it allowed. Raises TokenMalformed."""
    text = text.strip()
    body = text.removeprefix(PREFIX)
    if body == text or len(text) > _LONGEST or not _TEXT.fullmatch(body):
        raise TokenMalformed(f"{_shown(text)} is no join token")
    try:
        checked = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))
    except binascii.Error:
        checked = b""
    raw, check = checked[:-_CHECK_BYTES], checked[-_CHECK_BYTES:]
    is_whole = sha256(raw).digest()[:_CHECK_BYTES] == check
    if not is_whole or _b64(checked) != body:  # base64 has bits that mean nothing at its end
        raise TokenMalformed(f"{_shown(text)} is damaged or cut off")
    try:
        inflated = zlib.decompressobj().decompress(raw, _LONGEST)
        urls, key, network, key_id, secret = read_json(inflated)
        token = Token(
            urls=tuple(parse_url(url) for url in urls[:_MAX_URLS]),
            controller_key=_unb64(key),
            network=parse_label(network, "network name"),
            key_id=parse_label(key_id, "key id"),
            secret=_unb64(secret),
        )
    except (zlib.error, ValueError, TypeError, LookupError, BadInput) as error:
        raise TokenMalformed(f"{_shown(text)} holds no valid token: {error}") from None
    if not token.urls:
        raise TokenMalformed(f"{_shown(text)} names no controller")
    return token


def parse_url(text: str) -> str:
    """A controller's base URL, `http` or `https`, without path, query or user."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except (ValueError, TypeError, AttributeError):
        raise BadInput(
            f"{quote(text)} is no URL", "write it like http://198.51.100.7:50051"
        ) from None
    bare = not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not bare or port == 0:
        raise BadInput(
            f"{quote(text)} cannot be a controller's URL", "write it like http://198.51.100.7:50051"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadInput(f"{quote(text)} has characters that no URL has")
    return f"{parts.scheme}://{parts.netloc}"


def _shown(text: str) -> str:
    """Enough of a token to recognise it, too little to use it."""
    return quote(text[:12] + "..." if len(text) > 12 else text)  # prefix and 7 more


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if len(raw) != 32:  # X25519 keys and secrets alike
        raise ValueError("a key of the wrong size")
    return raw
