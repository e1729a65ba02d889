"""What admins and machines ask for and cannot have: message, hint and exit code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Host, Lab
from tests.mesh import Failure, Mesh, failure
from tests.tiers import sample

LABEL = "use a-z, 0-9 and inner hyphens, at most 63 characters"
RANGE = "write it like 10.20.0.0/16 or fd12:3456:789a::/64"


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Mesh:
    mesh = Mesh(lab, "10.20.0.0/16", "fd20::/64")
    mesh.admin("network", "create", "tiny", "10.30.0.0/30")
    tiny = mesh.admin("key", "create", "-n", "tiny", "--unlimited")
    for host in mesh.members("anna", "bert"):
        host.run("nmk", "join", "-", input=tiny)
    return mesh


@pytest.fixture(scope="module", autouse=True)
def unchanged(mesh: Mesh) -> Iterator[None]:
    """Nothing of what is refused makes a network or a node."""
    before = mesh.admin("network", "list")
    yield
    assert mesh.admin("network", "list") == before


# Networks


@pytest.mark.parametrize(
    ("cidr", "other"),
    [
        ("10.20.5.0/24", "10.20.0.0/16"),
        ("10.0.0.0/8", "10.20.0.0/16"),
        ("fd20::/48", "fd20::/64"),
    ],
)
def test_a_range_that_overlaps(mesh: Mesh, cidr: str, other: str) -> None:
    refusal = failure(mesh.controller, "network", "create", "lab", cidr)
    hint = "leave the range out and a free one is picked"
    assert refusal == Failure(1, f"{cidr} overlaps {other} of network 'home'", hint)


@pytest.mark.parametrize(
    ("cidr", "message", "hint"),
    sample(
        [
            ("10.9.0.0/31", "'10.9.0.0/31' has the wrong size", "use a prefix from /8 to /30"),
            ("10.9.0.1/32", "'10.9.0.1/32' has the wrong size", "use a prefix from /8 to /30"),
            ("fd09::/127", "'fd09::/127' has the wrong size", "use a prefix from /32 to /126"),
            ("0.0.0.0/0", "'0.0.0.0/0' has the wrong size", "use a prefix from /8 to /30"),
            (
                "10.9.0.1/24",
                "'10.9.0.1/24' has host bits set",
                "the range that holds it is 10.9.0.0/24",
            ),
            ("ten", "'ten' is no range", RANGE),
            (
                "224.1.0.0/16",
                "'224.1.0.0/16' is reserved",
                "use a private range such as 10.20.0.0/16",
            ),
        ],
        "10.9.0.0/31",
        "10.9.0.1/24",
        "ten",
    ),
)
def test_a_range_that_is_none(mesh: Mesh, cidr: str, message: str, hint: str) -> None:
    refusal = failure(mesh.controller, "network", "create", "lab", cidr)
    assert (refusal.exit_code, refusal.hint) == (2, hint)
    assert refusal.message.startswith(message)


def test_two_ranges_of_one_family(mesh: Mesh) -> None:
    refusal = failure(mesh.controller, "network", "create", "lab", "10.9.0.0/24", "10.8.0.0/24")
    hint = "give one IPv4 range, one IPv6 range or one of each"
    assert refusal == Failure(2, "'10.8.0.0/24' is a second IPv4 range", hint)


@pytest.mark.parametrize(
    "name", sample(["Home", "a_b", "a-", "", "a.b", "x" * 64, "münchen", "*"], "", "münchen")
)
def test_a_name_that_is_no_label(mesh: Mesh, name: str) -> None:
    for command in (["network", "create"], ["node", "set", "anna", "-n", "home"]):
        argument = f"name={name}" if command[0] == "node" else name
        refusal = failure(mesh.controller, *command, argument)
        assert refusal.exit_code == 2, command
        if name:
            assert refusal.hint == LABEL
            assert f"{name!r} cannot be a {command[0]} name" in refusal.message


def test_a_name_that_is_taken(mesh: Mesh) -> None:
    taken = failure(mesh.controller, "network", "create", "home")
    assert taken == Failure(1, "a network named 'home' exists", "nmk network list")
    taken = failure(mesh.controller, "node", "set", "anna", "-n", "home", "name=bert")
    assert taken == Failure(1, "home has a node named 'bert'", "choose another name")


@pytest.mark.parametrize(
    ("setting", "message"),
    sample(
        [
            ("mtu=1000", "'1000' cannot be the mtu"),
            ("mtu=big", "'big' cannot be the mtu"),
            ("keepalive=5", "'5' cannot be the keepalive"),
            ("interval=1", "'1' cannot be the interval"),
            ("listen-port=70000", "'70000' cannot be the listen-port"),
            ("colour=red", "'colour' is no setting"),
            ("mtu", "'mtu' has no value"),
        ],
        "mtu=1000",
        "colour=red",
    ),
)
def test_a_setting(mesh: Mesh, setting: str, message: str) -> None:
    assert failure(mesh.controller, "network", "set", "home", setting)[:2] == (2, message)


@pytest.mark.parametrize(
    ("noun", "message"),
    [
        ("network", "there is no network 'nil'"),
        ("node", "there is no node 'nil' in home"),
        ("key", "there is no access key 'nil'"),
    ],
)
def test_what_is_not_there(mesh: Mesh, noun: str, message: str) -> None:
    where = [] if noun == "network" else ["-n", "home"]
    assert failure(mesh.controller, noun, "show", *where, "nil")[:2] == (1, message)


def test_deleting_wants_a_yes(mesh: Mesh) -> None:
    refusal = failure(mesh.controller, "node", "delete", "-n", "home", "anna")
    assert refusal == Failure(2, "Delete node anna? Standard input is not a terminal", "add --yes")


# Machines


@pytest.fixture(scope="module")
def machine(mesh: Mesh) -> Iterator[Host]:
    """A machine that is in no network, whatever it asked for."""
    machine = mesh.machine("cleo")
    yield machine
    assert machine.run("nmk", "status", "-o", "json").stdout == "[]\n"
    assert machine.run("ls", "/sys/class/net").stdout.split() == ["eth0", "lo"]


@pytest.fixture(scope="module")
def token(mesh: Mesh) -> str:
    return mesh.token()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    sample(
        [
            ("--name", "Web_1", "'Web_1' cannot be a node name"),
            ("--address", "10.20.0.x", "'10.20.0.x' is no IP address"),
            ("--endpoint", "example.org:5", "'example.org' is no IP address"),
            ("--endpoint", "2001:db8::7", "'2001:db8::7' is no endpoint"),
            ("--listen-port", "70000", "'70000' cannot be the port"),
            ("--interface", "sixteen-letters-", "'sixteen-letters-' cannot be an interface name"),
            ("--interface", "a/b", "'a/b' cannot be an interface name"),
            ("--address", "10.21.0.1", "'10.21.0.1' is no usable address of 10.20.0.0/16"),
            ("--address", "10.20.255.255", "'10.20.255.255' is no usable address of 10.20.0.0/16"),
        ],
        "--name",
        "--interface",
    ),
)
def test_a_wish_that_cannot_be(
    machine: Host, token: str, option: str, value: str, message: str
) -> None:
    assert failure(machine, "join", "-", option, value, input=token)[:2] == (2, message)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--name", "anna", "home has a node named 'anna'"),
        ("--address", "10.20.0.1", "10.20.0.1 is in use"),
        ("--address", "fd20::2", "fd20::2 is in use"),
    ],
)
def test_a_wish_that_somebody_else_has(
    machine: Host, token: str, option: str, value: str, message: str
) -> None:
    assert failure(machine, "join", "-", option, value, input=token)[:2] == (1, message)


def test_a_full_range(mesh: Mesh, machine: Host) -> None:
    token = mesh.admin("key", "create", "-n", "tiny")
    refusal = failure(machine, "join", "-", input=token)
    hint = "nmk node delete NODE, for a machine that is gone"
    assert refusal == Failure(1, "the range 10.30.0.0/30 is full", hint)
