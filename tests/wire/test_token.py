from __future__ import annotations

import base64
import json
import zlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.errors import BadInput, TokenMalformed
from nmk.wire.token import PREFIX, Token, encode_token, parse_token, parse_url

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
TOKEN = Token(
    urls=("http://198.51.100.7:50051", "https://mesh.example.org"),
    controller_key=bytes(range(32)),
    network="home",
    key_id="4f2a91c3",
    secret=bytes(range(100, 132)),
)
TEXT = encode_token(TOKEN)

labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
urls = st.builds(
    "{}://{}:{}".format,
    st.sampled_from(["http", "https"]),
    st.sampled_from(["198.51.100.7", "[2001:db8::7]", "mesh.example.org"]),
    st.integers(1, 65535),
)
tokens = st.builds(
    Token,
    urls=st.lists(urls, min_size=1, max_size=16).map(tuple),
    controller_key=st.binary(min_size=32, max_size=32),
    network=labels,
    key_id=labels,
    secret=st.binary(min_size=32, max_size=32),
)


@given(tokens, st.sampled_from(["", "\n", "  \t"]))
def test_what_is_printed_is_read_again(token: Token, space: str) -> None:
    assert parse_token(space + encode_token(token) + space) == token


def test_a_token_never_shows_its_secret() -> None:
    assert str(TOKEN.secret) not in repr(TOKEN)
    with pytest.raises(TokenMalformed) as refusal:
        parse_token(TEXT[:-1])
    assert TEXT[:20] not in refusal.value.message


def test_a_token_cut_anywhere_is_refused() -> None:
    for length in range(len(TEXT)):
        with pytest.raises(TokenMalformed):
            parse_token(TEXT[:length])


@pytest.mark.parametrize("spare_bits", [0, 2, 4])
def test_a_token_with_any_character_changed_is_refused(spare_bits: int) -> None:
    """Also its last one, which may hold bits that mean nothing in base64."""
    text = token_with(spare_bits)
    for place, right in enumerate(text):
        for wrong in {*ALPHABET, ".", "!", "\n"} - {right}:
            with pytest.raises(TokenMalformed):
                parse_token(text[:place] + wrong + text[place + 1 :])


def token_with(spare_bits: int) -> str:
    made = (
        encode_token(Token(("http://" + "h" * n,), bytes(32), "home", "k", bytes(32)))
        for n in range(1, 60)
    )
    return next(t for t in made if len(t.removeprefix(PREFIX)) * 6 % 8 == spare_bits)


@given(st.text(max_size=300) | st.text(ALPHABET, max_size=300).map(lambda t: PREFIX + t))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(TokenMalformed):
        parse_token(text)


def forged(content: object) -> str:
    """A token with a right checksum around whatever content."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    raw = zlib.compress(body)
    checked = raw + sha256(raw).digest()[:4]
    return PREFIX + base64.urlsafe_b64encode(checked).rstrip(b"=").decode()


KEY = base64.urlsafe_b64encode(bytes(32)).decode()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"[" * 8000,
        b"[" + b"9" * 8000 + b"]",
        b"0" * 10_000_000,
        [],
        {},
        None,
        [[], KEY, "home", "k", KEY],
        [["http://a"], KEY, "home", "k"],
        [["http://a"], KEY[:-4], "home", "k", KEY],
        [["http://a"], KEY, "No Label", "k", KEY],
        [["http://a"], KEY, 5, "k", KEY],
        [["http://a"], 5, "home", "k", KEY],
        [["http://a"], KEY, "home", None, KEY],
        [["ftp://a"], KEY, "home", "k", KEY],
        [[5], KEY, "home", "k", KEY],
        ["http://a", KEY, "home", "k", KEY],
        [{"http://a": 1}, KEY, "home", "k", KEY],
        [None, KEY, "home", "k", KEY],
    ],
)
def test_a_token_that_was_made_to_do_harm_is_refused(content: object) -> None:
    with pytest.raises(TokenMalformed):
        parse_token(forged(content))


def test_the_forger_of_these_tests_can_make_a_good_token() -> None:
    assert parse_token(forged([["http://a"], KEY, "home", "k", KEY])).urls == ("http://a",)


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://198.51.100.7:50051", "http://198.51.100.7:50051"),
        ("http://198.51.100.7:50051/", "http://198.51.100.7:50051"),
        ("https://[2001:db8::7]", "https://[2001:db8::7]"),
    ],
)
def test_a_url_is_kept_bare(text: str, url: str) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", "host:50051", "ftp://host", "http://", "http://:50051", "http://host:0"),
        *(
            "http://host:x",
            "http://host:99999",
            "http://host/path",
            "http://host?q",
            "http://host#f",
        ),
        *("http://user@host", "http://@host", "http://:pw@host", "http://ho st", "http://höst"),
        *("http://[::1", "http://host\n", "http://ho\tst"),
    ],
)
def test_what_is_no_controllers_url_is_quoted(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_url(text)
    assert repr(text) in refusal.value.message
