"""The sealed envelope around every message between an agent and the controller.

Keys: X25519 identities on both sides, one session key for each direction by `crypto_kx`
(libsodium: Key exchange), the agent as its client. Sealing: XChaCha20-Poly1305-IETF with a random
24-byte nonce. All of a message's clear header is associated data, and a reply's associated data
holds the header of its request too: a reply fits one request and nothing else.

    request  "nmk1" kind(1) identity(32) epoch(8) nonce(24) length(1) network  sealed
    reply    "nmk1" kind(1) nonce(24)  sealed

The sealed plaintext is one flag byte and a JSON object: 0 plain, 1 raw deflate (RFC 1951).
"""

from __future__ import annotations

import secrets
import zlib
from dataclasses import dataclass, field
from enum import IntEnum

from nacl import bindings
from nacl.exceptions import CryptoError

from nmk.core.peers import MOST_INFLATED
from nmk.core.view import DEFLATED, PLAIN, pack
from nmk.errors import TooLarge, Unreadable

MAGIC = b"nmk1"
KEY_BYTES = 32
EPOCH_BYTES = 8
NONCE_BYTES = 24
MAX_REQUEST = 256 * 1024  # bytes; a report of facts has a few hundred
MAX_JOIN = 16 * 1024  # bytes; facts with as many addresses as there may be have a third of that
MAX_REPLY = 5 * 1024 * 1024  # bytes: 10,000 nodes and 1,000 ext clients have 0.6 MB; the longest
# view that there can be has 4 MB, as its random keys, names and addresses deflate to half
NO_EPOCH = bytes(EPOCH_BYTES)
_REQUEST_FIXED = len(MAGIC) + 1 + KEY_BYTES + EPOCH_BYTES + NONCE_BYTES + 1
_REPLY_FIXED = len(MAGIC) + 1 + NONCE_BYTES


class Kind(IntEnum):
    """What a message is; a reply's kind is its request's with the high bit, or ERROR."""

    JOIN = 1
    CHECK_IN = 2
    LEAVE = 3
    JOINED = 0x81
    VIEW = 0x82
    LEFT = 0x83
    ERROR = 0xFF


REPLY_TO = {Kind.JOIN: Kind.JOINED, Kind.CHECK_IN: Kind.VIEW, Kind.LEAVE: Kind.LEFT}


@dataclass(frozen=True, slots=True)
class Identity:
    """An X25519 key pair that speaks for a node or for the controller."""

    public: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def generate(cls) -> Identity:
        """A new random pair."""
        return cls.from_secret(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def from_secret(cls, secret: bytes) -> Identity:
        """The pair of a known secret half. Raises Unreadable when the size is wrong."""
        if len(secret) != KEY_BYTES:
            raise Unreadable("an identity key has the wrong size")
        return cls(bindings.crypto_scalarmult_base(secret), secret)


@dataclass(frozen=True, slots=True)
class SessionKeys:
    """One key a direction, as seen by one end."""

    receive: bytes = field(repr=False)
    send: bytes = field(repr=False)


def agent_keys(me: Identity, controller: bytes) -> SessionKeys:
    """The agent's end. Raises Unreadable when the controller's key is no usable point."""
    try:
        return SessionKeys(
            *bindings.crypto_kx_client_session_keys(me.public, me.secret, controller)
        )
    except (CryptoError, ValueError, TypeError):
        raise Unreadable("the controller's public key is not usable") from None


def controller_keys(me: Identity, agent: bytes) -> SessionKeys:
    """The controller's end. Raises Unreadable when the agent's key is no usable point."""
    try:
        return SessionKeys(*bindings.crypto_kx_server_session_keys(me.public, me.secret, agent))
    except (CryptoError, ValueError, TypeError):
        raise Unreadable("the identity is not usable") from None


@dataclass(frozen=True, slots=True)
class Header:
    """A request's clear part; `raw` is the bytes as they travel."""

    kind: Kind
    identity: bytes
    epoch: bytes
    nonce: bytes
    network: str
    raw: bytes


def seal_request(  # the header has these fields
    keys: SessionKeys, kind: Kind, identity: bytes, epoch: bytes, network: str, body: bytes
) -> tuple[Header, bytes]:
    """The request's header, which opens its reply, and the whole message."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    name = network.encode()
    raw = MAGIC + bytes([kind]) + identity + epoch + nonce + bytes([len(name)]) + name
    header = Header(kind, identity, epoch, nonce, network, raw)
    return header, raw + _seal(pack(body), raw, nonce, keys.send)


def parse_request(message: bytes, kind: Kind) -> tuple[Header, bytes]:
    """A request's header and its sealed part. No cryptography yet. Raises Unreadable."""
    if len(message) > MAX_REQUEST:
        raise TooLarge(f"a message of {len(message)} bytes")
    if len(message) < _REQUEST_FIXED or message[:4] != MAGIC or message[4] != kind:
        raise Unreadable("this is no message of an nmk agent")
    end = _REQUEST_FIXED + message[_REQUEST_FIXED - 1]
    network = message[_REQUEST_FIXED:end]
    if not network.isascii() or len(message) < end:
        raise Unreadable("this is no message of an nmk agent")
    header = Header(
        kind=kind,
        identity=message[5:37],
        epoch=message[37:45],
        nonce=message[45:69],
        network=network.decode(),
        raw=message[:end],
    )
    return header, message[end:]


def open_request(keys: SessionKeys, header: Header, sealed: bytes) -> bytes:
    """The request's JSON bytes. Raises Unreadable."""
    return unpack(_open(sealed, header.raw, header.nonce, keys.receive), MAX_REQUEST)


def seal_reply(keys: SessionKeys, kind: Kind, request: Header, packed: bytes) -> bytes:
    """The reply to a request. `packed`: what `pack` made, once for many where the body is one."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    head = MAGIC + bytes([kind])
    return head + nonce + _seal(packed, head + request.raw, nonce, keys.send)


def open_reply(keys: SessionKeys, request: Header, message: bytes) -> tuple[Kind, bytes]:
    """The kind and JSON bytes of the reply to our request. Raises Unreadable."""
    head, nonce = message[:5], message[5:_REPLY_FIXED]
    expected = (REPLY_TO[request.kind], Kind.ERROR)
    if len(message) < _REPLY_FIXED or head[:4] != MAGIC or head[4] not in expected:
        raise Unreadable("the reply is not a controller's")
    plain = _open(message[_REPLY_FIXED:], head + request.raw, nonce, keys.receive)
    return Kind(head[4]), unpack(plain, MOST_INFLATED)


def seal_to(controller: bytes, message: bytes) -> bytes:
    """A message that only the holder of the controller's key can see, its sender's identity too."""
    return bindings.crypto_box_seal(message, controller)


def open_sealed_to(me: Identity, message: bytes) -> bytes:
    """What `seal_to` wrapped. Raises Unreadable."""
    if len(message) > MAX_REQUEST:
        raise TooLarge(f"a message of {len(message)} bytes")
    try:
        return bindings.crypto_box_seal_open(message, me.public, me.secret)
    except (CryptoError, ValueError, TypeError):
        raise Unreadable("this message was not sealed to this controller's key") from None


def unpack(packed: bytes, limit: int) -> bytes:
    """What `core.view.pack` took; never more than `limit` bytes. Raises Unreadable, TooLarge."""
    flag, body = packed[:1], packed[1:]
    if flag == PLAIN:
        return body
    if flag != DEFLATED:
        raise Unreadable("a message with an unknown packing")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = inflater.decompress(body, limit)
    except zlib.error:
        raise Unreadable("a message that does not inflate") from None
    if inflater.unconsumed_tail:
        raise TooLarge(f"a message of more than {limit} bytes")
    if not inflater.eof:
        raise Unreadable("a message that is cut off")
    return plain


def _seal(plain: bytes, aad: bytes, nonce: bytes, key: bytes) -> bytes:
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(plain, aad, nonce, key)


def _open(sealed: bytes, aad: bytes, nonce: bytes, key: bytes) -> bytes:
    try:
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, aad, nonce, key)
    except (CryptoError, ValueError, TypeError):
        raise Unreadable("a message that does not open under the keys agreed on") from None
