"""What one end seals only the other end opens, once, whole, and as what it was meant."""

from __future__ import annotations

import contextlib
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.entries import deflate
from nmk.core.view import DEFLATED, pack
from nmk.errors import NmkError, TooLarge, Unreadable
from nmk.wire.envelope import (
    MAGIC,
    MAX_REPLY,
    MAX_REQUEST,
    Header,
    Identity,
    Kind,
    SessionKeys,
    agent_keys,
    controller_keys,
    open_reply,
    open_request,
    open_sealed_to,
    parse_request,
    seal_reply,
    seal_request,
    seal_to,
    unpack,
)

CONTROLLER = Identity.from_secret(b"c" * 32)
AGENT = Identity.from_secret(b"a" * 32)
OTHER = Identity.from_secret(b"o" * 32)
AT_AGENT = agent_keys(AGENT, CONTROLLER.public)
AT_CONTROLLER = controller_keys(CONTROLLER, AGENT.public)
EPOCH = b"\1\2\3\4\5\6\7\x08"
BODY = b'{"at":[1,"c"]}'


def request(body: bytes = BODY, kind: Kind = Kind.CHECK_IN) -> tuple[Header, bytes]:
    return seal_request(AT_AGENT, kind, AGENT.public, EPOCH, "home", body)


def opened(message: bytes, kind: Kind = Kind.CHECK_IN) -> bytes:
    return open_request(AT_CONTROLLER, *parse_request(message, kind))


@given(st.binary(max_size=2000))
def test_a_request_arrives_as_it_was_sent(body: bytes) -> None:
    sent, message = request(body)
    header, sealed = parse_request(message, Kind.CHECK_IN)
    assert header == sent
    assert (header.identity, header.epoch, header.network) == (AGENT.public, EPOCH, "home")
    assert open_request(AT_CONTROLLER, header, sealed) == body


@given(st.binary(max_size=2000))
def test_a_reply_arrives_as_it_was_sent(body: bytes) -> None:
    header, _ = request()
    reply = seal_reply(AT_CONTROLLER, Kind.VIEW, header, pack(body))
    assert open_reply(AT_AGENT, header, reply) == (Kind.VIEW, body)


def test_a_request_with_any_byte_changed_is_refused() -> None:
    _, message = request()
    for place in range(len(message)):
        for bit in (1, 0x80):
            changed = bytearray(message)
            changed[place] ^= bit
            with pytest.raises(Unreadable):
                opened(bytes(changed))


def test_a_reply_with_any_byte_changed_is_refused() -> None:
    header, _ = request()
    reply = seal_reply(AT_CONTROLLER, Kind.VIEW, header, pack(BODY))
    for place in range(len(reply)):
        for bit in (1, 0x80):
            changed = bytearray(reply)
            changed[place] ^= bit
            with pytest.raises(Unreadable):
                open_reply(AT_AGENT, header, bytes(changed))


def test_messages_cut_anywhere_are_refused() -> None:
    header, message = request()
    reply = seal_reply(AT_CONTROLLER, Kind.VIEW, header, pack(BODY))
    for length in range(len(message)):
        with pytest.raises(Unreadable):
            opened(message[:length])
    for length in range(len(reply)):
        with pytest.raises(Unreadable):
            open_reply(AT_AGENT, header, reply[:length])


def test_a_request_that_is_sent_back_is_no_reply() -> None:
    header, message = request()
    sealed = parse_request(message, Kind.CHECK_IN)[1]
    for kind in (Kind.VIEW, Kind.ERROR, Kind.CHECK_IN):
        reflected = MAGIC + bytes([kind]) + header.nonce + sealed
        with pytest.raises(Unreadable):
            open_reply(AT_AGENT, header, reflected)


def test_a_reply_that_is_sent_on_is_no_request() -> None:
    header, _ = request()
    reply = seal_reply(AT_CONTROLLER, Kind.VIEW, header, pack(BODY))
    nonce, sealed = reply[5:29], reply[29:]
    raw = header.raw[:45] + nonce + header.raw[69:]
    with pytest.raises(Unreadable):
        opened(raw + sealed)
    with pytest.raises(Unreadable):
        opened(reply)


def test_a_reply_fits_its_own_request_only() -> None:
    first, second = request()[0], request()[0]
    reply = seal_reply(AT_CONTROLLER, Kind.VIEW, first, pack(BODY))
    with pytest.raises(Unreadable):
        open_reply(AT_AGENT, second, reply)


@pytest.mark.parametrize("kind", [Kind.JOINED, Kind.LEFT, Kind.CHECK_IN])
def test_a_reply_to_another_kind_of_request_is_refused(kind: Kind) -> None:
    header, _ = request()
    reply = seal_reply(AT_CONTROLLER, kind, header, pack(BODY))
    with pytest.raises(Unreadable):
        open_reply(AT_AGENT, header, reply)


def test_a_request_of_another_kind_is_refused() -> None:
    _, message = request(kind=Kind.LEAVE)
    with pytest.raises(Unreadable):
        opened(message)
    pretended = MAGIC + bytes([Kind.CHECK_IN]) + message[5:]
    with pytest.raises(Unreadable):
        opened(pretended)


@pytest.mark.parametrize(
    "keys",
    [
        controller_keys(OTHER, AGENT.public),
        controller_keys(CONTROLLER, OTHER.public),
        AT_AGENT,
        SessionKeys(AT_CONTROLLER.send, AT_CONTROLLER.receive),
    ],
    ids=["another controller", "another agent", "the sender", "the wrong way round"],
)
def test_nobody_else_opens_a_request(keys: SessionKeys) -> None:
    header, sealed = parse_request(request()[1], Kind.CHECK_IN)
    with pytest.raises(Unreadable):
        open_request(keys, header, sealed)


def test_every_message_looks_different() -> None:
    assert request()[1] != request()[1]


def test_only_the_holder_of_the_key_opens_what_is_sealed_to_it() -> None:
    sealed = seal_to(CONTROLLER.public, BODY)
    assert open_sealed_to(CONTROLLER, sealed) == BODY
    for place in range(len(sealed)):
        changed = bytearray(sealed)
        changed[place] ^= 1
        with pytest.raises(Unreadable):
            open_sealed_to(CONTROLLER, bytes(changed))
    with pytest.raises(Unreadable):
        open_sealed_to(OTHER, sealed)


@pytest.mark.parametrize("size", [MAX_REQUEST + 1, MAX_REQUEST * 2])
def test_a_message_that_is_too_large_is_not_looked_at(size: int) -> None:
    with pytest.raises(TooLarge, match=str(size)):
        parse_request(bytes(size), Kind.JOIN)
    with pytest.raises(TooLarge, match=str(size)):
        open_sealed_to(CONTROLLER, bytes(size))


@pytest.mark.parametrize("public", [bytes(32), b"", bytes(31), b"\1" + bytes(31)])
def test_a_key_that_is_no_point_is_refused(public: bytes) -> None:
    with pytest.raises(Unreadable):
        agent_keys(AGENT, public)
    with pytest.raises(Unreadable):
        controller_keys(CONTROLLER, public)


def test_an_identity_never_shows_its_secret() -> None:
    assert "secret" not in repr(AGENT) + repr(AT_AGENT).replace("SessionKeys()", "")
    with pytest.raises(Unreadable):
        Identity.from_secret(b"short")


@given(st.binary(max_size=3000))
def test_what_is_packed_is_unpacked(body: bytes) -> None:
    assert unpack(pack(body), 3000) == body


def test_a_message_that_inflates_beyond_the_limit_is_refused_before_it_does() -> None:
    bomb = DEFLATED + deflate(bytes(100 * MAX_REQUEST), last=True)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            unpack(bomb, MAX_REQUEST)
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_REQUEST
    finally:
        tracemalloc.stop()
    assert MAX_REPLY > MAX_REQUEST


@pytest.mark.parametrize(
    "packed",
    [b"", b"\2", b"\1", b"\1\xff\xff", DEFLATED + deflate(b"x" * 999), b"\1" + zlib.compress(b"x")],
    ids=["empty", "unknown", "nothing", "garbage", "cut off", "with a header"],
)
def test_what_does_not_unpack_is_refused(packed: bytes) -> None:
    with pytest.raises(Unreadable):
        unpack(packed, 9999)


junk = st.binary(max_size=400) | st.binary(max_size=300).map(lambda b: MAGIC + b"\2" + b)


@given(junk)
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    header, _ = request()
    with contextlib.suppress(NmkError):
        opened(data)
    with contextlib.suppress(NmkError):
        open_sealed_to(CONTROLLER, data)
    with contextlib.suppress(NmkError):
        open_reply(AT_AGENT, header, data)
    with contextlib.suppress(NmkError):
        unpack(data, 100_000)
    with contextlib.suppress(NmkError):
        controller_keys(CONTROLLER, data[:32])
