"""What may answer at a controller's URL, and what the agent makes of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from nmk.agent import api as api_module
from nmk.agent import http as http_module
from nmk.agent.api import NodeApi
from nmk.agent.http import MOST_UNSEALED, post
from nmk.core.records import Facts, JoinRequest
from nmk.errors import (
    BadReply,
    KeyUsedUp,
    NmkError,
    NodeUnknown,
    RateLimited,
    Unreachable,
    Unreadable,
)
from nmk.system.keys import generate_private_key, public_key
from nmk.wire.envelope import MAGIC, MAX_REPLY, NO_EPOCH, Identity
from nmk.wire.messages import CheckIn
from nmk.wire.token import Token
from tests.agent.controllers import RealController, answering, http
from tests.hostile.door import Handler

PROBLEM = "Content-Type: application/problem+json"
ASK = CheckIn(0, "")


def api_for(*urls: str, key: bytes | None = None) -> NodeApi:
    key = key or Identity.generate().public
    return NodeApi(urls, key, Identity.generate(), "home", "the join token")


def request(token: Token) -> JoinRequest:
    facts = Facts(public_key(generate_private_key()), 51821)
    return JoinRequest("", token.key_id, token.secret, None, "web.example", None, facts)


@pytest.fixture
def refused() -> Iterator[str]:
    """A URL whose port is bound and takes no connections."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{holder.getsockname()[1]}"


def test_a_real_controller_answers_under_seal(controller: RealController) -> None:
    token = controller.token()
    api = api_for(*token.urls, key=token.controller_key)
    assert api.join(request(token)).result().head["full"] is True
    assert api.check_in(NO_EPOCH, ASK).result().head["network"]["name"] == "home"
    assert api.leave(NO_EPOCH, 1).result().head == {}


def test_its_refusals_come_under_seal(controller: RealController) -> None:
    token = controller.token()
    api_for(*token.urls, key=token.controller_key).join(request(token)).result()
    second = api_for(*token.urls, key=token.controller_key)
    assert isinstance(second.join(request(token)).error, KeyUsedUp)
    assert isinstance(second.check_in(NO_EPOCH, ASK).error, NodeUnknown)


def test_the_wrong_key_behind_the_right_address(controller: RealController) -> None:
    api = api_for(controller.url)
    with pytest.raises(Unreadable):
        api.join(request(controller.token()))
    with pytest.raises(Unreadable) as raised:
        api.check_in(NO_EPOCH, ASK)
    assert raised.value.message == (
        f"the controller at {controller.url} does not know the key in the join token: "
        "another controller answers there"
    )
    assert raised.value.exit_code == 1


def test_the_url_that_answers_comes_first_from_then_on(
    controller: RealController, refused: str
) -> None:
    token = controller.token()
    api = api_for(refused, controller.url, key=token.controller_key)
    assert api.join(request(token)).error is None
    assert api.urls == (controller.url, refused)


def test_nobody_listens(refused: str) -> None:
    with pytest.raises(Unreachable, match="Connection refused") as raised:
        api_for(refused).check_in(NO_EPOCH, ASK)
    assert raised.value.exit_code == 75


def test_an_answer_tells_more_than_silence(refused: str) -> None:
    with answering(b"hello") as url, pytest.raises(BadReply, match=url):
        api_for(refused, url, refused).check_in(NO_EPOCH, ASK)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", Unreachable),
        (b"\x00\xff" * 500, BadReply),
        (b"SSH-2.0-OpenSSH_9.2\r\n", BadReply),
        (http("200 OK", b""), BadReply),
        (http("200 OK", b"<html>log in to the hotel</html>"), BadReply),
        (http("200 OK", b"nmk1\x82" + bytes(60)), BadReply),
        (http("200 OK", b"nmk1\xff" + bytes(60)), BadReply),
        (http("200 OK", b"nmk1\x07" + bytes(60)), BadReply),
        (http("204 No Content", b""), BadReply),
        (http("302 Found", b"", "Location: http://192.0.2.1/"), BadReply),
        (http("400 Bad Request", b"not json"), BadReply),
        (http("400 Bad Request", b"[" * 100_000), BadReply),
        (http("404 Not Found", b'{"code": "unreadable", "detail": "x"}', PROBLEM), BadReply),
        (http("400 Bad Request", b'{"code": "unreadable", "detail": "x"}', PROBLEM), Unreadable),
        (http("410 Gone", b'{"code": "node-deleted", "detail": "x"}', PROBLEM), BadReply),
        (http("404 Not Found", b'{"code": "node-unknown", "detail": "x"}', PROBLEM), BadReply),
        (http("429 Too Many", b'{"code": "rate-limited", "detail": "x"}', PROBLEM), RateLimited),
        (http("500 Oops", b""), BadReply),
        (http("503 Service Unavailable", b'{"code": "a", "detail": "disk"}'), Unreachable),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", BadReply),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", BadReply),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", BadReply),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", BadReply),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000, BadReply),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, BadReply),
    ],
)
def test_an_answer_in_clear_never_costs_anything(answer: bytes, error: type[NmkError]) -> None:
    with answering(answer) as url, pytest.raises(NmkError) as raised:
        api_for(url).check_in(NO_EPOCH, ASK)
    assert type(raised.value) is error
    assert url in raised.value.message
    assert raised.value.message.isprintable()


@pytest.mark.parametrize("head", ["Content-Length: 99999999999999", "X-Nothing: 1"])
def test_an_oversized_answer_is_cut_off(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_module, "MAX_REPLY", 1_000_000)
    sent = 0

    def endless(handler: Handler) -> None:
        nonlocal sent
        handler.wfile.write(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\nnmk1".encode())
        try:
            while sent < 1_000_000_000:
                sent += handler.wfile.write(bytes(100_000))
        except OSError:
            return

    with answering(endless) as url, pytest.raises(BadReply, match="more than 1000000 bytes"):
        api_for(url).check_in(NO_EPOCH, ASK)
    assert sent < 100_000_000  # what the kernel's buffers hold was sent in vain


@pytest.mark.parametrize(
    ("status", "begins"),
    [("200 OK", b"{"), ("200 OK", b""), ("500 No", b"nmk1"), ("429 No", b""), ("302 No", b"nmk1")],
)
def test_no_more_is_read_of_what_is_not_sealed_than_an_error_needs(
    status: str, begins: bytes
) -> None:
    answer = http(status, begins + b'"' * 64 * 1024 * 1024)
    with answering(answer) as url:
        assert len(post(url, "/", b"", MAX_REPLY, MAGIC).body) == MOST_UNSEALED
        with pytest.raises((BadReply, RateLimited)):
            api_for(url).check_in(NO_EPOCH, ASK)


def test_a_head_that_does_not_end_is_cut_off() -> None:
    sent = 0

    def endless(handler: Handler) -> None:
        nonlocal sent
        with contextlib.suppress(OSError):
            while sent < 100_000_000:
                sent += handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)

    with answering(endless) as url, pytest.raises(BadReply, match="does not end"):
        post(url, "/", b"", 1000, MAGIC)
    assert sent < 20_000_000


def test_a_trickle_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte in time, all of them together not."""
    clock = iter(range(1000))
    frozen = SimpleNamespace(monotonic=lambda: float(next(clock)))
    monkeypatch.setattr(http_module, "time", frozen)

    def trickle(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            for _ in range(1_000_000):
                handler.wfile.write(b"x")
        except OSError:
            return

    with answering(trickle) as url, pytest.raises(Unreachable, match="timed out"):
        post(url, "/", b"", 10**9, b"", timeout=20)


def test_silence_is_waited_for_no_longer_than_told() -> None:
    done = threading.Event()

    def wait(_: Handler) -> None:
        done.wait()

    with answering(wait) as url:
        with pytest.raises(Unreachable, match="timed out"):
            post(url, "/", b"", 1000, b"", timeout=0.2)
        done.set()


def test_no_such_host() -> None:
    for host in ("nothing.invalid", "x" * 70):
        with pytest.raises(Unreachable, match="cannot reach"):
            post(f"http://{host}:50051", "/", b"", 1000, b"")
