"""Gateways: what an admin makes of nodes, and what every node is told of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import pytest

from nmk.core.mesh import Mesh
from nmk.core.records import Record
from nmk.core.roles import RoleWish, add_role
from nmk.wire.envelope import Kind
from tests.core.made import made_node
from tests.server.agent import Refused
from tests.server.inside import Inside
from tests.server.net import Net, short
from tests.server.process import Answer, Controller

LAN = ("192.168.50.1/24", "2001:db8:50::1/64")
BARE: dict[str, object] = {
    "ranges": [],
    "mapped": {},
    "same_lan": [],
    "shares": [],
    "left_out_more": 0,
    "nat": None,
    "interface": None,
    "metric": None,
    "endpoint": None,
    "called_at": None,
    "clients": None,
    "serves": None,
    "obstacle": None,
}
CALLED = "192.168.1.7:51821"  # an address of its own, as nothing better is known
_numbers = count(1)


@pytest.fixture
def net(shared: Controller) -> Net:
    """A network with a node `office`."""
    number = next(_numbers)
    made = Net.made(shared, f"gate{number}", f"172.16.{number}.0/24", f"fd16:{number:x}::/64")
    made.join("office", lan=LAN)
    return made


@pytest.fixture(scope="module")
def strict(shared: Controller) -> Net:
    """A network that refuses whatever is asked; `office` has all roles, `plain` has none."""
    Net.made(shared, "lab", "10.60.0.0/16").join("elsewhere")
    made = Net.made(shared, "strict", "10.50.0.0/16", "fd50::/64")
    made.join("plain")
    made.ingress("office")
    made.add_gateway("office", "egress", ranges=["192.168.50.0/24"])
    made.add_gateway("office", "exit")
    return made


def ask(net: Net, node: object, role: object, **options: object) -> Answer:
    return net.call("POST", "/gateways", {"node": node, "role": role, **options})


@pytest.mark.parametrize(
    ("role", "options", "shown"),
    [
        ("ingress", {}, {"clients": 0, "called_at": CALLED}),
        (
            "ingress",
            {"endpoint": "VPN.example.org:51820"},
            {
                "clients": 0,
                "endpoint": "vpn.example.org:51820",
                "called_at": "vpn.example.org:51820",
            },
        ),
        (
            "egress",
            {"ranges": ["2001:db8:50::/64", "192.168.50.0/24"]},
            {
                "ranges": ["192.168.50.0/24", "2001:db8:50::/64"],
                "nat": "auto",
                "metric": 100,
            },
        ),
        (
            "egress",
            {"ranges": ["10.0.0.0/8"], "nat": "off", "interface": "eth0", "metric": 1},
            {"ranges": ["10.0.0.0/8"], "nat": "off", "interface": "eth0", "metric": 1},
        ),
        ("exit", {}, {"nat": "auto"}),
        ("exit", {"nat": "on", "interface": "wan"}, {"nat": "on", "interface": "wan"}),
    ],
)
def test_a_node_gets_a_role(
    shared: Controller, role: str, options: dict[str, object], shown: dict[str, object]
) -> None:
    number = next(_numbers)
    net = Net.made(shared, f"role{number}", f"172.16.{number}.0/24", f"fd16:{number:x}::/64")
    net.join("office")
    answer = ask(net, "office", role, **options)
    made = answer.json
    assert (answer.status, answer.headers["etag"]) == (201, f'"{made["revision"]}"')
    revision = net.get("/nodes/office")["revision"]
    head = {"node": "office", "role": role, "network": net.name, "state": "healthy"}
    assert made == {**head, **BARE, **shown, "left_out": [], "revision": revision}
    assert net.get("/gateways") == [made]
    assert net.get("/nodes/office")["roles"] == [role]


def test_every_node_is_told_of_a_role_and_of_its_end(net: Net) -> None:
    web = net.join("web")
    net.witness.check_in()
    net.add_gateway("web", "egress", ranges=["192.168.7.0/24"], metric=5)
    roles = {
        "egress": {"ranges": ["192.168.7.0/24"], "nat": "auto", "interface": None, "metric": 5}
    }
    [[entry]] = net.witness.check_in()["peers"]
    assert (entry["name"], entry["gateway"]) == ("web", roles)
    assert web.check_in()["self"]["gateway"] == roles
    assert net.call("DELETE", "/gateways/web/egress").status == 204
    [[entry]] = net.witness.check_in()["peers"]
    assert entry["name"] == "web"
    assert "gateway" not in entry
    assert web.check_in()["self"]["gateway"] == {}


def test_a_role_given_again_keeps_what_is_not_named(net: Net) -> None:
    net.add_gateway("office", "egress", ranges=["192.168.50.0/24"], nat="off", metric=7)
    again = net.add_gateway("office", "egress", ranges=["192.168.9.0/24"], interface="eth1")
    wanted = {"nat": "off", "metric": 7, "interface": "eth1"}
    assert {k: again[k] for k in wanted} == wanted
    assert again["ranges"] == ["192.168.50.0/24", "192.168.9.0/24"]
    assert net.add_gateway("office", "egress", metric="9")["metric"] == 9
    assert net.add_gateway("office", "egress", ranges=["192.168.9.0/24"])["ranges"] == [
        "192.168.50.0/24",
        "192.168.9.0/24",
    ]
    net.add_gateway("office", "ingress", endpoint="vpn.example.org:51820")
    assert net.add_gateway("office", "ingress")["endpoint"] == "vpn.example.org:51820"
    net.add_gateway("office", "exit", nat="on")
    assert net.add_gateway("office", "exit", interface="wan")["nat"] == "on"


def test_the_list_has_a_row_for_each_role_by_name(net: Net) -> None:
    net.join("attic")
    for node, role in (("office", "exit"), ("office", "ingress"), ("attic", "exit")):
        net.add_gateway(node, role)
    rows = [(row["node"], row["role"]) for row in net.get("/gateways")]
    assert rows == [("attic", "exit"), ("office", "ingress"), ("office", "exit")]
    roles = {node["name"]: node["roles"] for node in net.get("/nodes")}
    assert roles == {"attic": ["exit"], "office": ["ingress", "exit"], "witness": []}


def test_clients_are_counted_where_they_are_let_in(net: Net) -> None:
    net.ingress("attic")
    net.add_gateway("attic", "exit")
    net.add_gateway("office", "ingress")
    for name, gateway in (("a", "attic"), ("b", "attic"), ("c", "office")):
        net.add_client(name, gateway=gateway)
    net.call("DELETE", "/extclients/a")
    rows = {(row["node"], row["role"]): row["clients"] for row in net.get("/gateways")}
    assert rows == {("attic", "ingress"): 1, ("attic", "exit"): None, ("office", "ingress"): 1}
    assert net.add_gateway("attic", "ingress")["clients"] == 1


def test_who_is_in_a_range_itself_is_named(net: Net) -> None:
    net.join("inside", lan=("192.168.50.9/24", "10.9.0.1/16"))
    net.join("around", lan=("192.168.0.9/16",))
    net.join("within", lan=("192.168.50.77/26",))  # its packets go by the longer prefix
    net.join("apart", lan=("192.168.51.9/24",))
    made = net.add_gateway("office", "egress", ranges=["192.168.50.0/24", "10.8.0.0/24"])
    assert made["left_out"] == [
        {"range": "192.168.50.0/24", "node": "around", "subnet": "192.168.0.0/16"},
        {"range": "192.168.50.0/24", "node": "inside", "subnet": "192.168.50.0/24"},
    ]
    assert net.get("/gateways")[0]["left_out"] == made["left_out"]
    standby = net.add_gateway(
        "inside", "egress", ranges=["192.168.50.0/24"], metric=200, same_lan=True
    )
    assert [row["node"] for row in standby["left_out"]] == ["around"]  # office routes it itself
    assert [[x["node"] for x in row["left_out"]] for row in net.get("/gateways")] == [
        ["around"]
    ] * 2


def test_some_ranges_go_and_with_the_last_of_them_the_role(net: Net) -> None:
    ranges = ["192.168.50.0/24", "192.168.51.0/24", "2001:db8:50::/64"]
    net.add_gateway("office", "egress", ranges=ranges, nat="off", metric=3)
    two = "?range=192.168.51.0/24&range=2001%3Adb8%3A50%3A%3A%2F64"
    assert net.call("DELETE", f"/gateways/office/egress{two}").status == 204
    [row] = net.get("/gateways")
    assert (row["ranges"], row["nat"], row["metric"]) == (["192.168.50.0/24"], "off", 3)
    assert net.call("DELETE", "/gateways/office/egress?range=192.168.50.0/24").status == 204
    assert net.get("/gateways") == []
    assert net.get("/nodes/office")["roles"] == []


def test_a_role_goes_and_the_others_stay(net: Net) -> None:
    net.add_gateway("office", "ingress")
    net.add_gateway("office", "egress", ranges=["192.168.50.0/24", "192.168.51.0/24"])
    net.add_gateway("office", "exit")
    for role, left in (("egress", ["ingress", "exit"]), ("ingress", ["exit"]), ("exit", [])):
        assert net.call("DELETE", f"/gateways/office/{role}").status == 204
        assert net.get("/nodes/office")["roles"] == left


def test_a_gateway_that_is_renamed_or_reports_stays_one(net: Net) -> None:
    office = net.ingress("gate", endpoint="vpn.example.org:1")
    office.check_in(report=True)
    net.call("PATCH", "/nodes/gate", {"name": "door"})
    [row] = net.get("/gateways")
    assert (row["node"], row["endpoint"]) == ("door", "vpn.example.org:1")


def test_a_gateway_that_is_deleted_or_leaves_is_none(net: Net) -> None:
    attic = net.ingress("attic")
    net.add_gateway("office", "exit")
    net.call("DELETE", "/nodes/office")
    attic.leave()
    assert net.get("/gateways") == []


def test_roles_outlive_a_restart(controller: Controller) -> None:
    net = Net.made(controller, "home", "10.50.0.0/16")
    office = net.ingress("office", endpoint="vpn.example.org:51820")
    net.add_gateway("office", "egress", ranges=["192.168.50.0/24"], nat="off", interface="eth0")
    net.add_gateway("office", "exit", nat="on")
    office.check_in()
    before = net.get("/gateways")
    controller.stop()
    controller.start()
    assert net.get("/gateways") == [{**row, "state": "unheard"} for row in before]
    assert list(office.check_in()) == ["at"]
    assert net.get("/gateways") == before


def test_a_dry_run_answers_as_if_and_changes_nothing(strict: Net) -> None:
    body = {"node": "plain", "role": "egress", "ranges": ["192.168.99.0/24"]}
    with strict.unchanged():
        made = strict.call("POST", "/gateways", body, dry=True)
        assert (made.status, made.json["ranges"]) == (201, ["192.168.99.0/24"])
        for path in ("/ingress", "/exit", "/egress", "/egress?range=192.168.50.0/24"):
            assert strict.call("DELETE", f"/gateways/office{path}", dry=True).status == 204
        refused = strict.call("POST", "/gateways", {**body, "ranges": ["x"]}, dry=True)
        assert (refused.status, refused.code) == (400, "bad-input")
        assert strict.call("DELETE", "/gateways/plain/exit", dry=True).status == 404


def test_of_two_admins_who_change_a_role_one_is_told_that_he_was_late(net: Net) -> None:
    old = ask(net, "office", "exit").headers["etag"]
    new = ask(net, "office", "exit", nat="on").headers["etag"]
    role = {"node": "office", "role": "exit", "nat": "off"}
    with net.unchanged():
        for etag, why in (("nonsense", (400, "bad-input")), (old, (412, "stale"))):
            for answer in (
                net.call("DELETE", "/gateways/office/exit", etag=etag),
                net.call("POST", "/gateways", role, etag=etag),
            ):
                assert (answer.status, answer.code) == why
    newest = net.call("POST", "/gateways", role, etag=new)
    assert newest.status == 201
    assert net.call("DELETE", "/gateways/office/exit", etag=newest.headers["etag"]).status == 204


@pytest.mark.parametrize(
    ("said", "serves", "obstacle"),
    [
        ("yes", True, None),
        ("accept-roles", False, "its owner has accept-roles=off"),
        ("nft", False, "nft is not installed there"),
        ("down", False, "its owner took the interface down"),
        ("interface", True, None),  # which is in the way of the roles that have one alone
        ("network", True, None),  # which is in the way of an egress gateway alone
        ("a word of later versions", False, None),
        ("", None, None),
    ],
)
def test_a_gateway_says_whether_it_serves(
    net: Net, said: str, serves: bool | None, obstacle: str | None
) -> None:
    gate = net.ingress("gate")
    gate.check_in(serves="yes")
    gate.check_in(serves=said)
    [row] = net.get("/gateways")
    assert (row["serves"], row["obstacle"]) == (serves, obstacle)


def test_a_range_that_is_in_another_network_of_the_gateway_is_not_served(net: Net) -> None:
    gate = net.ingress("gate")
    net.add_gateway("gate", "egress", ranges=["192.168.50.0/24"])
    gate.check_in(serves="network")
    rows = {row["role"]: row for row in net.get("/gateways")}
    assert (rows["ingress"]["serves"], rows["egress"]["serves"]) == (True, False)
    assert rows["egress"]["obstacle"] == (
        "a range of it is in another network of its machine, where it lets nobody in"
    )


@pytest.mark.parametrize("said", [5, True, ["yes"], {}, "x" * 256, "\x1b[31m"])
def test_what_is_no_word_of_a_gateway_is_refused_under_seal(net: Net, said: object) -> None:
    gate = net.ingress("gate")
    body = json.dumps({"at": list(gate.at[1:]), "serves": said}).encode()
    with net.unchanged(), pytest.raises(Refused) as refused:
        gate._exchange(Kind.CHECK_IN, body)
    assert refused.value.code == "bad-input"


TOO_MANY = [f"10.{n // 256}.{n % 256}.0/24" for n in range(65)]


@pytest.mark.parametrize(
    "ranges",
    [
        [],
        "192.168.7.0/24",
        {"192.168.7.0/24": 1},
        [5],
        [None],
        [["192.168.7.0/24"]],
        [""],
        ["/"],
        ["192.168.7.0"],
        ["192.168.7.0/"],
        ["192.168.7.0/33"],
        ["192.168.7.0/-1"],
        ["192.168.7.1/24"],
        ["2001:db8::1/64"],
        ["192.168.7/24"],
        ["192.168.07.0/24"],
        ["3232237312/24"],
        ["0xc0.0xa8.7.0/24"],
        [" 192.168.7.0/24"],
        ["192.168.7.0/24\n"],
        ["192.168.7.0/24 "],
        ["192.168.7.0/24,192.168.8.0/24"],
        ["192.168.7.0/24; reboot"],
        ["192.168.7.0/٢٤"],
        ["fe80::%eth0/64"],
        ["fd07::%1/64"],
        ["0.0.0.0/0"],
        ["::/0"],
        ["0.0.0.0/1"],
        ["128.0.0.0/1"],
        ["8000::/1"],
        ["0.0.0.0/8"],
        ["::/16"],
        ["::/96"],
        ["::ffff:0:0/96"],
        ["::ffff:192.168.7.0/120"],
        ["127.0.0.0/8"],
        ["127.1.2.0/24"],
        ["::1/128"],
        ["169.254.0.0/16"],
        ["fe80::/64"],
        ["224.0.0.0/8"],
        ["ff02::/16"],
        ["240.0.0.0/8"],
        ["255.255.255.255/32"],
        ["192.168.7.0/24", "nonsense"],
        TOO_MANY,
    ],
    ids=short,
)
def test_ranges_that_nobody_can_route_are_refused(strict: Net, ranges: object) -> None:
    with strict.unchanged():
        answer = ask(strict, "plain", "egress", ranges=ranges)
        assert (answer.status, answer.code) == (400, "bad-input")


@pytest.mark.parametrize(
    "cidr",
    [
        "10.50.0.0/16",
        "10.50.7.0/24",
        "10.0.0.0/8",
        "10.50.0.7/32",
        "fd50::/64",
        "fd50::/48",
        "fd50::7/128",
    ],
)
def test_a_range_of_the_network_itself_is_refused(strict: Net, cidr: str) -> None:
    with strict.unchanged():
        for ranges in ([cidr], ["192.168.7.0/24", cidr]):
            answer = ask(strict, "plain", "egress", ranges=ranges)
            assert (answer.status, answer.code) == (409, "range-overlaps")
            assert cidr in answer.json["detail"]


@pytest.mark.parametrize(
    ("role", "options"),
    [
        ("ingress", {"ranges": ["192.168.7.0/24"]}),
        ("ingress", {"nat": "on"}),
        ("ingress", {"interface": "eth0"}),
        ("ingress", {"metric": 5}),
        ("egress", {"ranges": ["192.168.7.0/24"], "endpoint": "vpn.example.org:1"}),
        ("exit", {"ranges": ["192.168.7.0/24"]}),
        ("exit", {"endpoint": "vpn.example.org:1"}),
        ("exit", {"metric": 5}),
    ],
)
def test_what_means_nothing_to_a_role_is_refused(
    strict: Net, role: str, options: dict[str, object]
) -> None:
    with strict.unchanged():
        answer = ask(strict, "plain", role, **options)
        assert (answer.status, answer.code) == (400, "bad-input")
        assert role in answer.json["detail"]


ENDPOINTS: tuple[object, ...] = (
    ":51820",
    ":",
    "nowhere ",
    "vpn..example.org",
    "192.0.2.256",
    "0.0.0.0",
    "vpn.example.org:",
    "vpn.example.org:0",
    "vpn.example.org:65536",
    "vpn.example.org:51820 ",
    "vpn.example.org:51820\n",
    "vpn.example.org\n:51820",
    "vpn..example.org:51820",
    "-vpn.example.org:51820",
    "vpn.example.org-:51820",
    "https://vpn.example.org:51820",
    "user@vpn.example.org:51820",
    "vpn.example.org:51820\nPostUp = reboot",
    "vpn.exämple.org:51820",
    "a" * 64 + ".org:51820",
    ".".join(["a" * 60] * 5) + ":51820",
    "192.0.2.256:51820",
    "192.0.2:51820",
    "0.0.0.0:51820",
    "224.0.0.1:51820",
    "2001:db8::1:51820",
    "2001:db8::1",
    "[2001:db8::1",
    "[2001:db8::1]:",
    "[]",
    "[::]",
    "[::]:51820",
    "[ff02::1]:51820",
    "[fe80::1%eth0]:51820",
    "[::ffff:192.0.2.1]:51820",
    5,
    ["vpn.example.org:51820"],
)
INTERFACES: tuple[object, ...] = (
    ".",
    "..",
    "eth 0",
    "eth/0",
    "../eth0",
    "eth0\n",
    "\u00e9",
    "x" * 16,
    5,
    [],
)
WRONG: list[tuple[str, str, tuple[object, ...]]] = [
    ("ingress", "endpoint", ENDPOINTS),
    ("egress", "nat", ("", "ON", "yes", " on", "on\n", True, 1, ["on"], {})),
    ("exit", "interface", INTERFACES),
    ("egress", "metric", (0, "0", -1, 65536, 10**30, 1.5, True, "", "x", "\u0661", " 5", [5], {})),
]
CULPRITS = [(role, name, value) for role, name, values in WRONG for value in values]


@pytest.mark.parametrize(("role", "name", "value"), CULPRITS, ids=short)
def test_options_that_cannot_be_are_refused(
    strict: Net, role: str, name: str, value: object
) -> None:
    ranges = {"ranges": ["192.168.7.0/24"]} if role == "egress" else {}
    with strict.unchanged():
        answer = ask(strict, "plain", role, **ranges, **{name: value})
        assert (answer.status, answer.code) == (400, "bad-input")


@pytest.mark.parametrize("host", ["nowhere", "vpn.example.org", "198.51.100.9", "[2001:db8::1]"])
def test_an_endpoint_without_a_port_is_at_the_nodes_own(net: Net, host: str) -> None:
    net.join("gate", listen_port=51999)
    made = net.add_gateway("gate", "ingress", endpoint=host)
    assert made["endpoint"] == made["called_at"] == f"{host}:51999"


def test_an_empty_option_takes_back_what_was_given(net: Net) -> None:
    given = net.add_gateway("office", "ingress", endpoint="vpn.example.org:1")
    assert net.add_gateway("office", "ingress")["endpoint"] == given["endpoint"]
    assert net.add_gateway("office", "ingress", endpoint="")["endpoint"] is None
    assert net.add_gateway("office", "exit", interface="wan")["interface"] == "wan"
    assert net.add_gateway("office", "exit", interface="")["interface"] is None


def test_a_range_of_a_family_that_the_network_has_not_is_refused(shared: Controller) -> None:
    net = Net.made(shared, "four", "10.61.0.0/24")
    net.join("office")
    with net.unchanged():
        answer = ask(net, "office", "egress", ranges=["2001:db8:50::/64"])
        assert (answer.status, answer.code) == (400, "bad-input")


@pytest.mark.parametrize("role", ["", "INGRESS", "ingress ", "exit\n", "gateway", "*", None, 5, []])
def test_other_roles_are_refused(strict: Net, role: object) -> None:
    with strict.unchanged():
        answer = ask(strict, "plain", role)
        assert (answer.status, answer.code) == (400, "bad-input")


HOSTILE_NAMES = (
    "nobody",
    "elsewhere",  # a node of another network
    "*",
    "..",
    ".",
    "/",
    "../nodes",
    "plain/..",
    "Plain",
    "plain ",
    "plain\n",
    "plain\x00",
    "\x1b[31mplain",
    "é",
    "plаin",  # noqa: RUF001  # with a Cyrillic letter
    "😀",
    "a" * 64,
    "a" * 100_000,
    "%2e%2e",
    "'; DROP TABLE nodes; --",
)


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=short)
def test_a_node_that_is_not_there_is_told(strict: Net, name: str) -> None:
    with strict.unchanged():
        answer = ask(strict, name, "exit")
        assert (answer.status, answer.code) == (404, "not-found")
        assert answer.body.isascii()
        assert len(answer.body) < 1000


@pytest.mark.parametrize("name", ["", None, 5, True, ["plain"], {"name": "plain"}])
def test_what_is_no_name_is_told(strict: Net, name: object) -> None:
    with strict.unchanged():
        answer = ask(strict, name, "exit")
        assert (answer.status, answer.code) == (400, "bad-input")


@pytest.mark.parametrize(
    "segment",
    [
        "nobody",
        "%2e%2e",
        "%2f",
        "%00",
        "%ff%fe",
        "%C3%A9",
        "a" * 64,
        "a" * 5000,
        "%0d%0a",
        "plain%20",
    ],
    ids=short,
)
def test_nothing_is_taken_from_who_is_not_there(strict: Net, segment: str) -> None:
    with strict.unchanged():
        answer = strict.call("DELETE", f"/gateways/{segment}/exit")
        assert (answer.status, answer.code) == (404, "not-found")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/plain/exit", 404),  # it has no role
        ("/office/EXIT", 400),
        ("/office/nothing", 400),
        ("/office/%00", 400),
        ("/office/egress?range=192.168.51.0/24", 404),  # it does not route that
        ("/office/egress?range=192.168.50.0/24&range=192.168.51.0/24", 404),
        ("/office/egress?range=192.168.50.1/24", 400),
        ("/office/egress?range=192.168.50.0/25", 404),
        ("/office/egress?range=0.0.0.0/0", 400),
        ("/office/egress?range=", 400),
        ("/office/egress?range=nonsense", 400),
        ("/office/exit?range=192.168.50.0/24", 400),
        ("/office", 404),
        ("", 405),
        ("/office/exit/more", 404),
    ],
)
def test_what_is_not_there_cannot_be_taken(strict: Net, path: str, status: int) -> None:
    with strict.unchanged():
        answer = strict.call("DELETE", f"/gateways{path}")
        assert answer.status == status
        assert answer.code


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_a_network_that_is_not_there_has_no_gateways(shared: Controller, method: str) -> None:
    path = "/v1/networks/nowhere/gateways" + ("/office/exit" if method == "DELETE" else "")
    answer = shared.admin_call(method, path, {"node": "office", "role": "exit"})
    assert (answer.status, answer.code) == (404, "not-found")


def test_fields_that_nobody_knows_are_no_part_of_a_role(net: Net) -> None:
    """As at the other routes that make something."""
    made = net.add_gateway("office", "exit", colour="red", private_key="secret")
    assert not {"colour", "private_key"} & made.keys()
    assert net.get("/gateways") == [made]


def test_many_at_once_lose_no_range(net: Net) -> None:
    cidrs = [f"192.168.{number}.0/24" for number in range(100, 112)]
    with ThreadPoolExecutor(6) as pool:
        made: list[Any] = list(
            pool.map(lambda cidr: net.add_gateway("office", "egress", ranges=[cidr]), cidrs)
        )
    assert net.get("/gateways")[0]["ranges"] == cidrs
    assert len({one["revision"] for one in made}) == len(cidrs)


@pytest.mark.parametrize("dry", [False, True])
def test_an_answer_is_of_its_own_change(
    inner: Inside, monkeypatch: pytest.MonkeyPatch, *, dry: bool
) -> None:
    """Also where another one is stored before the answer is made, as by two admins at once."""
    net = Net.made(inner, f"raced{int(dry)}", f"172.17.{int(dry)}.0/24")
    net.ingress("office")
    net.add_client("phone")
    commit, others = inner.controller.commit, count(1)

    def commit_and_another(*args: Any, **how: Any) -> list[Record]:
        stored = commit(*args, **how)

        def decide(meshes: Mapping[str, Mesh]) -> list[Record]:
            mesh = meshes[net.name]
            number = next(others)
            wish = RoleWish("office", "egress", [f"192.168.{number}.0/24"])
            return [add_role(mesh, wish), made_node(20 + number, network=net.name)]

        commit("another", (net.name,), decide)
        return stored

    monkeypatch.setattr(inner.controller, "commit", commit_and_another)
    for method, path, body in [
        ("POST", "/gateways", {"node": "office", "role": "egress", "ranges": ["10.9.0.0/24"]}),
        ("PATCH", "", {"settings": {"mtu": 1400}}),
        ("PATCH", "/nodes/office", {"endpoint": "192.0.2.1:5"}),
        ("PATCH", "/extclients/phone", {"routes": "192.168.77.0/24"}),
    ]:
        mesh = inner.controller.meshes[net.name]
        before, own = mesh.revision, len(mesh.nodes)
        ranges = set(mesh.by_name["office"].gateway.ranges)
        answer = net.call(method, path, body, dry=dry)
        assert answer.status in {200, 201}, answer.body
        now = before if dry else before + 1
        told = answer.json
        assert told.get("check_in", {"newest": now})["newest"] == now
        assert told.get("nodes", own) == own
        assert dry or told["revision"] == now
        if path == "/gateways":
            assert set(told["ranges"]) == ranges | {"10.9.0.0/24"}


def test_the_log_tells_who_changed_a_gateway(controller: Controller) -> None:
    net = Net.made(controller, "home")
    net.join("office")
    net.add_gateway("office", "egress", ranges=["192.168.50.0/24"])
    net.call("POST", "/gateways", {"node": "office", "role": "exit"}, dry=True)
    net.call("DELETE", "/gateways/office/egress?range=192.168.50.0/24")
    told = [e for e in controller.events() if e["event"].startswith("gateway")]
    assert [e["event"] for e in told] == ["gateway-added", "gateway-removed"]
    for event in told:
        assert (event["node"], event["role"], event["actor"]) == ("office", "egress", "admin-key")
        assert event["ranges"] == ["192.168.50.0/24"]
