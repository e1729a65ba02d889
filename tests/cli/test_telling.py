"""What the admin's commands say besides: what is amiss, what goes with it, what to type next."""

from __future__ import annotations

import shlex
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmk.server.presence import Sighting
from tests.cli.inprocess import nmk
from tests.server.inside import Inside
from tests.server.net import Net


@pytest.fixture
def net(inner: Inside, monkeypatch: pytest.MonkeyPatch) -> Iterator[Net]:
    """The only network there is, of this test's own."""
    monkeypatch.setenv("NMK_SERVER", inner.admin_url)
    made = Net.made(inner, "home", "10.20.0.0/16")
    yield made
    assert made.call("DELETE").status == 204


@pytest.mark.parametrize("uses", ["1", "5"])
def test_what_contradicts_itself_is_refused(net: Net, uses: str) -> None:
    with net.unchanged():
        done = nmk("key", "create", "--uses", uses, "--unlimited")
    assert done.code == 2
    assert "--uses and --unlimited" in done.err


@pytest.mark.usefixtures("net")
@pytest.mark.parametrize(
    ("option", "told"),
    [
        (("--unlimited",), "lets any number of machines join"),
        ((), "lets one machine join"),
    ],
)
def test_how_many_machines_a_key_lets_in_is_said(option: tuple[str, ...], told: str) -> None:
    assert told in nmk("key", "create", *option).err


def test_a_gateway_that_its_owner_took_down_is_named(net: Net) -> None:
    gate = net.join("officea")
    net.add_gateway("officea", "egress", ranges=["192.168.50.0/24"])
    gate.check_in(serves="down")
    line = "officea does not serve as egress gateway: its owner took the interface down\n"
    for noun in ("gateway", "node"):
        assert line in nmk(noun, "list").err
    gate.check_in(serves="yes")
    for noun in ("gateway", "node"):
        assert nmk(noun, "list").err == ""


@pytest.mark.parametrize(
    ("exit_by", "said", "egress", "exit_"),
    [
        (None, "interface", False, True),
        ("eth8", "interface", False, False),
        ("eth8", "egress-interface", False, True),
        ("eth8", "exit-interface", True, False),
    ],
)
def test_an_interface_that_is_missing_is_in_the_way_of_its_own_role(
    net: Net, exit_by: str | None, said: str, egress: bool, exit_: bool
) -> None:
    gate = net.join("gate")
    net.add_gateway("gate", "egress", ranges=["192.168.50.0/24"], interface="eth7")
    net.add_gateway("gate", "exit", interface=exit_by)
    gate.check_in(serves=said)
    rows = {g["role"]: g for g in net.get("/gateways")}
    assert {role: row["serves"] for role, row in rows.items()} == {"egress": egress, "exit": exit_}
    for row in rows.values():
        why = f"the interface that it shall route by, {row['interface']}, is not there"
        assert row["obstacle"] == (None if row["serves"] else why)


def test_a_mapping_that_takes_a_gateway_out_of_its_group_says_who_is_left(net: Net) -> None:
    for name in ("a", "b"):
        net.join(name)
        net.add_gateway(name, "egress", ranges=["192.168.50.0/24"], same_lan=True)
    map_a = ("gateway", "add", "a", "egress", "192.168.50.0/24", "--as", "10.201.0.0/24")
    for done in (nmk(*map_a, "--dry-run"), nmk(*map_a)):
        assert "b goes on to route 192.168.50.0/24, and a stands in for it no more" in done.err
    map_b = "gateway add -n home b egress 192.168.50.0/24 --as 10.201.0.0/24 --same-lan"
    assert f"to map it too: nmk {map_b}\n" in done.err
    assert "no more" not in nmk(*map_b.split()).err
    assert {tuple(row["ranges"]) for row in net.get("/gateways")} == {("10.201.0.0/24",)}


@pytest.fixture
def peopled(net: Net) -> Net:
    """With the gateway `web` and its client `r1`."""
    net.ingress("web", endpoint="192.0.2.7:51821")
    net.add_client("r1")
    return net


def assert_refused(net: Net, command: str, told: str, hint: str, *, code: int) -> None:
    """The command says this alone, and changes nothing."""
    with net.unchanged():
        done = nmk(*shlex.split(command))
    assert (done.code, done.err) == (code, f"nmk: {told}\n  try: {hint}\n")


def without_revision(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.startswith("revision"))


def test_a_dry_run_says_what_the_real_one_does(net: Net) -> None:
    """It looks at the network as it would be, not as it is."""
    net.ingress("gate", endpoint="192.0.2.7:51821")
    net.join("office")
    net.add_client("shop", routes="192.168.60.0/24")
    for command in (
        "extclient set shop routes=",
        "extclient set shop routes=192.168.61.0/24",
        "extclient set shop address=10.20.9.9",
        "extclient disable shop",
        "gateway add office egress 192.168.62.0/24",
    ):
        with net.unchanged():
            dry = nmk(*command.split(), "--dry-run")
        real = nmk(*command.split())
        assert (dry.code, real.code) == (0, 0)
        assert without_revision(dry.out) == without_revision(real.out)
        if command.startswith("extclient set"):
            assert dry.err == real.err


@pytest.mark.parametrize(
    ("command", "told", "hint"),
    [
        ("network set home mtu = 1380", "'mtu' has no value", "write mtu=1380"),
        ("network set home mtu =1380", "'mtu' has no value", "write mtu=1380"),
        ("network set home mtu= 1380", "'1380' is no setting", "write mtu=1380, without a space"),
        ("network set home mtu", "'mtu' has no value", "write mtu=1420"),
        ("network set home mtu interval=5", "'mtu' has no value", "write mtu=1420"),
        ("network set home xy", "'xy' is no setting", "write it like mtu=1420 or keepalive=25"),
        ("set kill-switch", "'kill-switch' has no value", "write kill-switch=on"),
        ("set exit-node north", "'exit-node' has no value", "write exit-node=north"),
        ("set accept-routes", "'accept-routes' has no value", "write accept-routes=off"),
        ("node set web x", "'x' is no setting", "write it like name=www or address=10.20.0.80"),
        (
            "extclient set r1 routes=192.168.1.0/24 192.168.2.0/24",
            "'192.168.2.0/24' is no setting",
            "write routes=192.168.1.0/24,192.168.2.0/24, with commas between",
        ),
        ("extclient set r1 expires", "'expires' has no value", "write expires=7d"),
    ],
)
def test_a_setting_with_a_space_in_it_is_written_right(
    peopled: Net, command: str, told: str, hint: str
) -> None:
    assert_refused(peopled, command, told, hint, code=2)


@pytest.mark.usefixtures("net")
def test_a_key_that_is_not_there_is_looked_for_in_its_network(inner: Inside) -> None:
    other = Net.made(inner, "office", "10.21.0.0/16")
    done = nmk("key", "delete", "4f2a91c3d07be856", "-n", "home")
    [hint] = [line for line in done.err.splitlines() if line.startswith("  try: nmk ")]
    assert nmk(*hint.removeprefix("  try: nmk ").split()).code == 0
    assert other.call("DELETE").status == 204


def test_a_machine_that_was_unknown_is_named_until_it_is_a_node(inner: Inside, net: Net) -> None:
    presence = inner.controller.presence
    web = net.join("web")
    presence.hear_stranger("home", "AAAA", "192.0.2.1")
    presence.hear_stranger("home", b64encode(web.identity.public).decode(), "192.0.2.2")
    told = nmk("node", "list").err
    assert "a machine at 192.0.2.1 checks in as node" in told
    assert "last at 2023-11-14T22:13:20Z" in told
    assert "192.0.2.2" not in told


def test_who_is_in_the_range_behind_a_router_is_named(net: Net) -> None:
    net.ingress("gate", endpoint="192.0.2.7:51821")
    net.join("laptop", lan=("192.168.60.9/24",))
    line = "laptop leaves out 192.168.60.0/24 of shop: it is in 192.168.60.0/24 itself\n"
    create = ("extclient", "create", "shop", "--routes", "192.168.60.0/24")
    assert line in nmk(*create, "--dry-run").err
    assert line in nmk(*create).err
    assert "leaves out" not in nmk("extclient", "set", "shop", "routes=192.168.61.0/24").err
    assert line in nmk("extclient", "set", "shop", "routes=192.168.60.0/24", "--dry-run").err


ROUTED = "; nobody else routes 192.168.50.0/24"
OUT = "; machines with exit-node=door and 1 full-tunnel ext clients lose their way out"


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("gateway remove door egress", f"the role egress from door{ROUTED}"),
        ("gateway remove door exit", f"the role exit from door{OUT}"),
        ("gateway remove spare egress", "the role egress from spare"),
        ("node delete door", f"node door, the gateway of 1 ext clients{ROUTED}{OUT}"),
        ("node delete spare", "node spare"),
    ],
)
def test_what_goes_with_a_gateway_is_said_before(net: Net, command: str, told: str) -> None:
    for name in ("door", "spare"):
        net.ingress(name, endpoint="192.0.2.7:51821")
    net.add_gateway("door", "egress", ranges=["192.168.50.0/24", "192.168.51.0/24"])
    net.add_gateway("spare", "egress", ranges=["192.168.51.0/24"], same_lan=True)
    net.add_gateway("door", "exit")
    net.add_client("phone", gateway="door", full_tunnel=True)
    assert nmk(*command.split(), "--dry-run").err.endswith(f" {told}\n")
    asked = nmk(*command.split())
    assert asked.code == 2
    assert f" {told}? " in asked.err


def test_a_role_that_is_given_once_more_is_no_new_revision(net: Net) -> None:
    net.join("north")
    command = "gateway add north egress 192.168.50.0/24 --metric 5"
    assert "is an egress gateway of home" in nmk(*command.split()).err
    with net.unchanged():
        for again in (command, "gateway add north egress", f"{command} --dry-run"):
            done = nmk(*again.split())
            assert "nothing to change: north is that gateway of home already" in done.err
    itself = nmk("gateway", "add", "north", "egress", "192.168.9.0/24", "--as", "192.168.9.0/24")
    assert "192.168.9.0/24 stands for itself" in itself.err


@pytest.mark.parametrize(
    ("command", "told", "hint"),
    [
        ("key create --uses", "Option '--uses' requires an argument.", "nmk key create --help"),
        ("server --listen", "Option '--listen' requires an argument.", "nmk server --help"),
        (
            "join --token-file /nowhere/token",
            "the token cannot be read from '/nowhere/token': No such file or directory",
            "nmk join -   (paste the token, then Ctrl-D)",
        ),
        ("gateway add web egress ''", "one of the ranges is empty", "give one, or leave it out"),
        ("extclient set r1 name=", "the name is empty", "give one, or leave it out"),
        ("extclient set r1 gateway=", "the gateway is empty", "give one, or leave it out"),
        (
            "gateway add web ingress --endpoint http://vpn.example.net",
            "'http://vpn.example.net' is a URL, and no endpoint",
            "without the rest: vpn.example.net",
        ),
        (
            "gateway add web ingress --endpoint 'vpn example net'",
            "'vpn example net' is no host or IP address",
            "write it like vpn.example.org:51821 or [2001:db8::7]:51821",
        ),
        (
            "node set web endpoint=vpn.example.net",
            "'vpn.example.net' is no IP address",
            "give an address and no name, like 198.51.100.7:51821 or [2001:db8::7]:51821",
        ),
        (
            "extclient create r2 --routes 0.0.0.0/0",
            "'0.0.0.0/0' is everything, which is behind no router",
            "give the ranges of its LAN; all traffic of the device itself: --full-tunnel",
        ),
        (
            "extclient create r2 --routes ''",
            "--routes is empty",
            "leave it out, where nothing is behind the device",
        ),
        (
            "key create --uses ''",
            "'' cannot be the number of uses",
            "use a number from 1 to 1000000",
        ),
        (
            "node show wbe",
            "there is no node 'wbe' in home",
            "nmk node list -n home   (web?)",
        ),
        (
            "extclient show r11",
            "there is no ext client 'r11' in home",
            "nmk extclient list -n home   (r1?)",
        ),
        ("network set home mtuu=1380", "'mtuu' is no setting", "write mtu"),
        (
            "network set home mtu=1380 mtu=1400",
            "'mtu' is given twice",
            "write one of them: mtu=1400",
        ),
        (
            "set accept-routes=off accept-routes=on",
            "'accept-routes' is given twice",
            "write one of them: accept-routes=on",
        ),
        ("node set web name=a name=b", "'name' is given twice", "write one of them: name=b"),
        ("gateway remove web exit", "'web' is no exit gateway", "nmk gateway list -n home"),
        (
            "node list -n hoem",
            "there is no network 'hoem'",
            "nmk network list   (home?)",
        ),
        ("node show r1", "'r1' is an ext client, and no node", "nmk extclient show -n home r1"),
        ("extclient show web", "'web' is a node, and no ext client", "nmk node show -n home web"),
    ],
)
def test_what_is_refused_comes_with_a_way_out(
    peopled: Net, command: str, told: str, hint: str
) -> None:
    found = " show " in command or " remove " in command or " -n " in command
    assert_refused(peopled, command, told, hint, code=1 if found else 2)


def test_an_option_that_is_mistyped_in_the_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_CONFIG_DIR", str(tmp_path))
    (tmp_path / "server.toml").write_text('public-ulr = "http://192.0.2.1:50051"\n')
    done = nmk("server")
    assert (done.code, done.err.splitlines()[-1]) == (2, "  try: write public-url")


@pytest.mark.parametrize(
    ("listen", "is_noted"),
    [("127.0.0.1:8081", False), ("off", False), ("0.0.0.0:8081", True), ("*:8081", True)],
)
def test_an_admin_api_that_others_reach_is_noted(
    tmp_path: Path, listen: str, is_noted: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    from nmk.cli.server import _introduce
    from nmk.server.run import ServerOptions

    _introduce(ServerOptions(tmp_path, None, "*:50051", listen, (), "text"), new=False)
    told = capsys.readouterr().err
    assert ("who reads along has the admin key" in told) == is_noted
    assert "on off" not in told


def test_whose_mtu_it_is_that_changed_is_said(net: Net) -> None:
    net.ingress("gate", endpoint="192.0.2.7:51821")
    net.add_client("shop", routes="192.168.60.0/24")
    assert nmk("network", "set", "home", "mtu=1380", "keepalive=0").code == 0
    assert "shop is stale: mtu of the network is 1380 now" in nmk("extclient", "list").err
    assert net.call("PATCH", "", {"settings": {"mtu": 1420, "keepalive": 60}}).status == 200
    assert "shop is stale: keepalive of the network is 60 now" in nmk("extclient", "list").err


def test_how_long_a_copy_is_shown_is_said(inner: Inside, net: Net) -> None:
    web = net.join("web", interval=60)
    presence, identity = inner.controller.presence, b64encode(web.identity.public).decode()
    for before, now in (("a", "b"), ("b", "a")):
        presence.hear_instance(identity, Sighting(before, ""), Sighting(now, ""))
    assert "shown until one of them has been silent for 10 min" in nmk("node", "list").err


def test_routes_back_say_in_which_lan(net: Net) -> None:
    for name, lan in (("a", "192.168.70"), ("b", "192.168.71")):
        net.join(name, lan=(f"{lan}.1/24",))
    net.add_gateway("a", "egress", ranges=["192.168.70.0/24"], nat="off")
    told = nmk("gateway", "add", "b", "egress", "192.168.71.0/24", "--nat", "off").err
    assert told.partition("their router:\n")[2] == (
        "in the LAN of a:\n"
        "  ip route add 192.168.71.0/24 via 192.168.70.1\n"
        "in the LAN of b:\n"
        "  ip route add 10.20.0.0/16 via 192.168.71.1\n"
        "  ip route add 192.168.70.0/24 via 192.168.71.1\n"
    )
    translated = nmk("gateway", "add", "b", "egress", "--nat", "auto")
    assert "b is an egress gateway of home" in translated.err
    assert "ip route" not in translated.err


@pytest.mark.parametrize(
    "command",
    [
        "network set home mtu=1420",
        "node set web name=web",
        "extclient set r1 name=r1",
        "extclient enable r1",
    ],
)
def test_what_is_so_already_is_no_revision_and_is_said(peopled: Net, command: str) -> None:
    with peopled.unchanged():
        done = nmk(*command.split())
    assert (done.code, "nothing to change: it is so already\n" in done.err) == (0, True)


def test_what_is_new_is_no_such_thing(peopled: Net) -> None:
    before = peopled.get("")["revision"]
    for command in ("network set home mtu=1380", "node set web endpoint=192.0.2.9:5"):
        assert "nothing to change" not in nmk(*command.split()).err
    assert peopled.get("")["revision"] > before
    assert nmk("network", "set", "home", "mtu=1420").code == 0
