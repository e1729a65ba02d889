from __future__ import annotations

import shutil
import subprocess

import pytest

from nmk.errors import BadInput
from nmk.system.keys import generate_private_key, parse_private_key, public_key


@pytest.mark.skipif(not shutil.which("wg"), reason="wireguard-tools are not installed")
def test_wg_makes_the_same_public_key() -> None:
    for _ in range(20):
        private = generate_private_key()
        public = subprocess.check_output(["wg", "pubkey"], input=private, text=True)
        assert public_key(private) == public.strip()


def test_a_private_key_is_clamped_and_comes_back() -> None:
    keys = {generate_private_key() for _ in range(50)}
    assert len(keys) == 50
    assert {parse_private_key(key) for key in keys} == keys


@pytest.mark.parametrize("text", ["", "A" * 43 + "=", "short", "ä" * 44])
def test_a_damaged_private_key_is_refused_unquoted(text: str) -> None:
    with pytest.raises(BadInput) as raised:
        parse_private_key(text)
    assert not text or text not in raised.value.message
