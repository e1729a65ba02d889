"""Random and mutated bytes at every endpoint of both listeners: refused, and nothing changes."""

from __future__ import annotations

import http.client
import json
import socket
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmk.wire.envelope import Kind
from tests.hostile.anything import SOME_JSON
from tests.hostile.stranger import Stranger, forged
from tests.lab.polling import patient
from tests.reliability.served import Served
from tests.server.agent import Agent

PATHS = ("/v1/join", "/v1/checkin", "/v1/leave")
KEY = "BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE="
HUB_KEY = "BwAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAM="
PEER = {"name": "anna", "public_key": KEY, "addresses": ["10.77.0.9"]}
ROUTES: list[tuple[str, str, dict[str, object]]] = [
    ("POST", "networks", {"name": "other", "cidrs": ["10.78.0.0/16"], "settings": {}}),
    ("PATCH", "networks/home", {"settings": {"mtu": 1380}}),
    ("POST", "networks/home/keys", {"uses": 1, "expires": "1h"}),
    ("PATCH", "networks/home/nodes/member", {"name": "x", "address": "10.77.0.8", "endpoint": ""}),
    ("POST", "networks/home/gateways", {"node": "member", "role": "ingress", "endpoint": "a:1"}),
    (
        "POST",
        "networks/home/gateways",
        {
            "node": "member",
            "role": "egress",
            "ranges": ["192.168.7.0/24"],
            "nat": "on",
            "interface": "eth0",
            "metric": 5,
        },
    ),
    ("POST", "networks/home/gateways", {"node": "member", "role": "exit", "nat": "off"}),
    ("DELETE", "networks/home/gateways/member/ingress", {}),
    (
        "POST",
        "networks/home/extclients",
        {
            "name": "tablet",
            "public_key": KEY,
            "gateway": "member",
            "address": "10.77.0.9",
            "full_tunnel": False,
            "expires": "7d",
        },
    ),
    (
        "PATCH",
        "networks/home/extclients/phone",
        {"name": "x", "address": "10.77.0.9", "gateway": "member", "expires": "1h"},
    ),
    ("POST", "networks/home/extclients/phone/rotate", {"public_key": KEY}),
    ("POST", "networks/home/extclients/phone/disable", {}),
    ("POST", "networks/home/extclients/phone/enable", {}),
    ("DELETE", "networks/home/extclients/phone", {}),
    (
        "POST",
        "networks/home/hubs",
        {"node": "member", "public_key": HUB_KEY, "addresses": ["10.77.0.1"], "clients": [PEER]},
    ),
]
FIELDS = sorted({name for _, _, body in ROUTES for name in body})
SEGMENTS = sorted({segment for _, path, _ in ROUTES for segment in path.split("/")})
many = settings(max_examples=150, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def member(served: Served) -> Agent:
    return Stranger(served.url).member(served.token(), "member")


@pytest.fixture(scope="module")
def phone(served: Served, member: Agent) -> str:  # noqa: ARG001  # the node is there
    """An ext client, whose gateway is the member."""
    served.call(
        "POST",
        "/networks/home/gateways",
        {"node": "member", "role": "ingress", "endpoint": "a:1"},
    )
    body = {"name": "phone", "public_key": KEY[:-2] + "I="}
    served.call("POST", "/networks/home/extclients", body)
    return "phone"


def state_of(served: Served) -> object:
    nodes = served.call_list("/networks/home/nodes")
    for node in nodes:
        del node["last_seen"]
    pages = ("", "/home/keys", "/home/gateways", "/home/extclients")
    return nodes, [served.call_list(f"/networks{page}") for page in pages]


def post(served: Served, path: str, body: bytes) -> int:
    return Stranger(served.url).post(path, body).status


@many
@given(path=st.sampled_from(PATHS), body=st.binary(max_size=400))
def test_bytes_that_mean_nothing(served: Served, path: str, body: bytes) -> None:
    assert post(served, path, body) in {400, 429}


@many
@given(data=st.data())
def test_messages_changed_on_the_way(served: Served, member: Agent, data: st.DataObject) -> None:
    before = state_of(served)
    kind = data.draw(st.sampled_from([Kind.JOIN, Kind.CHECK_IN, Kind.LEAVE]))
    path, message = forged(member.token, kind, identity=member.identity)
    place = data.draw(st.integers(0, len(message) - 1))
    flipped = message[place] ^ data.draw(st.integers(1, 255))
    changed = message[:place] + bytes([flipped]) + message[place + 1 :]
    assert post(served, path, changed) in {200, 400, 429}  # 200: a sealed error to another key
    assert state_of(served) == before


@many
@given(body=SOME_JSON, kind=st.sampled_from([Kind.JOIN, Kind.CHECK_IN]))
def test_sealed_nonsense_from_a_member(
    served: Served, member: Agent, body: object, kind: Kind
) -> None:
    """A machine that was let in says what it likes; it gets an error under seal."""
    before = state_of(served)
    plain = json.dumps(body).encode()
    message = forged(member.token, kind, plain, member.identity)
    assert post(served, *message) in {200, 429}
    assert state_of(served) == before


@many
@given(data=st.binary(max_size=300))
def test_no_http_at_all(served: Served, data: bytes) -> None:
    reply = Stranger(served.url).raw(data + b"\r\n\r\n")
    assert reply == b"" or reply.startswith(b"HTTP/1.")
    assert not reply.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5"))


def ask(
    served: Served, method: str, path: str, body: bytes, headers: dict[str, str]
) -> tuple[int, bytes]:
    """A request over the Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(served.data / "admin.sock"))
        connection = http.client.HTTPConnection("localhost", timeout=patient(20))
        connection.sock = client
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            return response.status, response.read()


@many
@given(
    method=st.sampled_from(["GET", "POST", "PATCH", "DELETE", "PUT"]),
    parts=st.lists(st.sampled_from([*SEGMENTS, "nodes", "%00", "..", "é"]), max_size=6),
    body=st.binary(max_size=100)
    | st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, SOME_JSON)).map(
        lambda d: json.dumps(d).encode()
    ),
    revision=st.none() | st.text('0123456789*"', max_size=6),
)
@pytest.mark.usefixtures("phone")
def test_the_admin_api(
    served: Served, method: str, parts: list[str], body: bytes, revision: str | None
) -> None:
    """Dry, so that even what is right changes nothing."""
    path = "/v1/" + "/".join(p if p.isascii() else "%C3%A9" for p in parts) + "?dry-run=true"
    headers = {} if revision is None else {"If-Match": revision}
    before = state_of(served)
    status, told = ask(served, method, path, body, headers)
    assert status < 500, told
    assert state_of(served) == before


@pytest.mark.parametrize(("method", "path", "body"), ROUTES)
@pytest.mark.usefixtures("phone")
def test_what_is_right_at_the_admin_api(
    served: Served, method: str, path: str, body: dict[str, object]
) -> None:
    """What the next test changes a little."""
    status, told = ask(served, method, f"/v1/{path}?dry-run=true", json.dumps(body).encode(), {})
    assert status in {200, 201, 204}, told


HOSTILE = st.sampled_from(
    ["", "..", "/", "\x00", "é", "a" * 64, "0.0.0.0/0", "::ffff:10.0.0.0/104", "10.77.0.0/16", KEY]
)


@many
@given(
    route=st.sampled_from(ROUTES),
    wrong=st.dictionaries(
        st.sampled_from(FIELDS),
        SOME_JSON | HOSTILE | st.lists(HOSTILE, max_size=3) | st.just([PEER, PEER]),
        max_size=2,
    ),
    query=st.dictionaries(st.sampled_from(["range", "dry-run"]), HOSTILE, max_size=1),
)
@pytest.mark.usefixtures("phone")
def test_what_is_almost_right_at_the_admin_api(
    served: Served,
    route: tuple[str, str, dict[str, object]],
    wrong: dict[str, object],
    query: dict[str, str],
) -> None:
    method, path, body = route
    more = urlencode({"dry-run": "true"}) + "&" + urlencode(query)
    changed = json.dumps({**body, **wrong}).encode()
    before = state_of(served)
    status, told = ask(served, method, f"/v1/{path}?{more}", changed, {})
    assert status < 500, told
    assert state_of(served) == before


def test_memory_stays_bounded(served: Served, member: Agent) -> None:
    """Large bodies of every kind, and messages that inflate without end."""
    post(served, PATHS[1], bytes(1000))
    before = served.memory()
    bomb = b" " * 8 * 1024 * 1024  # which is sealed deflated
    for _ in range(20):
        for path in PATHS:
            assert post(served, path, bytes(300_000)) in {413, 400, 429}
        unknown = forged(member.token, Kind.CHECK_IN, bomb)
        assert post(served, *unknown) in {200, 400, 413, 429}
        known = forged(member.token, Kind.CHECK_IN, bomb, member.identity)
        assert post(served, *known) in {200, 400, 413}
    assert served.memory() - before < 32 * 1024 * 1024
    assert Path(f"/proc/{served.pid}").exists()
