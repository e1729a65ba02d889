"""WireGuard keys, made here: they never leave the machine and are in no command's arguments."""

from __future__ import annotations

import base64
import binascii
import secrets

from nmk.core.parse import KEY_BYTES
from nmk.errors import BadInput


def generate_private_key() -> str:
    """A new private key in base64, as `wg genkey` prints it."""
    raw = bytearray(secrets.token_bytes(KEY_BYTES))
    # Clamped as RFC 7748, 5 says: WireGuard shows a key in this form, whatever form it was given.
    raw[0] &= 248
    raw[31] = (raw[31] & 127) | 64
    return base64.b64encode(raw).decode()


def parse_private_key(text: str) -> str:
    """A clamped private key in base64. Raises BadInput, which does not quote it."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    clamped = len(raw) == KEY_BYTES and not raw[0] & 7 and raw[31] & 192 == 64
    if not clamped or base64.b64encode(raw).decode() != text:
        raise BadInput("a private key is damaged")
    return text


def public_key(private_key: str) -> str:
    """The public half, as `wg pubkey` prints it."""
    from nacl.bindings import crypto_scalarmult_base

    return base64.b64encode(crypto_scalarmult_base(base64.b64decode(private_key))).decode()
