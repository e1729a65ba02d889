"""Text that is none, or that moves a terminal, in every field that anybody can send."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmk.core.records import JoinRequest
from nmk.wire.envelope import Kind
from nmk.wire.messages import CheckIn, encode_check_in, encode_join, facts_json
from tests.core.test_text import HOSTILE
from tests.hostile.test_fuzz_http import ROUTES
from tests.server.agent import Agent, Refused, new_facts
from tests.server.inside import Inside
from tests.server.net import Net, new_key

LONE = ["\ud800", "a\udfff", "\udcff"]
TEXTS = [*LONE, *HOSTILE, "\u202enmk"]
some_text = st.sampled_from(TEXTS) | st.text(st.characters(categories=("C", "Z", "L")), max_size=9)
REFUSED = {"bad-input", "unreadable"}
many = settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def net(inner: Inside) -> Net:
    """What `ROUTES` speak of: the network home with the node member and the client phone."""
    net = Net.made(inner, "home", "10.77.0.0/16")
    net.ingress("member", endpoint="a:1")
    net.call("POST", "/extclients", {"name": "phone", "public_key": new_key()})
    return net


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value there is something, from the top down."""
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


def put(value: Any, path: tuple[Any, ...], text: object) -> Any:
    """The value with another one at that place."""
    changed = copy.deepcopy(value)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = text
    return changed


@pytest.fixture
def no_mistakes(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    assert "internal-error" not in caplog.text
    assert "Traceback" not in caplog.text


JOIN = json.loads(
    encode_join(JoinRequest("", "0011223344556677", bytes(32), "web", "web", None, new_facts()))
)
CHECK_IN = json.loads(
    encode_check_in(CheckIn(1, "c", 1, new_facts(), "1,1,1,1", "a,1,1,1,192.0.2.1:1", "yes"))
)


def send(agent: Agent, kind: Kind, body: object) -> str:
    """The code of the sealed error that comes back; "" where there is none."""
    try:
        agent._exchange(kind, json.dumps(body).encode())
    except Refused as error:
        return error.code
    return ""


@many
@given(place=st.sampled_from(list(places(JOIN))), text=some_text)
@pytest.mark.usefixtures("no_mistakes")
def test_a_join_with_such_text(net: Net, place: tuple[Any, ...], text: str) -> None:
    agent = Agent(net._post, net._token)
    secret = base64.b64encode(net._token.secret).decode()
    body = {**JOIN, "key": net._token.key_id, "secret": secret, "facts": facts_json(new_facts())}
    assert send(agent, Kind.JOIN, put(body, place, text)) in {
        "",
        *REFUSED,
        "key-refused",
        "name-taken",
    }
    assert shown(net)


@many
@given(place=st.sampled_from(list(places(CHECK_IN))), text=some_text)
@pytest.mark.usefixtures("no_mistakes")
def test_a_check_in_with_such_text(net: Net, place: tuple[Any, ...], text: str) -> None:
    agent = net.agents["member"]
    agent.seq += 1
    body = {**CHECK_IN, "seq": agent.seq, "facts": facts_json(agent.facts)}
    assert send(agent, Kind.CHECK_IN, put(body, place, text)) in {"", *REFUSED}
    assert shown(net)


@pytest.mark.parametrize("text", TEXTS)
def test_an_instance_that_is_no_text_is_refused(net: Net, text: str) -> None:
    agent = net.agents["member"]
    agent.seq += 1
    facts = {**facts_json(agent.facts), "instance": text}
    body = {**CHECK_IN, "seq": agent.seq, "facts": facts}
    assert send(agent, Kind.CHECK_IN, body) == "bad-input"


def shown(net: Net) -> bool:
    """Whether all that is stored can be shown."""
    for page in ("", "/nodes", "/keys", "/gateways", "/extclients"):
        answer = net.call("GET", page)
        assert answer.status == 200
        json.dumps(answer.json, ensure_ascii=False).encode()
    return True


@many
@given(data=st.data(), text=some_text)
@pytest.mark.usefixtures("no_mistakes")
def test_the_admin_api_with_such_text(net: Net, data: st.DataObject, text: str) -> None:
    method, path, body = data.draw(st.sampled_from(ROUTES))
    spots = [*places(body), ("another",)]
    place = data.draw(st.sampled_from(spots))
    changed = put(body, place, text)
    answer = net.controller.admin_call(method, f"/v1/{path}?dry-run=true", changed)
    assert answer.status < 500, answer.body
    if answer.status >= 400:
        assert answer.json["detail"].isprintable()
        assert answer.json["hint"].isprintable()
    assert shown(net)


@pytest.mark.parametrize(
    ("path", "body"), [(p, b) for m, p, b in ROUTES if m in {"POST", "PATCH"} and b]
)
@pytest.mark.parametrize("text", LONE)
def test_a_lone_surrogate_is_refused_by_name(
    net: Net, path: str, body: dict[str, object], text: str
) -> None:
    method = next(m for m, p, b in ROUTES if (p, b) == (path, body))
    for place in places(body):
        answer = net.controller.admin_call(
            method, f"/v1/{path}?dry-run=true", put(body, place, text)
        )
        assert (answer.status, answer.code) == (400, "bad-input"), place
        assert "no Unicode" in answer.json["detail"]


@pytest.mark.parametrize("text", ["%ED%A0%80", "%C2%85", "%E2%80%AE", "%7F", "%00", "%0A", "%FF"])
@pytest.mark.usefixtures("no_mistakes")
def test_paths_queries_and_headers(net: Net, text: str) -> None:
    for path in (f"/v1/networks/{text}", f"/v1/{text}", f"/v1/networks/home/nodes/{text}"):
        answer = net.controller.admin_call("GET", path)
        assert answer.status in {400, 404}
        assert answer.json["detail"].isprintable()
        refused = net.controller.agent_call("GET", path)
        assert refused.status == 404
        assert refused.json["detail"].isprintable()
    gateway = "/v1/networks/home/gateways/member/egress"
    for query in (f"dry-run={text}", f"{text}=true", f"dry-run=true&range={text}"):
        answer = net.controller.admin_call("DELETE", f"{gateway}?{query}")
        assert 400 <= answer.status < 500
        assert answer.json["detail"].isprintable()
    raw = bytes.fromhex(text.replace("%", "")).decode("latin-1")
    if raw not in "\n\0":
        answer = net.controller.admin_call(
            "DELETE", "/v1/networks/home/nodes/member", None, {"If-Match": raw}
        )
        assert answer.status == 400
        assert answer.body.decode().replace("\r\n", "").strip().isprintable()
