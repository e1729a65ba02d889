"""What a machine's owner sets wins over what the controller says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.lab import Host
from tests.mesh import INTERFACE, Mesh, failure

AGENT, NETWORK = "/etc/nmk/agent.toml", "/etc/nmk/home.toml"


@pytest.fixture(scope="module")
def machine(mesh: Mesh) -> Host:
    mesh.admin("network", "set", "home", "mtu=1310")
    [machine] = mesh.members("anna")
    return machine


@pytest.fixture
def anna(machine: Host) -> Iterator[Host]:
    """A machine that has no settings of its own yet."""
    yield machine
    machine.run("rm", "-rf", "/etc/nmk")


def mtu_after_check_in(host: Host, **environment: str) -> int:
    host.run("nmk", "checkin", env=environment)
    return int(host.read(f"/sys/class/net/{INTERFACE}/mtu"))


def test_each_place_wins_over_the_ones_before(anna: Host) -> None:
    assert mtu_after_check_in(anna) == 1310
    anna.write(AGENT, "mtu = 1320\n")
    assert mtu_after_check_in(anna) == 1320
    anna.write(NETWORK, "mtu = 1330\n")
    assert mtu_after_check_in(anna) == 1330
    assert mtu_after_check_in(anna, NMK_MTU="1340") == 1340
    anna.run("rm", NETWORK)
    assert mtu_after_check_in(anna) == 1320


def test_places_add_up(anna: Host) -> None:
    anna.write(AGENT, "mtu = 1321\ninterval = 120\n")
    anna.write(NETWORK, 'mtu = "1331"\n')
    assert mtu_after_check_in(anna) == 1331


def test_the_interval_is_told_to_the_controller(mesh: Mesh, anna: Host) -> None:
    anna.write(NETWORK, "interval = 600\n")
    anna.run("nmk", "checkin")
    assert mesh.nodes()["anna"]["interval"] == 600


def test_the_port_follows_the_file(mesh: Mesh, anna: Host) -> None:
    anna.write(NETWORK, "listen-port = 41000\n")
    anna.run("nmk", "checkin")
    assert anna.run("wg", "show", INTERFACE, "listen-port").stdout == "41000\n"
    assert mesh.nodes()["anna"]["listen_port"] == 41000


def test_a_port_at_join(mesh: Mesh) -> None:
    bert, cleo, dora = (mesh.machine(name) for name in ("bert", "cleo", "dora"))
    bert.write(AGENT, "listen-port = 41001\n")
    mesh.join(bert)
    cleo.run("nmk", "join", "-", input=mesh.token(), env={"NMK_LISTEN_PORT": "41002"})
    dora.write(AGENT, "listen-port = 41001\n")
    mesh.join(dora, "--listen-port", "41003")
    ports = {name: node["listen_port"] for name, node in mesh.nodes().items() if name != "anna"}
    assert ports == {"bert": 41001, "cleo": 41002, "dora": 41003}


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        (AGENT, "mtu = 5", "'5' cannot be the mtu"),
        (NETWORK, "mut = 1400", "'mut' is no setting"),
        (NETWORK, "mtu: 1400", "is not valid TOML"),
    ],
)
def test_a_file_with_a_mistake_is_named(anna: Host, path: str, text: str, message: str) -> None:
    anna.write(path, text)
    told = failure(anna, "checkin")
    assert told.exit_code == 2
    assert f"{path}: {message}".replace(": is not", " is not") in told.message


def test_what_a_file_held_goes_on_at_each_command(anna: Host) -> None:
    anna.write(NETWORK, "mtu = 1333\n")
    anna.run("nmk", "checkin")
    anna.write(NETWORK, "mtu = 1400 bytes\n")
    for command in (["set", "kill-switch=on"], ["set", "kill-switch=off"], ["down"], ["up"]):
        told = anna.run("nmk", *command).stderr
        assert f"{NETWORK} is not valid TOML" in told
        assert f"correct line 1 of {NETWORK}" in told
    assert "mtu 1333" in anna.run("ip", "link", "show", INTERFACE).stdout
    assert f"  try: correct line 1 of {NETWORK}\n" in anna.run("nmk", "status").stdout
    assert f"correct line 1 of {NETWORK}" in anna.run("nmk", "doctor", check=False).stdout
    anna.run("nmk", "set", "kill-switch=")


def test_a_variable_with_a_mistake_is_named(anna: Host) -> None:
    told = failure(anna, "checkin", env={"NMK_KEEPALIVE": "5"})
    what = "home: NMK_KEEPALIVE: '5' cannot be the keepalive; it counts as not set"
    assert told[:2] == (2, what)
