"""The admin API over its Unix socket and over TCP: who may, what is answered, what is refused."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.lab.polling import patient
from tests.server.process import Answer, Controller, call

HOST = "http://localhost"


class UnixConnection(http.client.HTTPConnection):
    """HTTP to the socket file, as root's own commands speak it."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=patient(30))
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def over_socket(controller: Controller, method: str, path: str, body: object = None) -> Answer:
    data = None if body is None else json.dumps(body).encode()
    return call(UnixConnection(str(controller.socket)), method, path, data)


@pytest.mark.parametrize("key", ["", "wrong", "0" * 64])
@pytest.mark.parametrize("path", ["/v1/networks", "/v1/status", "/nothing", "/healthz/"])
def test_nobody_gets_in_over_tcp_without_the_key(shared: Controller, key: str, path: str) -> None:
    answer = shared.admin_call("GET", path, key=key)
    assert (answer.status, answer.code) == (401, "unauthorized")


def test_a_key_of_odd_characters_is_a_wrong_key(shared: Controller) -> None:
    headers = {"Authorization": "Bearer \xff\xe4"}
    assert shared.admin_call("GET", "/v1/status", headers=headers).status == 401


def test_over_the_socket_no_key_is_needed(shared: Controller) -> None:
    assert over_socket(shared, "GET", "/v1/networks").status == 200


def test_health_needs_no_key(shared: Controller) -> None:
    assert shared.admin_call("GET", "/healthz", key="").body == b"ok\n"


def test_an_objects_etag_is_the_revision_that_wrote_it(shared: Controller, network: str) -> None:
    for revision, mtu in ((1, None), (2, 1380), (3, 1400)):
        if mtu:
            patch(shared, f"/v1/networks/{network}", {"settings": {"mtu": mtu}}, None)
        answer = shared.admin_call("GET", f"/v1/networks/{network}")
        assert answer.headers["etag"] == f'"{revision}"'
        assert answer.json["revision"] == revision


def patch(
    controller: Controller, path: str, body: Mapping[str, object], etag: str | None, query: str = ""
) -> Answer:
    headers = {"If-Match": etag} if etag else {}
    return controller.admin_call("PATCH", path + query, body, headers)


@pytest.mark.parametrize(
    ("method", "kind"), [("PATCH", "network"), ("DELETE", "network"), ("DELETE", "key")]
)
def test_an_edit_of_what_has_changed_is_refused(
    shared: Controller, network: str, method: str, kind: str
) -> None:
    path = f"/v1/networks/{network}"
    if kind == "key":
        path += "/keys/" + shared.admin_call("POST", f"{path}/keys", {}).json["id"]
    etag = shared.admin_call("GET", path).headers["etag"]
    old = f'"{int(etag.strip(chr(34))) - 1}"'
    answer = shared.admin_call(method, path, {"settings": {"mtu": 1380}}, {"If-Match": old})
    assert (answer.status, answer.code) == (412, "stale")
    assert shared.admin_call("GET", path).headers["etag"] == etag
    answer = shared.admin_call(method, path, {"settings": {"mtu": 1380}}, {"If-Match": etag})
    assert answer.status == (200 if method == "PATCH" else 204)


@pytest.mark.parametrize("etag", ["5", 'W/"5"', '"x"', '"-1"', '"' + "9" * 40 + '"', '"1", "2"'])
def test_an_if_match_that_is_none_is_refused(shared: Controller, network: str, etag: str) -> None:
    answer = patch(shared, f"/v1/networks/{network}", {"settings": {"mtu": 1380}}, etag)
    assert (answer.status, answer.code) == (400, "bad-input")


def test_of_two_edits_at_once_one_is_told(shared: Controller, network: str) -> None:
    first = patch(shared, f"/v1/networks/{network}", {"settings": {"mtu": 1380}}, '"1"')
    second = patch(shared, f"/v1/networks/{network}", {"settings": {"mtu": 1400}}, '"1"')
    assert (first.status, second.status) == (200, 412)
    assert first.json["settings"]["mtu"] == 1380


def test_a_dry_run_answers_as_if_and_changes_nothing(shared: Controller, network: str) -> None:
    def everything() -> list[bytes]:
        paths = ("", f"/{network}", f"/{network}/keys", f"/{network}/nodes", f"/{network}/gateways")
        return [shared.admin_call("GET", f"/v1/networks{p}").body for p in paths]

    key = shared.admin_call("POST", f"/v1/networks/{network}/keys", {}).json["id"]
    before = everything()
    dry = "?dry-run=true"
    made = shared.admin_call("POST", f"/v1/networks{dry}", {"name": "other"})
    assert (made.status, made.json["name"]) == (201, "other")
    changed = patch(shared, f"/v1/networks/{network}", {"settings": {"mtu": 1300}}, None, dry)
    assert changed.json["settings"]["mtu"] == 1300
    made = shared.admin_call("POST", f"/v1/networks/{network}/keys{dry}", {"uses": 3})
    assert made.json["uses_max"] == 3
    assert "token" not in made.json
    for path in (f"/{network}", f"/{network}/keys/{key}"):
        assert shared.admin_call("DELETE", f"/v1/networks{path}{dry}").status == 204
    assert everything() == before
    assert shared.admin_call("POST", f"/v1/networks{dry}", {"name": "No"}).status == 400


@pytest.mark.parametrize(
    "query",
    [
        "dry-run",
        "dry-run=",
        "dry-run=True",
        "dry-run=1",
        "dryrun=true",
        "dry-run=true&x",
        "range=x",
    ],
)
def test_a_query_that_is_not_understood_changes_nothing(
    shared: Controller, network: str, query: str
) -> None:
    answer = shared.admin_call("DELETE", f"/v1/networks/{network}?{query}")
    assert (answer.status, answer.code) == (400, "bad-input")
    assert shared.admin_call("GET", f"/v1/networks/{network}").status == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nothing", None, 404, "not-found"),
        ("GET", "/v1/networks/nowhere", None, 404, "not-found"),
        ("GET", "/v1/networks/*", None, 404, "not-found"),
        ("GET", "/v1/networks/nowhere/nodes", None, 404, "not-found"),
        ("GET", "/v1/networks/NET/nodes/nobody", None, 404, "not-found"),
        ("DELETE", "/v1/networks/NET/keys/none", None, 404, "not-found"),
        ("PUT", "/v1/networks", None, 405, "method-not-allowed"),
        ("POST", "/v1/networks", b"", 400, "bad-input"),
        ("POST", "/v1/networks", b"\xff", 400, "bad-input"),
        ("POST", "/v1/networks", b"[" * 100_000, 400, "bad-input"),
        ("POST", "/v1/networks", [], 400, "bad-input"),
        ("POST", "/v1/networks", {}, 400, "bad-input"),
        ("POST", "/v1/networks", {"name": 5}, 400, "bad-input"),
        ("POST", "/v1/networks", {"name": "*"}, 400, "bad-input"),
        ("POST", "/v1/networks", {"name": "x", "cidrs": "10.0.0.0/8"}, 400, "bad-input"),
        ("POST", "/v1/networks", {"name": "x", "cidrs": [5]}, 400, "bad-input"),
        ("POST", "/v1/networks", {"name": "NET"}, 409, "name-taken"),
        ("POST", "/v1/networks", {"name": "x", "cidrs": ["0.0.0.0/8"]}, 400, "bad-input"),
        ("PATCH", "/v1/networks/NET", {"settings": [1]}, 400, "bad-input"),
        ("PATCH", "/v1/networks/NET", {"settings": {"mtu": [1]}}, 400, "bad-input"),
        ("PATCH", "/v1/networks/NET", {"settings": {"mtu": 1.5}}, 400, "bad-input"),
        ("PATCH", "/v1/networks/NET", {"settings": {"mtu": True}}, 400, "bad-input"),
        ("PATCH", "/v1/networks/NET", {"settings": {"actor": 1}}, 400, "bad-input"),
        ("POST", "/v1/networks/NET/keys", {"uses": [1]}, 400, "bad-input"),
        ("POST", "/v1/networks/NET/keys", {"uses": 1.5}, 400, "bad-input"),
        ("POST", "/v1/networks/NET/keys", {"uses": 0}, 400, "bad-input"),
        ("POST", "/v1/networks/NET/keys", {"uses": 10**30}, 400, "bad-input"),
        ("POST", "/v1/networks/NET/keys", {"expires": 5}, 400, "bad-input"),
        ("POST", "/v1/networks/NET/keys", {"expires": "999999999w"}, 400, "bad-input"),
    ],
)
def test_a_request_that_cannot_be(
    shared: Controller, network: str, method: str, path: str, body: Any, status: int, code: str
) -> None:
    if isinstance(body, dict):
        body = json.loads(json.dumps(body).replace('"NET"', f'"{network}"'))
    answer = shared.admin_call(method, path.replace("NET", network), body)
    assert (answer.status, answer.code) == (status, code)
    assert shared.admin_call("GET", "/v1/networks").status == 200


def test_a_body_that_is_too_large_is_refused(shared: Controller) -> None:
    announced = {"Content-Length": "2000000"}
    assert shared.admin_call("POST", "/v1/networks", None, announced).status == 413


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(
    st.sampled_from(
        [
            ("POST", "", ["name", "cidrs", "settings"]),
            ("PATCH", "/home", ["settings"]),
            ("POST", "/home/keys", ["uses", "expires"]),
            ("PATCH", "/home/nodes/web", ["name", "address", "endpoint"]),
            ("POST", "/home/gateways", ["node", "role", "ranges", "nat", "interface", "metric"]),
            ("POST", "/home/extclients", ["name", "public_key", "gateway", "address", "expires"]),
            ("PATCH", "/home/extclients/phone", ["name", "gateway", "address", "expires"]),
            ("POST", "/home/extclients/phone/rotate", ["public_key"]),
            ("POST", "/home/hubs", ["node", "public_key", "addresses", "clients"]),
        ]
    ),
    st.lists(json_values, min_size=6, max_size=6),
)
def test_no_body_is_a_mistake_of_the_controllers(
    shared: Controller, request_: tuple[str, str, list[str]], values: list[object]
) -> None:
    method, path, names = request_
    body = dict(zip(names, values, strict=False))
    shared.admin_call("POST", "/v1/networks", {"name": "home"})
    answer = shared.admin_call(method, f"/v1/networks{path}?dry-run=true", body)
    assert answer.status < 500, answer.body


def test_a_deleted_network_can_be_made_again(shared: Controller, network: str) -> None:
    cidr = shared.admin_call("GET", f"/v1/networks/{network}").json["cidr4"]
    assert shared.admin_call("DELETE", f"/v1/networks/{network}").status == 204
    assert shared.admin_call("GET", f"/v1/networks/{network}").status == 404
    made = shared.admin_call("POST", "/v1/networks", {"name": network, "cidrs": [cidr]})
    assert made.status == 201
    assert made.json["revision"] > 2
