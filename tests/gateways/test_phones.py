"""Phones: a plain WireGuard app behind NAT, let in by the config that one command printed."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path

import pytest

from tests.cli.test_qr import BLACK, WHITE, decode, decode_picture, photograph
from tests.e2e.traces import traces
from tests.gateways.phone import (
    FAMILIES,
    Phone,
    addresses,
    check_in,
    gateways_to,
    is_deaf,
    key_of,
    make_ingress,
    root_of,
    show,
    source_seen,
    transfer,
)
from tests.lab import Host, poll
from tests.mesh import INTERFACE, Mesh, failure, has_interface, reaches

WEB = "198.51.100.80"


@pytest.fixture(scope="module")
def node(mesh: Mesh) -> Host:
    """A member that is no gateway."""
    return mesh.join(mesh.machine("node"))


@pytest.fixture(scope="module")
def gate(mesh: Mesh, node: Host) -> Host:
    """An ingress gateway."""
    gate = make_ingress(mesh, mesh.join(mesh.machine("gate")))
    check_in(node)
    return gate


@pytest.fixture(scope="module")
def other(mesh: Mesh, gate: Host, node: Host) -> Host:
    """Another ingress gateway."""
    other = make_ingress(mesh, mesh.join(mesh.machine("other")))
    check_in(gate, node)
    return other


@pytest.fixture(scope="module")
def phone(mesh: Mesh) -> Phone:
    """A phone at home."""
    home = mesh.lab.lan("home", "192.168.1.0/24", nat="port-restricted", behind=mesh.internet)
    return Phone(mesh.lab.host("phone", on=home))


@pytest.fixture(scope="module")
def tablet(mesh: Mesh) -> Phone:
    """A tablet in a café, whose router gives each connection a port of its own."""
    cafe = mesh.lab.lan("cafe", "192.168.1.0/24", nat="symmetric", behind=mesh.internet)
    return Phone(mesh.lab.host("tablet", on=cafe))


def create(mesh: Mesh, name: str, gateway: str, *options: str) -> str:
    """A new ext client's config, exactly as it is printed."""
    return mesh.admin("extclient", "create", name, "--gateway", gateway, *options)


def stale(mesh: Mesh, client: str) -> list[str]:
    """Why an ext client's config does not fit."""
    found: list[str] = show(mesh, client)["stale"]
    return found


def in_touch(client: Phone, name: str, host: Host, mesh: Mesh) -> None:
    """A client and a member reach each other, each by its own addresses and under them."""
    for family, address in zip(FAMILIES, addresses(mesh, name), strict=True):
        there = mesh.address(host.name, family)
        reaches(client.host, there)
        reaches(host, address)
        assert source_seen(client.host, host, there) == address
        assert source_seen(host, client.host, address) == there


# Let in


def test_without_a_gateway_nobody_is_let_in(mesh: Mesh) -> None:
    assert failure(mesh.controller, "extclient", "create", "early") == (
        1,
        "home has no ingress gateway yet",
        "nmk gateway add -n home NODE ingress",
    )
    assert mesh.json("extclient", "list") == []


def test_a_phone_and_all_nodes_reach_one_another_under_their_own_addresses(
    mesh: Mesh, gate: Host, node: Host, phone: Phone
) -> None:
    config = mesh.admin("extclient", "create", "phone")  # there is only one gateway
    check_in(gate, node)
    phone.use(config)
    for host in (gate, node):
        in_touch(phone, "phone", host, mesh)
    for address in addresses(mesh, "phone"):
        assert gateways_to(node, address) == [key_of(gate)]


def test_of_a_phone_that_is_off_its_gateway_knows_when_it_called(
    mesh: Mesh, gate: Host, node: Host, phone: Phone
) -> None:
    config = create(mesh, "asleep", "gate")
    check_in(gate, node)
    phone.use(config)
    reaches(phone.host, mesh.address("node"))
    phone.off()
    here = failure(gate, "ping", "asleep", "-c", "1")
    called = "asleep does not answer: it called this machine, its gateway, "
    assert here.message.startswith(called)
    assert here.message.endswith(" ago, and does not answer")
    assert here.hint.endswith("nmk extclient show -n home asleep")
    there = failure(node, "ping", "asleep", "-c", "1")
    assert there.message.startswith("asleep does not answer: the tunnel to its gateway gate works")
    assert there.hint == here.hint


def test_large_segments_pass(mesh: Mesh, gate: Host, node: Host, phone: Phone) -> None:
    config = create(mesh, "large", "gate")
    check_in(gate, node)
    phone.use(config)
    for family, address in zip(FAMILIES, addresses(mesh, "large"), strict=True):
        there = mesh.address("node", family)
        reaches(phone.host, there)
        assert transfer(phone.host, node, there, 1_000_000) == 1_000_000
        assert transfer(node, phone.host, address, 1_000_000) == 1_000_000


def test_a_key_made_on_the_device_stays_there(mesh: Mesh, gate: Host, phone: Phone) -> None:
    private = phone.host.run("wg", "genkey").stdout.strip()
    public = phone.host.run("wg", "pubkey", input=private).stdout.strip()
    config = create(mesh, "maker", "gate", "--public-key", public)
    assert show(mesh, "maker")["public_key"] == public
    place = "# PrivateKey = the one of the device"
    assert config.count("PrivateKey") == config.count(place) == 1
    check_in(gate)
    phone.use(config.replace(place, f"PrivateKey = {private}"))
    reaches(phone.host, mesh.address("gate"))


def test_of_several_gateways_one_is_named(
    mesh: Mesh, gate: Host, other: Host, node: Host, tablet: Phone
) -> None:
    assert failure(mesh.controller, "extclient", "create", "vague") == (
        2,
        "there are several ingress gateways: gate, other",
        "name one with --gateway",
    )
    assert failure(mesh.controller, "extclient", "create", "lost", "--gateway", "node") == (
        2,
        "'node' is no ingress gateway",
        "nmk gateway add -n home node ingress",
    )
    assert not {"vague", "lost"} & {c["name"] for c in mesh.json("extclient", "list")}
    config = create(mesh, "tablet", "other")
    check_in(gate, other, node)
    tablet.use(config)
    for host in (gate, other, node):
        in_touch(tablet, "tablet", host, mesh)
    for address in addresses(mesh, "tablet"):
        assert gateways_to(node, address) == gateways_to(gate, address) == [key_of(other)]


def test_clients_reach_one_another_across_gateways_and_at_one(
    mesh: Mesh, gate: Host, other: Host, phone: Phone, tablet: Phone
) -> None:
    here, there = create(mesh, "here", "gate"), create(mesh, "there", "other")
    check_in(gate, other)
    phone.use(here)
    tablet.use(there)
    both_ways(mesh, phone, tablet)
    mesh.admin("extclient", "set", "there", "gateway=gate")
    config = mesh.admin("extclient", "rotate", "there")
    check_in(gate, other)
    tablet.use(config)
    both_ways(mesh, phone, tablet)


def both_ways(mesh: Mesh, phone: Phone, tablet: Phone) -> None:
    """The clients `here` and `there` reach each other."""
    pairs = zip(addresses(mesh, "here"), addresses(mesh, "there"), strict=True)
    for here, there in pairs:
        reaches(phone.host, there)
        reaches(tablet.host, here)
        assert source_seen(phone.host, tablet.host, there) == here
        assert source_seen(tablet.host, phone.host, here) == there


def test_the_list_says_where_a_client_calls_from_and_what_it_sent(
    mesh: Mesh, gate: Host, phone: Phone
) -> None:
    config = create(mesh, "talker", "gate")
    check_in(gate)
    phone.use(config)
    silent = show(mesh, "talker")
    assert [silent[k] for k in ("handshake", "endpoint", "received", "sent")] == [None] * 4
    there = mesh.address("gate")
    reaches(phone.host, there)
    phone.host.run("ping", "-n", "-c5", "-i0.2", "-s1000", there)
    check_in(gate)
    told = show(mesh, "talker")
    assert told["handshake"] < 30
    address, _, port = told["endpoint"].rpartition(":")
    assert phone.router
    assert address == phone.router.address
    assert 0 < int(port) < 65536
    assert 5_000 < told["received"] < 15_000
    assert 5_000 < told["sent"] < 15_000
    [line] = [x for x in mesh.admin("extclient", "list").splitlines() if x.startswith("talker ")]
    assert told["endpoint"] in line
    assert line.split().count("KiB") == 2
    assert line.endswith("fits")


# Kept out


def test_rotated_the_old_config_ends_at_the_next_check_in(
    mesh: Mesh, gate: Host, node: Host, phone: Phone
) -> None:
    old = create(mesh, "rotated", "gate")
    check_in(gate, node)
    phone.use(old)
    there, before = mesh.address("node"), addresses(mesh, "rotated")
    reaches(phone.host, there)
    new = mesh.admin("extclient", "rotate", "rotated")
    reaches(phone.host, there)
    check_in(gate)
    assert is_deaf(phone.host, there)
    assert addresses(mesh, "rotated") == before
    differ = [a for a, b in zip(old.splitlines(), new.splitlines(), strict=True) if a != b]
    assert [line.split(" ")[0] for line in differ] == ["PrivateKey"]
    phone.use(new)
    reaches(phone.host, there)
    reaches(node, before[0])


def test_disabled_until_enabled(mesh: Mesh, gate: Host, node: Host, phone: Phone) -> None:
    config = create(mesh, "switched", "gate")
    check_in(gate, node)
    phone.use(config)
    reaches(phone.host, mesh.address("node"))
    mesh.admin("extclient", "disable", "switched")
    reaches(phone.host, mesh.address("node"))
    is_kept_out(mesh, "switched", gate, node, phone)
    assert show(mesh, "switched")["state"] == "disabled"
    mesh.admin("extclient", "enable", "switched")
    is_let_in_again(mesh, "switched", gate, node, phone, config)


def test_expired_until_there_is_more_time(mesh: Mesh, gate: Host, node: Host, phone: Phone) -> None:
    config = create(mesh, "guest", "gate", "--expires", "4s")
    check_in(gate, node)
    phone.use(config)
    reaches(phone.host, mesh.address("node"))
    poll(lambda: show(mesh, "guest")["state"] == "expired", 10, "the guest's time over")
    assert gateways_to(node, addresses(mesh, "guest")[0]) == [key_of(gate)]
    is_kept_out(mesh, "guest", gate, node, phone)
    refused = failure(mesh.controller, "extclient", "enable", "guest")
    assert refused == (
        2,
        "the ext client 'guest' has expired",
        "nmk extclient set -n home guest expires=7d",
    )
    mesh.admin("extclient", "set", "guest", "expires=7d")
    is_let_in_again(mesh, "guest", gate, node, phone, config)


def test_deleted_for_good(mesh: Mesh, gate: Host, node: Host, phone: Phone) -> None:
    config = create(mesh, "gone", "gate")
    check_in(gate, node)
    phone.use(config)
    reaches(phone.host, mesh.address("node"))
    there = addresses(mesh, "gone")
    mesh.admin("extclient", "delete", "gone", "--yes")
    assert "gone" not in mesh.admin("extclient", "list")
    check_in(gate, node)
    assert is_deaf(phone.host, mesh.address("gate"))
    for host in (gate, node):
        assert [gateways_to(host, address) for address in there] == [[], []]


def is_kept_out(mesh: Mesh, name: str, gate: Host, node: Host, phone: Phone) -> None:
    """From the next check-ins on, neither the gateway nor others know of the client."""
    check_in(gate)
    assert is_deaf(phone.host, mesh.address("gate"))
    check_in(node)
    for host in (gate, node):
        assert [gateways_to(host, address) for address in addresses(mesh, name)] == [[], []]


def is_let_in_again(
    mesh: Mesh, name: str, gate: Host, node: Host, phone: Phone, config: str
) -> None:
    """From the next check-ins on, with the config that it had."""
    check_in(gate, node)
    phone.use(config)  # or else it gives up its session when nobody has answered for 15 s
    assert show(mesh, name)["state"] == "enabled"
    reaches(phone.host, mesh.address("node"))
    reaches(node, addresses(mesh, name)[1])


# Configs that no longer fit


def test_stale_where_the_gateway_is_called_elsewhere(mesh: Mesh, gate: Host, phone: Phone) -> None:
    create(mesh, "caller", "gate")
    assert stale(mesh, "caller") == []
    port = gate.run("wg", "show", INTERFACE, "listen-port").stdout.strip()
    gate.attach(mesh.internet, "198.51.100.7")
    moved = f"198.51.100.7:{port}"
    mesh.admin("node", "set", "gate", f"endpoint={moved}")
    assert stale(mesh, "caller") == [f"gate is called at {moved} now"]
    told = mesh.controller.run("nmk", "extclient", "list")
    assert f"caller is stale: gate is called at {moved} now" in told.stderr
    [line] = [x for x in told.stdout.splitlines() if x.startswith("caller ")]
    assert line.endswith("stale")
    config = mesh.admin("extclient", "rotate", "caller")
    assert f"Endpoint = {moved}" in config.splitlines()
    assert stale(mesh, "caller") == []
    check_in(gate)
    phone.use(config)
    reaches(phone.host, mesh.address("gate"))
    mesh.admin("node", "set", "gate", "endpoint=")
    assert stale(mesh, "caller") != []


def test_stale_where_the_client_has_another_address(
    mesh: Mesh, gate: Host, node: Host, phone: Phone
) -> None:
    create(mesh, "settler", "gate")
    old, six = addresses(mesh, "settler")
    new = str(ip_address(old) + 1000)
    mesh.admin("extclient", "set", "settler", f"address={new}")
    assert stale(mesh, "settler") == [f"its address is {new}, {six} now"]
    config = mesh.admin("extclient", "rotate", "settler")
    check_in(gate, node)
    phone.use(config)
    in_touch(phone, "settler", node, mesh)
    assert gateways_to(node, old) == []


def test_everything_by_a_gateway_that_is_an_exit_too(
    mesh: Mesh, other: Host, node: Host, phone: Phone
) -> None:
    web = mesh.lab.host("web", on=mesh.internet, address=WEB)
    command = ("extclient", "create", "roamer", "--gateway", "other", "--full-tunnel")
    assert failure(mesh.controller, *command) == (
        2,
        "other lets nobody out to the internet",
        "nmk gateway add -n home other exit",
    )
    mesh.admin("gateway", "add", "other", "exit")
    config = mesh.admin(*command)
    check_in(other, node)
    phone.use(config)
    reaches(phone.host, WEB)
    assert source_seen(phone.host, web, WEB) == other.address
    assert web.address6
    reaches(phone.host, web.address6)
    assert source_seen(phone.host, web, web.address6) == other.address6
    in_touch(phone, "roamer", node, mesh)

    mesh.admin("gateway", "remove", "other", "exit", "--yes")
    check_in(other)
    assert is_deaf(phone.host, WEB)
    reaches(phone.host, mesh.address("node"))
    assert stale(mesh, "roamer") == ["other is no exit gateway"]
    refused = failure(mesh.controller, "extclient", "rotate", "roamer")
    assert refused.message == "other lets nobody out to the internet"
    phone.off()


# Gateways come and go


def test_a_role_that_is_lost_leaves_nothing_and_its_clients_move(
    mesh: Mesh, gate: Host, node: Host, phone: Phone
) -> None:
    host = mesh.join(mesh.machine("former"))
    check_in(host, gate, node)
    before, forwarding = traces(host), forwards(host)
    make_ingress(mesh, host)
    assert "table inet nmk-home" in host.run("nft", "list", "ruleset").stdout
    config = create(mesh, "mover", "former")
    check_in(host, node, gate)
    phone.use(config)
    reaches(phone.host, mesh.address("node"))
    own = addresses(mesh, "mover")

    mesh.admin("gateway", "remove", "former", "ingress", "--yes")
    check_in(host)
    assert is_deaf(phone.host, mesh.address("former"))
    assert traces(host) - before == set()
    assert before - traces(host) == set()
    assert forwards(host) == forwarding
    assert host.run("nft", "list", "ruleset").stdout == ""
    check_in(node, gate)
    for member in (host, node, gate):
        assert [gateways_to(member, address) for address in own] == [[], []]
    assert stale(mesh, "mover") == ["former is no ingress gateway any more"]
    refused = failure(mesh.controller, "extclient", "rotate", "mover")
    assert refused.hint == "nmk extclient set -n home mover gateway=NODE"

    moves(mesh, "mover", gate, node, phone)


def forwards(host: Host) -> list[str]:
    """The kernel settings that make a machine forward, and how."""
    names = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.rp_filter")
    return host.run("sysctl", "-n", *names).stdout.split()


def moves(mesh: Mesh, name: str, gate: Host, node: Host, phone: Phone) -> None:
    """An admin moves a client to a gateway, where its new config works, under its old addresses."""
    before = addresses(mesh, name)
    told = mesh.controller.run("nmk", "extclient", "set", name, f"gateway={gate.name}").stderr
    assert f"next: nmk extclient rotate -n home {name}" in told
    moved = f"its gateway is {gate.name} now, and was "
    anew = f"{gate.name} has another key now"  # it was of this name before as well, or is no more
    assert any(why == anew or why.startswith(moved) for why in stale(mesh, name))
    config = mesh.admin("extclient", "rotate", name)
    assert stale(mesh, name) == []
    check_in(gate, node)
    phone.use(config)
    assert addresses(mesh, name) == before
    in_touch(phone, name, node, mesh)
    assert gateways_to(node, before[0]) == [key_of(gate)]


def test_a_gateway_that_was_off_comes_back_as_it_was(mesh: Mesh, node: Host, phone: Phone) -> None:
    host = make_ingress(mesh, mesh.join(mesh.machine("rebooted")))
    config = create(mesh, "waiter", "rebooted")
    check_in(host, node)
    phone.use(config)
    in_touch(phone, "waiter", node, mesh)
    host.stop()
    assert is_deaf(phone.host, mesh.address("node"))
    there = mesh.address("node")
    with mesh.stopped():
        host.boot()
        assert host.run("nmk", "checkin", check=False).returncode == 75
        reaches(phone.host, there, 60)
    check_in(host)
    in_touch(phone, "waiter", node, mesh)
    assert stale(mesh, "waiter") == []


@pytest.mark.full
def test_a_gateway_that_is_deleted_leaves_nothing_and_its_clients_move(
    mesh: Mesh, gate: Host, node: Host, phone: Phone
) -> None:
    host = mesh.machine("deleted")
    before, forwarding = traces(host), forwards(host)
    make_ingress(mesh, mesh.join(host))
    config = create(mesh, "orphan", "deleted")
    check_in(host, node, gate)
    phone.use(config)
    reaches(phone.host, mesh.address("node"))
    own = addresses(mesh, "orphan")

    mesh.admin("node", "delete", "deleted", "--yes")
    assert "was deleted" in failure(host, "checkin").message
    assert is_deaf(phone.host, mesh.address("node"))
    assert not has_interface(host)
    assert forwards(host) == forwarding
    check_in(node, gate)
    for member in (node, gate):
        assert [gateways_to(member, address) for address in own] == [[], []]
    assert stale(mesh, "orphan") == ["its gateway was deleted"]
    moves(mesh, "orphan", gate, node, phone)
    host.run("nmk", "leave")
    assert traces(host) - before <= {"run /run/wireguard"}


def test_a_gateway_that_joins_again_is_another_one(mesh: Mesh, node: Host, phone: Phone) -> None:
    host = make_ingress(mesh, mesh.join(mesh.machine("twice")))
    create(mesh, "loyal", "twice")
    host.run("nmk", "leave")
    mesh.join(host)
    assert stale(mesh, "loyal") == ["its gateway was deleted"]
    refused = failure(mesh.controller, "extclient", "set", "loyal", "gateway=twice")
    assert refused.message == "'twice' is no ingress gateway"
    make_ingress(mesh, host)
    moves(mesh, "loyal", host, node, phone)


# QR codes


@pytest.mark.usefixtures("gate")
def test_a_terminal_shows_the_config_as_a_qr_code(mesh: Mesh, tmp_path: Path) -> None:
    command = "nmk extclient create camera --gateway gate 2>/dev/null"
    typescript = mesh.controller.run("script", "-qec", command, "/dev/null").stdout
    shown = typescript.replace("\r\n", "\n")
    config, _, code = shown.partition("\n\n\x1b")
    code = f"\x1b{code}".rstrip("\n")
    assert config.startswith("[Interface]\nPrivateKey = ")
    for colours in ((WHITE, BLACK), (BLACK, WHITE)):
        assert decode_picture(photograph(code, *colours), tmp_path) == f"{config}\n"


@pytest.mark.parametrize("options", [("-o", "json"), ("-o", "name", "--config-file", "/root/c")])
@pytest.mark.usefixtures("gate")
def test_other_output_is_no_qr_code(mesh: Mesh, options: tuple[str, ...]) -> None:
    command = f"nmk extclient create plain-{options[1]} --gateway gate {' '.join(options)}"
    assert "\x1b" not in mesh.controller.run("script", "-qec", command, "/dev/null").stdout


def test_a_file_holds_the_config_as_a_qr_code(mesh: Mesh, gate: Host, phone: Phone) -> None:
    files = ("--qr-file", "/root/qr.png", "--config-file", "/root/qr.conf")
    assert create(mesh, "picture", "gate", *files) == ""
    config = mesh.controller.read("/root/qr.conf")
    assert decode(root_of(mesh.controller) / "root/qr.png") == config
    modes = mesh.controller.run("stat", "-c", "%a", "/root/qr.png", "/root/qr.conf").stdout
    assert modes.split() == ["600", "600"]
    check_in(gate)
    phone.use(config)
    reaches(phone.host, mesh.address("gate"))
