"""Ext clients over the admin API, and what gateways and other nodes are told of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from threading import Barrier
from typing import Any

import pytest

from nmk.agent.takeover import request_of
from nmk.core.hub_clients import Hub, HubClient
from nmk.core.hub_names import MOST_CLIENTS
from nmk.system.keys import generate_private_key
from nmk.wire.envelope import Kind
from tests.core.made import key32
from tests.server.agent import Refused
from tests.server.net import Json, Net, clients_in, new_key, short
from tests.server.process import Answer, Controller
from tests.server.test_gateways import HOSTILE_NAMES

EVERYTHING = ["0.0.0.0/0", "::/0"]
ZEROS = base64.b64encode(bytes(32)).decode()
_numbers = count(1)


@pytest.fixture
def net(shared: Controller) -> Net:
    """A network of both families with an ingress gateway `office`."""
    number = next(_numbers)
    made = Net.made(shared, f"ext{number}", f"10.{number}.0.0/16", f"fd00:{number}::/64")
    made.ingress("office", endpoint="vpn.example.org:51820")
    return made


@pytest.fixture(scope="module")
def strict(shared: Controller) -> Net:
    """A network that refuses whatever is asked; `phone` is an ext client in it, `plain` a node."""
    made = Net.made(shared, "strict", "10.250.0.0/16", "fd00:250::/64")
    made.ingress("office", endpoint="vpn.example.org:51820")
    made.ingress("attic", endpoint="vpn.example.org:51821")
    made.join("plain", address="10.250.0.77")
    made.add_client("phone", gateway="office", public_key=key32(1, kind=4))
    made.add_client("tablet", gateway="attic", address="10.250.0.88")
    return made


def create(net: Net, **body: object) -> Answer:
    return net.call("POST", "/extclients", {"public_key": new_key(), **body})


def etag_of(net: Net, name: str) -> str:
    return net.call("GET", f"/extclients/{name}").headers["etag"]


def without(found: Json, *names: str) -> Json:
    return {k: v for k, v in found.items() if k not in names}


def test_a_client_is_made_and_its_config_told(net: Net) -> None:
    key = new_key()
    answer = create(net, name="phone", public_key=key)
    made = answer.json
    config = made.pop("config")
    assert (answer.status, answer.headers["etag"]) == (201, f'"{made["revision"]}"')
    network, office = net.get(""), net.get("/nodes/office")
    addresses = made["addresses"]
    assert [":" in a for a in addresses] == [False, True]
    assert not set(addresses) & {a for node in net.get("/nodes") for a in node["addresses"]}
    assert len(bytes.fromhex(made["id"])) == 8
    assert made["created_at"]
    assert without(made, "id", "created_at", "revision") == {
        "name": "phone",
        "network": net.name,
        "gateway": "office",
        "routes": [],
        "addresses": addresses,
        "public_key": key,
        "full_tunnel": False,
        "state": "enabled",
        "expires_at": None,
        "handshake": None,
        "endpoint": None,
        "received": None,
        "sent": None,
        "stale": [],
    }
    assert config == {
        "addresses": addresses,
        "gateway_key": office["public_key"],
        "endpoint": "vpn.example.org:51820",
        "ranges": [network["cidr4"], network["cidr6"]],
        "mtu": network["settings"]["mtu"],
        "keepalive": network["settings"]["keepalive"],
    }
    shown = net.call("GET", "/extclients/phone")
    assert (shown.json, shown.headers["etag"]) == (made, answer.headers["etag"])
    assert net.get("/extclients") == [made]


def test_a_config_holds_what_was_set(net: Net) -> None:
    net.call("PATCH", "", {"settings": {"mtu": 1300, "keepalive": 0}})
    net.add_gateway("office", "egress", ranges=["192.168.50.0/24", "2001:db8:50::/64"])
    config = net.add_client("phone")["config"]
    own = [net.get("")[family] for family in ("cidr4", "cidr6")]
    assert config["ranges"] == [*own, "192.168.50.0/24", "2001:db8:50::/64"]
    assert (config["mtu"], config["keepalive"]) == (1300, 0)


@pytest.mark.parametrize(
    ("facts", "pinned", "endpoint"),
    [
        ({}, None, "192.168.1.7:51821"),
        ({"lan": ("192.168.1.7/24", "2001:db8:50::7/64", "8.8.8.8/24")}, None, "8.8.8.8:51821"),
        ({"lan": ("2a00::7/64",), "listen_port": 40000}, None, "[2a00::7]:40000"),
        ({"endpoint": "198.51.100.7:5"}, None, "198.51.100.7:5"),
        ({"endpoint": "198.51.100.7:5"}, "198.51.100.8:6", "198.51.100.8:6"),
    ],
)
def test_where_a_gateway_is_called_is_told_as_well_as_it_is_known(
    net: Net, facts: dict[str, Any], pinned: str | None, endpoint: str
) -> None:
    net.join("gate", **facts)
    net.add_gateway("gate", "ingress")
    if pinned:
        net.call("PATCH", "/nodes/gate", {"endpoint": pinned})
    assert net.add_client("phone", gateway="gate")["config"]["endpoint"] == endpoint


def test_a_gateway_that_nobody_can_call_lets_nobody_in(net: Net) -> None:
    net.join("gate", lan=())
    net.add_gateway("gate", "ingress")
    with net.unchanged():
        answer = create(net, name="phone", gateway="gate")
        assert (answer.status, answer.code) == (400, "bad-input")
        assert "--endpoint" in answer.json["hint"]


def test_an_address_may_be_asked_for_of_either_family(net: Net) -> None:
    four, six = (net.get("")[f].split("/")[0] for f in ("cidr4", "cidr6"))
    first = net.add_client("a", address=four[:-1] + "99")
    second = net.add_client("b", address=six + "99")
    assert first["addresses"][0] == four[:-1] + "99"
    assert second["addresses"][1] == six + "99"
    assert len({*first["addresses"], *second["addresses"]}) == 4


def test_a_network_of_one_family_gives_one_address(shared: Controller) -> None:
    for number, cidr in ((1, "10.201.0.0/16"), (2, "fd00:201::/64")):
        net = Net.made(shared, f"single{number}", cidr)
        net.ingress("office")
        assert len(net.add_client("phone")["addresses"]) == 1


def test_a_full_tunnel_needs_an_exit(net: Net) -> None:
    with net.unchanged():
        answer = create(net, name="phone", full_tunnel=True)
        assert (answer.status, answer.code) == (400, "bad-input")
        assert "office exit" in answer.json["hint"]
    net.add_gateway("office", "exit")
    made = net.add_client("phone", full_tunnel=True)
    assert (made["full_tunnel"], made["config"]["ranges"]) == (True, EVERYTHING)
    net.call("DELETE", "/gateways/office/exit")
    assert net.client("phone")["stale"] == ["office is no exit gateway"]


def test_one_ingress_gateway_is_implied_and_of_several_one_must_be_named(net: Net) -> None:
    net.ingress("attic")
    with net.unchanged():
        answer = create(net, name="phone")
        assert (answer.status, answer.code) == (400, "ambiguous")
        assert "attic, office" in answer.json["detail"]
    assert net.add_client("phone", gateway="attic")["gateway"] == "attic"


def test_without_an_ingress_gateway_the_way_to_one_is_shown(shared: Controller) -> None:
    net = Net.made(shared, "bare", "10.210.0.0/16")
    net.join("office")
    net.add_gateway("office", "exit")
    with net.unchanged():
        answer = create(net, name="phone")
        assert (answer.status, answer.code) == (404, "not-found")
        assert "nmk gateway add" in answer.json["hint"]


def test_the_list_is_by_name(net: Net) -> None:
    for name in ("tablet", "laptop", "phone"):
        net.add_client(name)
    assert [c["name"] for c in net.get("/extclients")] == ["laptop", "phone", "tablet"]


def test_a_client_is_changed(net: Net) -> None:
    net.ingress("attic")
    made = net.add_client("phone", gateway="office")
    moved = made["addresses"][0].rpartition(".")[0] + ".200"
    body = {"name": "mobile", "address": moved, "gateway": "attic", "expires": "7d"}
    answer = net.call("PATCH", "/extclients/phone", body)
    changed = answer.json
    assert answer.status == 200
    assert answer.headers["etag"] == f'"{changed["revision"]}"' == etag_of(net, "mobile")
    assert (changed["name"], changed["gateway"]) == ("mobile", "attic")
    assert changed["addresses"] == [moved, made["addresses"][1]]
    assert (changed["id"], changed["public_key"]) == (made["id"], made["public_key"])
    assert changed["expires_at"] > changed["created_at"]
    assert net.client("mobile") == changed
    assert net.call("GET", "/extclients/phone").status == 404
    assert net.call("PATCH", "/extclients/mobile", {"expires": "never"}).json["expires_at"] is None
    same = net.call("PATCH", "/extclients/mobile", {"name": "mobile", "address": moved})
    assert without(same.json, "revision", "expires_at") == without(
        changed, "revision", "expires_at"
    )


def test_another_key_makes_another_config(net: Net) -> None:
    made = net.add_client("phone")
    key = new_key()
    answer = net.call("POST", "/extclients/phone/rotate", {"public_key": key})
    turned = answer.json
    assert answer.status == 200
    assert answer.headers["etag"] == f'"{turned["revision"]}"'
    assert turned["public_key"] == key
    assert turned["config"] == made["config"]
    assert without(turned, "public_key", "revision") == without(made, "public_key", "revision")
    again = net.call("POST", "/extclients/phone/rotate", {"public_key": key})
    assert again.status == 200  # whose answer was lost asks once more
    freed = net.add_client("tablet", public_key=made["public_key"])
    assert freed["public_key"] == made["public_key"]


STALE: dict[str, tuple[Callable[[Net], object], str]] = {
    "address": (
        lambda net: net.call("PATCH", "/extclients/phone", {"address": host_of(net, 200)}),
        "its address is ",
    ),
    "gateway": (
        lambda net: (
            net.ingress("attic", endpoint="vpn.example.org:51820"),
            net.call("PATCH", "/extclients/phone", {"gateway": "attic"}),
        ),
        "its gateway is attic now, and was office",
    ),
    "endpoint": (
        lambda net: net.add_gateway("office", "ingress", endpoint="new.example.org:1"),
        "office is called at new.example.org:1 now",
    ),
    "range": (
        lambda net: net.add_gateway("office", "egress", ranges=["192.168.50.0/24"]),
        "it lacks 192.168.50.0/24",
    ),
    "role": (
        lambda net: net.call("DELETE", "/gateways/office/ingress"),
        "office is no ingress gateway any more",
    ),
    "deleted": (lambda net: net.call("DELETE", "/nodes/office"), "its gateway was deleted"),
}


def host_of(net: Net, number: int) -> str:
    cidr: str = net.get("")["cidr4"]
    return cidr.rpartition(".")[0] + f".{number}"


@pytest.mark.parametrize("what", list(STALE))
def test_a_config_that_no_longer_fits_is_told_and_made_anew(net: Net, what: str) -> None:
    change, reason = STALE[what]
    net.add_client("phone")
    change(net)
    [told] = net.client("phone")["stale"]
    assert told.startswith(reason)
    assert net.get("/extclients")[0]["stale"] == [told]
    if what in {"role", "deleted"}:
        with net.unchanged():
            answer = net.call("POST", "/extclients/phone/rotate", {"public_key": new_key()})
            assert (answer.status, answer.code) == (400, "bad-input")
        net.ingress("heir")
        answer = net.call("PATCH", "/extclients/phone", {"gateway": "heir"})
        assert answer.json["gateway"] == "heir"
    turned = net.call("POST", "/extclients/phone/rotate", {"public_key": new_key()}).json
    assert turned["stale"] == []
    assert net.client("phone")["stale"] == []


def test_a_client_without_its_gateway_is_shown_all_the_same(net: Net) -> None:
    net.add_client("phone")
    net.call("DELETE", "/nodes/office")
    shown = net.client("phone")
    assert (shown["gateway"], shown["state"]) == (None, "enabled")
    assert net.call("DELETE", "/extclients/phone").status == 204


def test_a_client_is_kept_out_and_let_in_again(net: Net) -> None:
    net.add_client("phone")
    for verb, state in (("disable", "disabled"), ("disable", "disabled"), ("enable", "enabled")):
        answer = net.call("POST", f"/extclients/phone/{verb}")
        assert (answer.status, answer.json["state"]) == (200, state)
        assert answer.headers["etag"] == etag_of(net, "phone")
        assert net.client("phone") == answer.json


def test_a_deleted_client_leaves_its_name_and_key_to_others(net: Net) -> None:
    made = net.add_client("phone")
    answer = net.call("DELETE", "/extclients/phone")
    assert (answer.status, answer.body) == (204, b"")
    for method, path in (
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/enable"),
        ("POST", "/disable"),
        ("POST", "/rotate"),
    ):
        body = {"public_key": new_key()}
        assert net.call(method, f"/extclients/phone{path}", body).code == "not-found"
    heir = net.add_client("phone", public_key=made["public_key"])
    assert heir["id"] != made["id"]
    assert not set(heir["addresses"]) & set(made["addresses"])  # an address rests for a while
    asked = net.add_client("tablet", address=made["addresses"][0])
    assert asked["addresses"][0] == made["addresses"][0]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "", {"expires": "1h"}),
        ("DELETE", "", None),
        ("POST", "/rotate", {"public_key": key32(99, kind=4)}),
        ("POST", "/enable", None),
        ("POST", "/disable", None),
    ],
)
def test_an_edit_of_what_has_changed_is_refused(
    net: Net, method: str, path: str, body: object
) -> None:
    net.add_client("phone")
    old = etag_of(net, "phone")
    net.call("PATCH", "/extclients/phone", {"expires": "7d"})
    with net.unchanged():
        answer = net.call(method, f"/extclients/phone{path}", body, etag=old)
        assert (answer.status, answer.code) == (412, "stale")
    new = etag_of(net, "phone")
    assert net.call(method, f"/extclients/phone{path}", body, etag=new).status in {200, 204}


def test_a_dry_run_answers_as_if_and_changes_nothing(strict: Net) -> None:
    with strict.unchanged():
        body = {"name": "new", "gateway": "attic", "public_key": new_key(), "expires": "1h"}
        made = strict.call("POST", "/extclients", body, dry=True)
        assert (made.status, made.json["name"], made.json["gateway"]) == (201, "new", "attic")
        assert made.json["config"]["endpoint"] == "vpn.example.org:51821"
        changed = strict.call("PATCH", "/extclients/phone", {"name": "mobile"}, dry=True)
        assert (changed.status, changed.json["name"]) == (200, "mobile")
        key = new_key()
        turned = strict.call("POST", "/extclients/phone/rotate", {"public_key": key}, dry=True)
        assert (turned.status, turned.json["public_key"]) == (200, key)
        kept_out = strict.call("POST", "/extclients/phone/disable", dry=True)
        assert (kept_out.status, kept_out.json["state"]) == (200, "disabled")
        assert strict.call("DELETE", "/extclients/phone", dry=True).status == 204
        assert strict.call("DELETE", "/extclients/nobody", dry=True).status == 404
        refused = strict.call("POST", "/extclients", {**body, "name": "phone"}, dry=True)
        assert (refused.status, refused.code) == (409, "name-taken")


@pytest.mark.parametrize(
    "name", [n for n in HOSTILE_NAMES if n not in {"nobody", "elsewhere"}], ids=short
)
def test_names_that_are_no_labels_are_refused(strict: Net, name: str) -> None:
    with strict.unchanged():
        answers = [
            create(strict, name=name, gateway="office"),
            strict.call("PATCH", "/extclients/phone", {"name": name}),
        ]
        for answer in answers:
            assert (answer.status, answer.code) == (400, "bad-input")
            assert answer.body.isascii()
            assert len(answer.body) < 1000


@pytest.mark.parametrize("name", ["", None, 5, True, ["phone"], {"name": "phone"}])
def test_names_that_are_no_texts_are_refused(strict: Net, name: object) -> None:
    with strict.unchanged():
        for answer in (
            create(strict, name=name, gateway="office"),
            strict.call("PATCH", "/extclients/phone", {"name": name}),
        ):
            assert (answer.status, answer.code) == (400, "bad-input")


@pytest.mark.parametrize(
    "segment",
    ["nobody", "%2e%2e", "%2f", "%00", "%ff%fe", "%C3%A9", "a" * 64, "a" * 5000, "%0d%0a", "plain"],
    ids=short,
)
@pytest.mark.parametrize(
    ("method", "verb"),
    [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/rotate"),
        ("POST", "/enable"),
        ("POST", "/disable"),
    ],
)
def test_who_is_not_there_is_told(strict: Net, method: str, verb: str, segment: str) -> None:
    with strict.unchanged():
        body = {"public_key": new_key()} if verb == "/rotate" else {"expires": "1h"}
        answer = strict.call(method, f"/extclients/{segment}{verb}", body)
        # A slash makes it another path, which may take no such request.
        found = {(404, "not-found")} | (
            {(405, "method-not-allowed")} if segment == "%2f" else set()
        )
        assert (answer.status, answer.code) in found


@pytest.mark.parametrize(
    "key",
    [
        "",
        "x",
        ZEROS,
        base64.b64encode(bytes([7] * 31)).decode(),
        base64.b64encode(bytes([7] * 33)).decode(),
        base64.b64encode(bytes([7] * 64)).decode(),
        bytes([7] * 32).hex(),
        key32(1).rstrip("="),
        key32(1) + "=",
        key32(1) + "\n",
        " " + key32(1),
        key32(1)[:-2] + "F=",  # bits that no byte has
        base64.urlsafe_b64encode(bytes([255] * 32)).decode(),
        key32(1)[:-1] + "\u003d\u0300",
        "\uff21" * 43 + "=",
        "A" * 100_000,
        key32(1) + "\nAllowedIPs = 0.0.0.0/0",
        None,
        5,
        True,
        [7] * 32,
        {"key": key32(1)},
    ],
    ids=short,
)
def test_keys_that_are_none_are_refused(strict: Net, key: object) -> None:
    with strict.unchanged():
        for answer in (
            create(strict, name="new", gateway="office", public_key=key),
            strict.call("POST", "/extclients/phone/rotate", {"public_key": key}),
            strict.call("POST", "/extclients/tablet/rotate", {"public_key": key}, dry=True),
        ):
            assert (answer.status, answer.code) == (400, "bad-input")
            assert len(answer.body) < 1000


def test_a_key_that_is_somebodys_is_refused(strict: Net) -> None:
    nodes = [node["public_key"] for node in strict.get("/nodes")]
    with strict.unchanged():
        for key in (*nodes, key32(1, kind=4)):
            for answer in (
                create(strict, name="new", gateway="office", public_key=key),
                strict.call("POST", "/extclients/tablet/rotate", {"public_key": key}),
            ):
                assert (answer.status, answer.code) == (409, "name-taken")
                assert key in answer.json["detail"]
        own = strict.call(
            "POST", "/extclients/phone/rotate", {"public_key": key32(1, kind=4)}, dry=True
        )
        assert own.status == 200


def test_a_key_may_be_in_two_networks(net: Net, shared: Controller) -> None:
    other = Net.made(shared, "second", "10.211.0.0/16")
    other.ingress("office")
    key = net.add_client("phone")["public_key"]
    assert other.add_client("phone", public_key=key)["public_key"] == key


WRONG: list[tuple[Json, int, str]] = [
    ({"gateway": "nobody"}, 404, "not-found"),
    ({"gateway": "plain"}, 400, "bad-input"),
    ({"gateway": "phone"}, 404, "not-found"),
    ({"gateway": "tablet"}, 404, "not-found"),
    ({"gateway": ""}, 400, "bad-input"),
    ({"gateway": 5}, 400, "bad-input"),
    ({"gateway": "office\n"}, 404, "not-found"),
    ({"gateway": "a" * 100_000}, 404, "not-found"),
    ({"address": "10.250.0.77"}, 409, "address-taken"),  # a node's
    ({"address": "10.250.0.88"}, 409, "address-taken"),  # an ext client's
    ({"address": "10.250.0.0"}, 400, "bad-input"),
    ({"address": "10.250.255.255"}, 400, "bad-input"),
    ({"address": "10.251.0.1"}, 400, "bad-input"),
    ({"address": "10.250.0.99/32"}, 400, "bad-input"),
    ({"address": "10.250.0.099"}, 400, "bad-input"),
    ({"address": "fd00:250::"}, 400, "bad-input"),
    ({"address": "fd00:251::1"}, 400, "bad-input"),
    ({"address": "fd00:250::99%eth0"}, 400, "bad-input"),
    ({"address": "::ffff:10.250.0.99"}, 400, "bad-input"),
    ({"address": "10.250.0.99\n"}, 400, "bad-input"),
    ({"address": ""}, 400, "bad-input"),
    ({"address": 184156259}, 400, "bad-input"),
    ({"expires": ""}, 400, "bad-input"),
    ({"expires": "soon"}, 400, "bad-input"),
    ({"expires": "0s"}, 400, "bad-input"),
    ({"expires": "-1h"}, 400, "bad-input"),
    ({"expires": "999999999w"}, 400, "bad-input"),
    ({"expires": "1h\n"}, 400, "bad-input"),
    ({"expires": 60}, 400, "bad-input"),
    ({"expires": None}, 400, "bad-input"),
]


@pytest.mark.parametrize(("body", "status", "code"), WRONG)
def test_wishes_that_cannot_be_are_refused(strict: Net, body: Json, status: int, code: str) -> None:
    with strict.unchanged():
        for answer in (
            create(strict, **{"name": "new", "gateway": "office", **body}),
            strict.call("PATCH", "/extclients/phone", {"name": "mobile", **body}),
        ):
            assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("value", [None, 0, 1, "true", "", [], {}])
def test_full_tunnel_is_true_or_false(strict: Net, value: object) -> None:
    with strict.unchanged():
        answer = create(strict, name="new", gateway="office", full_tunnel=value)
        assert (answer.status, answer.code) == (400, "bad-input")


@pytest.mark.parametrize(
    "body",
    [
        {"colour": "red"},
        {"state": "enabled"},
        {"full_tunnel": "true"},
        {"public_key": key32(98, kind=4)},
        {"private_key": "secret"},
        {"revision": "7"},
        {"": "x"},
        {"name": "mobile", "colour": "red"},
    ],
)
def test_other_settings_are_refused(strict: Net, body: Json) -> None:
    """As at nodes."""
    with strict.unchanged():
        answer = strict.call("PATCH", "/extclients/phone", body)
        assert (answer.status, answer.code) == (400, "bad-input")


@pytest.mark.parametrize("body", [b"", b"\xff", b"[" * 100_000, b"null", b"[]", b'"x"', b"5"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gateways"),
        ("POST", "/extclients"),
        ("POST", "/hubs"),
        ("PATCH", "/extclients/phone"),
        ("POST", "/extclients/phone/rotate"),
    ],
)
def test_a_body_that_is_no_object_is_refused(
    strict: Net, method: str, path: str, body: bytes
) -> None:
    with strict.unchanged():
        answer = strict.call(method, path, body)
        assert (answer.status, answer.code) == (400, "bad-input")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/extclients", 405),
        ("DELETE", "/extclients", 405),
        ("POST", "/extclients/phone", 405),
        ("GET", "/extclients/phone/rotate", 405),
        ("POST", "/extclients/phone/", 404),
        ("POST", "/extclients/phone/config", 404),
        ("GET", "/hubs", 405),
    ],
)
def test_other_requests_are_refused(strict: Net, method: str, path: str, status: int) -> None:
    with strict.unchanged():
        answer = strict.call(method, path, {})
        assert answer.status == status
        assert answer.code in {"not-found", "method-not-allowed"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/extclients"),
        ("POST", "/extclients"),
        ("GET", "/extclients/phone"),
        ("PATCH", "/extclients/phone"),
        ("DELETE", "/extclients/phone"),
        ("POST", "/extclients/phone/rotate"),
        ("POST", "/extclients/phone/enable"),
        ("POST", "/extclients/phone/disable"),
        ("POST", "/hubs"),
    ],
)
def test_a_network_that_is_not_there_has_no_clients(
    shared: Controller, method: str, path: str
) -> None:
    body = {"name": "phone", "public_key": key32(1), "node": "office"}
    if method == "PATCH":
        body = {"name": "phone"}
    answer = shared.admin_call(method, f"/v1/networks/nowhere{path}", body)
    assert (answer.status, answer.code) == (404, "not-found")


def test_a_full_range_is_told(shared: Controller) -> None:
    net = Net.made(shared, "full", "10.212.0.0/30")
    net.ingress("office")
    with net.unchanged():
        answer = create(net, name="phone")
        assert (answer.status, answer.code) == (409, "range-full")


def test_nodes_and_clients_share_one_space_of_names(net: Net) -> None:
    net.add_client("phone")
    with net.unchanged():
        for answer in (
            create(net, name="office"),
            create(net, name="phone"),
            net.call("PATCH", "/nodes/office", {"name": "phone"}),
            net.call("PATCH", "/extclients/phone", {"name": "office"}),
        ):
            assert (answer.status, answer.code) == (409, "name-taken")
        with pytest.raises(Refused) as refused:
            net.join("phone")
        assert refused.value.code == "name-taken"
    net.call("DELETE", "/extclients/phone")
    net.join("phone")


def test_a_machine_called_like_a_client_gets_a_number(net: Net) -> None:
    net.add_client("host")
    agent = replace(net.witness, identity=type(net.witness.identity).generate(), seq=0)
    agent.facts = replace(agent.facts, wg_key=new_key())
    assert agent.join()["self"]["name"] == "host-2"


def test_no_node_takes_a_clients_key_or_address(net: Net) -> None:
    made = net.add_client("phone")
    plain = net.join("plain")
    with net.unchanged():
        with pytest.raises(Refused) as refused:
            net.join("other", wg_key=made["public_key"])
        assert refused.value.code == "bad-input"
        plain.facts = replace(plain.facts, wg_key=made["public_key"])
        with pytest.raises(Refused) as refused:
            plain.check_in(report=True)
        assert refused.value.code == "bad-input"
        for address in made["addresses"]:
            with pytest.raises(Refused) as refused:
                net.join("other", address=address)
            assert refused.value.code == "address-taken"
            answer = net.call("PATCH", "/nodes/office", {"address": address})
            assert (answer.status, answer.code) == (409, "address-taken")


COLOUR = "neither red nor a part of some key"


def test_fields_that_nobody_knows_are_not_stored(net: Net) -> None:
    """As at the other routes that make something; a private key would be one of them."""
    secret = base64.b64encode(bytes(range(1, 33))).decode()
    more = {"private_key": secret, "PrivateKey": secret, "config": secret, "colour": COLOUR}
    made = net.add_client("phone", **more)
    turned = net.call(
        "POST", "/extclients/phone/rotate", {"public_key": new_key(), "private_key": secret}
    )
    assert turned.status == 200
    for told in (made, turned.json, net.everything()):
        assert secret not in json.dumps(told)
        assert COLOUR not in json.dumps(told)


RACES: dict[str, tuple[Callable[[Net], Json], str]] = {
    "name": (lambda _: {"name": "phone"}, "name-taken"),
    "address": (lambda net: {"address": host_of(net, 99)}, "address-taken"),
    "key": (lambda _: {"public_key": key32(1, kind=4)}, "name-taken"),
}


@pytest.mark.parametrize("what", list(RACES))
def test_of_those_that_want_the_same_at_once_one_gets_it(net: Net, what: str) -> None:
    wish, code = RACES[what]
    same = wish(net)
    start = Barrier(8)

    def race(number: int) -> Answer:
        start.wait()
        return create(net, **{"name": f"phone{number}", **same})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(race, range(8)))
    assert sorted(a.status for a in answers) == [201] + [409] * 7
    assert {a.code for a in answers if a.status == 409} == {code}
    [winner] = net.get("/extclients")
    assert winner["id"] in {a.json["id"] for a in answers if a.status == 201}


def test_those_that_want_anything_at_once_all_get_something(net: Net) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: net.add_client(f"phone{number}"), range(24)))
    addresses = [address for client in made for address in client["addresses"]]
    taken = [address for node in net.get("/nodes") for address in node["addresses"]]
    assert len({*addresses, *taken}) == len(addresses) + len(taken)


@pytest.mark.parametrize("what", ["name", "address"])
def test_a_node_and_a_client_that_want_the_same_do_not_both_get_it(net: Net, what: str) -> None:
    def join(number: int) -> bool:
        mine: Json = {"name": f"same{number}"}
        if what == "address":
            mine = {"name": f"node{number}", "address": host_of(net, 100 + number)}
        start.wait()
        try:
            net.join(**mine)
        except Refused as refused:
            codes.append(refused.code)
            return False
        return True

    def make(number: int) -> bool:
        mine: Json = {"name": f"same{number}"}
        if what == "address":
            mine = {"name": f"client{number}", "address": host_of(net, 100 + number)}
        start.wait()
        answer = create(net, **mine)
        if answer.status != 201:
            codes.append(answer.code)
        return answer.status == 201

    codes: list[str] = []
    start = Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        for number in range(8):
            both = pool.submit(join, number), pool.submit(make, number)
            assert [done.result() for done in both].count(True) == 1
    assert codes == [f"{what}-taken"] * 8


def test_every_node_is_told_who_comes_and_goes(net: Net) -> None:
    office = net.ingress("gate")
    office.check_in()
    net.witness.check_in()
    made = net.add_client("phone", gateway="gate")
    entry = {
        "id": made["id"],
        "name": "phone",
        "key": made["public_key"],
        "addresses": made["addresses"],
        "via": office.id,
    }
    agents = (office, net.witness)

    def told() -> list[tuple[Json, list[str]]]:
        """What each agent learns of clients, in one delta."""
        deltas = [agent.check_in() for agent in agents]
        assert [d["full"] for d in deltas] == [False, False]
        assert all("full" not in agent.check_in() for agent in agents)
        return [(clients_in(d), d["gone"]) for d in deltas]

    assert told() == [({"phone": entry}, [])] * 2
    net.call("POST", "/extclients/phone/disable")
    assert told() == [({}, [made["id"]])] * 2
    net.call("PATCH", "/extclients/phone", {"expires": "1h"})  # still kept out
    assert told() == [({}, [made["id"]])] * 2
    net.call("POST", "/extclients/phone/enable")
    assert told() == [({"phone": entry}, [])] * 2
    key = new_key()
    net.call("POST", "/extclients/phone/rotate", {"public_key": key})
    assert told() == [({"phone": {**entry, "key": key}}, [])] * 2
    net.call("PATCH", "/extclients/phone", {"gateway": "office", "name": "mobile"})
    moved = {**entry, "key": key, "name": "mobile", "via": net.agents["office"].id}
    assert told() == [({"mobile": moved}, [])] * 2
    net.call("DELETE", "/extclients/mobile")
    assert told() == [({}, [made["id"]])] * 2


def test_who_comes_and_goes_between_two_check_ins_is_not_told_of(net: Net) -> None:
    net.witness.check_in()
    made = net.add_client("phone")
    net.call("DELETE", "/extclients/phone")
    delta = net.witness.check_in()
    assert clients_in(delta) == {}
    assert set(delta["gone"]) <= {made["id"]}
    net.add_client("tablet")
    net.call("POST", "/extclients/tablet/disable")
    net.call("POST", "/extclients/tablet/enable")
    delta = net.witness.check_in()
    assert (list(clients_in(delta)), delta["gone"]) == (["tablet"], [])


def test_a_full_view_holds_those_who_are_let_in(net: Net) -> None:
    for name in ("in", "out", "gone"):
        net.add_client(name)
    net.call("POST", "/extclients/out/disable")
    net.call("DELETE", "/extclients/gone")
    net.witness.at = ("00" * 8, 0, "")
    view = net.witness.check_in()
    assert view["full"]
    assert list(clients_in(view)) == ["in"]


def test_many_come_and_go_and_every_way_to_learn_of_it_agrees(net: Net) -> None:
    """Deltas of one agent, a full view of another."""
    known: dict[str, str] = {}
    for number in range(30):
        net.add_client(f"c{number}")
        if number % 3 == 1:
            net.call("POST", f"/extclients/c{number - 1}/disable")
        if number % 3 == 2:
            net.call("DELETE", f"/extclients/c{number - 1}")
        if number % 7 == 0:
            delta = net.witness.check_in()
            known = {i: n for i, n in known.items() if i not in delta.get("gone", [])}
            known |= {entry["id"]: name for name, entry in clients_in(delta).items()}
    delta = net.witness.check_in()
    known = {i: n for i, n in known.items() if i not in delta.get("gone", [])}
    known |= {entry["id"]: name for name, entry in clients_in(delta).items()}
    net.witness.at = ("00" * 8, 0, "")
    full = {e["id"]: name for name, e in clients_in(net.witness.check_in()).items()}
    enabled = {c["id"]: c["name"] for c in net.get("/extclients") if c["state"] == "enabled"}
    assert known == full == enabled
    assert len(enabled) == 10


def test_clients_outlive_a_restart(controller: Controller) -> None:
    net = Net.made(controller, "home", "10.50.0.0/16")
    office = net.ingress("office")
    for name in ("in", "out", "gone"):
        net.add_client(name, expires="1h")
    net.call("POST", "/extclients/out/disable")
    net.call("DELETE", "/extclients/gone")
    office.check_in()
    before = net.get("/extclients")
    controller.stop()
    controller.start()
    assert net.get("/extclients") == before
    assert list(office.check_in()) == ["at"]
    net.call("POST", "/extclients/out/enable")
    assert list(clients_in(office.check_in())) == ["out"]


def test_a_deleted_network_takes_its_clients_along(net: Net, shared: Controller) -> None:
    made = net.add_client("phone")
    cidrs = [net.get("")[family] for family in ("cidr4", "cidr6")]
    assert shared.admin_call("DELETE", f"/v1/networks/{net.name}").status == 204
    again = Net.made(shared, net.name, *cidrs)
    assert again.get("/extclients") == []
    again.ingress("office")
    heir = again.add_client("phone", public_key=made["public_key"])
    assert heir["id"] != made["id"]
    again.witness.at = ("00" * 8, 0, "")
    assert list(clients_in(again.witness.check_in())) == ["phone"]


def called(client: Json, *, received: int = 10, sent: int = 20, age: int = 5, at: str = "") -> str:
    """What a gateway says of a client."""
    return f"{client['id']},{received},{sent},{age},{at or '198.51.100.7:4000'}"


def calls_of(found: Json) -> tuple[object, ...]:
    return tuple(found[k] for k in ("handshake", "endpoint", "received", "sent"))


def test_who_calls_a_gateway_is_shown(net: Net) -> None:
    gate = net.ingress("gate")
    phone, tablet, never = (net.add_client(n, gateway="gate") for n in ("phone", "tablet", "never"))
    told = f"{called(phone)} {called(tablet, received=2**63, at='[2001:db8::7]:1')}"
    gate.check_in(callers=told)
    shown = {c["name"]: calls_of(c) for c in net.get("/extclients")}
    assert shown["never"] == (None, None, None, None)
    age, *phones = shown["phone"]
    assert isinstance(age, int)
    assert 5 <= age < 60
    assert phones == ["198.51.100.7:4000", 10, 20]
    assert shown["tablet"][1:] == ("[2001:db8::7]:1", 2**63, 20)
    for name in ("phone", "tablet", "never"):
        assert calls_of(net.client(name))[1:] == shown[name][1:]
    gate.check_in(callers=called(never))
    assert calls_of(net.client("phone")) == (None, None, None, None)
    assert calls_of(net.client("never"))[1] == "198.51.100.7:4000"


NONSENSE = (
    "x",
    " ",
    ",,,,",
    "ID",
    "ID,1,2,3",
    "ID,1,2,3,-,4",
    "ID,-1,2,3,-",
    "ID,1,2,-3,-",
    "ID,1.5,2,3,-",
    "ID,x,2,3,-",
    "ID,1,2,x,-",
    "ID,1,2,3,",
    "ID,1,2,3,nowhere",
    "ID,1,2,3,0.0.0.0:1",
    "ID,1,2,3,198.51.100.7",
    "ID,1,2,3,[2001:db8::7",
    "ID,1,2,3,198.51.100.7:99999",
    "ID,1,2,3,\x1b[31m:1",
    f"ID,{2**64 + 1},2,3,-",
    f"ID,1,2,{'9' * 30},-",
    "ID,\u0661,2,3,-",
    "ID,1,2,3,198.51.100.7:4000 ID",
    "ID,1,2,3,198.51.100.7:4000\nID,1,2,3,198.51.100.7:4000",
    "\x00",
    "," * 100_000,
    "0123456789abcdef,1,2,3,198.51.100.7:4000",  # nobody's
    "../../etc/passwd,1,2,3,-",
)


@pytest.mark.parametrize("text", NONSENSE, ids=short)
def test_nonsense_of_callers_harms_nobody_and_is_not_shown(strict: Net, text: str) -> None:
    attic, office = strict.agents["attic"], strict.agents["office"]
    attic.check_in()
    office.check_in(callers=called(strict.client("phone")))
    nonsense = text.replace("ID", strict.client("tablet")["id"])
    assert list(attic.check_in(callers=nonsense)) == ["at"]
    shown = {c["name"]: calls_of(c) for c in strict.get("/extclients")}
    assert shown["tablet"] == calls_of(strict.client("tablet")) == (None, None, None, None)
    assert shown["phone"][1:] == ("198.51.100.7:4000", 10, 20)


@pytest.mark.parametrize("callers", [5, None, True, ["x"], {"x": 1}, "x" * (128 * 1024 + 1)])
def test_what_is_no_text_of_callers_is_refused_under_seal(net: Net, callers: object) -> None:
    office = net.agents["office"]
    body = json.dumps({"at": list(office.at[1:]), "callers": callers}).encode()
    with pytest.raises(Refused) as refused:
        office._exchange(Kind.CHECK_IN, body)
    assert refused.value.code == "bad-input"


def test_of_who_lets_nobody_in_no_callers_are_remembered(net: Net) -> None:
    plain = net.join("plain")
    phone = net.add_client("phone")
    plain.check_in(callers=called(phone))
    net.add_gateway("plain", "ingress")
    net.call("PATCH", "/extclients/phone", {"gateway": "plain"})
    assert net.client("phone")["handshake"] is None
    plain.check_in(callers=called(phone))
    assert net.client("phone")["handshake"] is not None


def test_nobody_is_believed_of_clients_that_are_not_his(net: Net) -> None:
    gate, plain = net.ingress("gate"), net.join("plain")
    phone = net.add_client("phone", gateway="office")
    net.add_client("tablet", gateway="gate")
    for agent in (gate, plain):
        agent.check_in(callers=called(phone))
        assert calls_of(net.client("phone")) == (None, None, None, None)
        shown = {c["name"]: calls_of(c) for c in net.get("/extclients")}
        assert shown["phone"] == (None, None, None, None)


def test_after_a_move_the_new_gateway_is_asked(net: Net) -> None:
    gate = net.ingress("gate")
    phone = net.add_client("phone", gateway="office")
    net.add_client("tablet", gateway="office")
    net.agents["office"].check_in(callers=called(phone, received=1))

    def received() -> tuple[object, object]:
        listed = {c["name"]: c["received"] for c in net.get("/extclients")}
        return listed["phone"], net.client("phone")["received"]

    assert received() == (1, 1)
    net.call("PATCH", "/extclients/phone", {"gateway": "gate"})
    assert received() == (None, None)
    gate.check_in(callers=called(phone, received=2))
    assert received() == (2, 2)


def hub(net: Net, **changes: object) -> Json:
    """A hub with two clients, as `nmk extclient import` tells of it; its node is `plain`."""
    return {
        "node": "plain",
        "public_key": new_key(),
        "addresses": [host_of(net, 1 + 200)],
        "clients": [
            {"name": "anna", "public_key": new_key(), "addresses": [host_of(net, 202)]},
            {"name": "berta", "public_key": new_key(), "addresses": [host_of(net, 203)]},
        ],
        **changes,
    }


def test_a_hub_is_taken_over_with_its_clients(net: Net) -> None:
    plain = net.join("plain")
    body = hub(net)
    answer = net.call("POST", "/hubs", body)
    made = answer.json
    assert (answer.status, answer.headers["etag"]) == (201, f'"{made["revision"]}"')
    assert (made["node"], made["roles"], made["known"]) == ("plain", ["ingress"], 0)
    assert [c["name"] for c in made["clients"]] == ["anna", "berta"]
    assert net.get("/nodes/plain")["addresses"][0] == body["addresses"][0]
    assert net.get("/nodes/plain")["roles"] == ["ingress"]
    anna = net.client("anna")
    assert anna["addresses"] == [host_of(net, 202)]
    assert (anna["gateway"], anna["state"]) == ("plain", "enabled")
    assert anna["stale"] == ["plain has another key now"]
    plain.facts = replace(plain.facts, wg_key=body["public_key"])
    view = plain.check_in(report=True)
    assert set(clients_in(view)) == {"anna", "berta"}
    assert net.client("anna")["stale"] == []
    with net.unchanged():
        again = net.call("POST", "/hubs", body)
        assert (again.status, again.json["clients"], again.json["known"]) == (201, [], 2)
        assert again.json["roles"] == ["ingress"]


def test_a_name_that_is_taken_gets_a_number(net: Net) -> None:
    net.join("plain")
    net.add_client("anna")
    made = net.call("POST", "/hubs", hub(net)).json
    assert [c["name"] for c in made["clients"]] == ["anna-2", "berta"]


def test_a_dry_take_over_changes_nothing(net: Net) -> None:
    net.join("plain")
    with net.unchanged():
        answer = net.call("POST", "/hubs", hub(net, lets_out=True), dry=True)
        assert (answer.status, len(answer.json["clients"])) == (201, 2)
        assert answer.json["roles"] == ["ingress", "exit"]


def test_the_largest_hub_is_one_request(shared: Controller) -> None:
    """With the longest names and addresses of both families, as `nmk extclient import` sends it."""
    net = Net.made(shared, "largest", "100.120.0.0/16", "fdcc:ad94:bacf:61a4::/64")
    net.join("n" * 63)
    clients = tuple(
        HubClient(
            f"{n:04}" + "x" * 59,
            new_key(),
            None,
            (
                f"100.120.{100 + n // 100}.{100 + n % 100}",
                f"fdcc:ad94:bacf:61a4:aaaa:aaaa:aaaa:{n:04x}",
            ),
        )
        for n in range(4096, 4096 + MOST_CLIENTS)
    )
    addresses = ("100.120.0.250/16", "fdcc:ad94:bacf:61a4:ffff:ffff:ffff:ffff/64")
    body = request_of("n" * 63, Hub(generate_private_key(), 51820, addresses, clients, ()))
    answer = net.call("POST", "/hubs", body, dry=True)
    assert (answer.status, len(answer.json["clients"])) == (201, MOST_CLIENTS)


def client_of(net: Net, **changes: object) -> Json:
    return {"name": "cora", "public_key": new_key(), "addresses": [host_of(net, 210)], **changes}


HUBS: dict[str, tuple[Callable[[Net], Json], int, str]] = {
    "no such node": (lambda _: {"node": "nobody"}, 404, "not-found"),
    "no key": (lambda _: {"public_key": "x"}, 400, "bad-input"),
    "zeros": (lambda _: {"public_key": ZEROS}, 400, "bad-input"),
    "a node's key": (
        lambda net: {"public_key": net.get("/nodes/office")["public_key"]},
        400,
        "bad-input",
    ),
    "a client's key": (
        lambda net: {"public_key": net.client("phone")["public_key"]},
        400,
        "bad-input",
    ),
    "an address elsewhere": (lambda _: {"addresses": ["192.0.2.1"]}, 400, "bad-input"),
    "a node's address": (
        lambda net: {"addresses": net.get("/nodes/office")["addresses"]},
        409,
        "address-taken",
    ),
    "no address": (lambda _: {"addresses": ["nonsense"]}, 400, "bad-input"),
    "two addresses of a family": (
        lambda net: {"addresses": [host_of(net, 204), host_of(net, 205)]},
        400,
        "bad-input",
    ),
    "no list of addresses": (lambda _: {"addresses": "10.0.0.1"}, 400, "bad-input"),
    "no list": (lambda _: {"clients": {}}, 400, "bad-input"),
    "no object": (lambda _: {"clients": [5]}, 400, "bad-input"),
    "no name": (lambda net: {"clients": [client_of(net, name="")]}, 400, "bad-input"),
    "a name that is none": (
        lambda net: {"clients": [client_of(net, name="Anna's phone")]},
        400,
        "bad-input",
    ),
    "a client without a key": (
        lambda net: {"clients": [client_of(net, public_key=None)]},
        400,
        "bad-input",
    ),
    "a client's zeros": (
        lambda net: {"clients": [client_of(net, public_key=ZEROS)]},
        400,
        "bad-input",
    ),
    "a client with a node's key": (
        lambda net: {"clients": [client_of(net, public_key=net.witness.facts.wg_key)]},
        409,
        "name-taken",
    ),
    "a client elsewhere": (
        lambda net: {"clients": [client_of(net, addresses=["192.0.2.1"])]},
        400,
        "bad-input",
    ),
    "a client with a node's address": (
        lambda net: {"clients": [client_of(net, addresses=net.get("/nodes/office")["addresses"])]},
        409,
        "address-taken",
    ),
    "a client with two addresses of a family": (
        lambda net: {"clients": [client_of(net, addresses=[host_of(net, 211), host_of(net, 212)])]},
        400,
        "bad-input",
    ),
    "a client without an address": (
        lambda net: {"clients": [client_of(net, addresses=[])]},
        400,
        "bad-input",
    ),
}


@pytest.mark.parametrize("what", list(HUBS))
def test_a_hub_that_cannot_be_is_refused_whole(strict: Net, what: str) -> None:
    wrong, status, code = HUBS[what]
    body = hub(strict)
    changed = wrong(strict)
    if isinstance(changed.get("clients"), list):
        changed["clients"] = [*body["clients"], *changed["clients"]]
    with strict.unchanged():
        answer = strict.call("POST", "/hubs", {**body, **changed})
        assert (answer.status, answer.code) == (status, code)


@pytest.mark.parametrize("what", ["key", "address", "hub's key", "hub's address"])
def test_a_hub_whose_clients_share_something_is_refused_whole(net: Net, what: str) -> None:
    net.join("plain")
    body = hub(net)
    first, second = body["clients"]
    match what:
        case "key":
            second["public_key"] = first["public_key"]
        case "address":
            second["addresses"] = first["addresses"]
        case "hub's key":
            second["public_key"] = body["public_key"]
        case _:
            second["addresses"] = body["addresses"]
    with net.unchanged():
        answer = net.call("POST", "/hubs", body)
        assert answer.status in {400, 409}
        assert answer.code in {"bad-input", "name-taken", "address-taken"}


def test_the_log_tells_who_changed_a_client(controller: Controller) -> None:
    net = Net.made(controller, "home", "10.50.0.0/16")
    net.ingress("office")
    key = net.add_client("phone")["public_key"]
    net.call("PATCH", "/extclients/phone", {"expires": "1h"})
    net.call("POST", "/extclients/phone/disable")
    net.call("POST", "/extclients/phone/enable")
    net.call("POST", "/extclients/phone/rotate", {"public_key": new_key()})
    net.call("DELETE", "/extclients/phone", dry=True)
    net.call("DELETE", "/extclients/phone")
    told = [e for e in controller.events() if e["event"].startswith("extclient")]
    verbs = ("created", "set", "disabled", "enabled", "rotated", "deleted")
    assert [e["event"] for e in told] == [f"extclient-{verb}" for verb in verbs]
    assert {(e["extclient"], e["actor"]) for e in told} == {("phone", "admin-key")}
    assert key not in controller.log
