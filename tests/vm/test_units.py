"""The hardened units under the real systemd, on the machine itself, with the kernel's WireGuard."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab import Host, Lab, poll
from tests.mesh import CACHE, INTERFACE, NMK, has_interface, reaches, unpacked

ADDRESS, PEER = "192.0.2.1", "192.0.2.2"
PROGRAM = Path("/usr/local/bin/nmk")
ENVIRONMENT = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "PATH": os.environ["PATH"],
    "SYSTEMD_BUS_TIMEOUT": "600",  # seconds; a busy machine needs more than the usual 25
}


def run(*command: str, typed: str = "", check: bool = True) -> str:
    """What a command on the machine itself prints."""
    done = subprocess.run(
        command, input=typed, capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
    assert done.returncode == 0 or not check, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def show(unit: str, what: str) -> str:
    return run("systemctl", "show", "--value", f"--property={what}", unit).strip()


def journal(unit: str) -> str:
    return run("journalctl", "--no-pager", "--output=cat", f"--unit={unit}")


def interface() -> int:
    """The number that the kernel gave to the machine's interface; another one when it is new."""
    [link] = json.loads(run("ip", "-j", "-d", "link", "show", "dev", INTERFACE))
    assert link["linkinfo"] == {"info_kind": "wireguard"}
    return int(link["ifindex"])


@pytest.fixture(scope="module")
def peer() -> Iterator[Host]:
    """A host of the lab at the other end of a cable."""
    with Lab() as lab:
        host = lab.host("peer", linked={CACHE: unpacked()})
        cable = ("ip", "link", "add", "cable", "type", "veth", "peer", "name", "eth0", "netns")
        run(*cable, str(host.pid))
        run("ip", "address", "add", f"{ADDRESS}/24", "dev", "cable")
        run("ip", "link", "set", "cable", "up")
        host.run("ip", "address", "add", f"{PEER}/24", "dev", "eth0")
        host.run("ip", "link", "set", "eth0", "up")
        host.run("install", "-m", "755", str(NMK), str(PROGRAM))
        yield host


@pytest.fixture(scope="module")
def addresses(peer: Host) -> list[str]:
    """The node's on this machine, where it and the controller are services; the peer has joined."""
    run("install", "-m", "755", str(NMK), str(PROGRAM))
    run("nmk", "service", "install", "server")
    run("nmk", "network", "create", "home", "10.77.0.0/24", "fd77::/64")
    token = run("nmk", "key", "create", "--uses", "2")
    peer.run("nmk", "join", "-", input=token)
    run("nmk", "join", "-", "--name", "door", typed=token)
    peer.run("nmk", "checkin")
    [link] = json.loads(run("ip", "-j", "address", "show", "dev", INTERFACE))
    return [a["local"] for a in link["addr_info"] if a["scope"] == "global"]


def test_the_units_start_and_the_mesh_works(peer: Host, addresses: list[str]) -> None:
    for unit in ("nmk-server", "nmk-agent"):
        assert show(unit, "ActiveState") == "active"
        assert show(unit, "Result") == "success"
    assert interface()
    for address in addresses:
        reaches(peer, address)


def test_the_unit_may_do_what_gateways_need(peer: Host, addresses: list[str]) -> None:
    for role in ("exit", "ingress"):
        run("nmk", "gateway", "add", "door", role)
    run("systemctl", "reload", "nmk-agent")
    poll(lambda: run("sysctl", "-n", "net.ipv4.ip_forward") == "1\n", 60, "forwarding")
    assert "nmk" in run("nft", "list", "tables")
    assert "cannot" not in journal("nmk-agent")
    reaches(peer, addresses[0])


def test_the_interface_outlives_the_agent(peer: Host, addresses: list[str]) -> None:
    number = interface()
    run("systemctl", "restart", "nmk-agent")
    run("systemctl", "kill", "--signal=KILL", "nmk-agent")
    reaches(peer, addresses[0])
    poll(lambda: show("nmk-agent", "ActiveState") == "active", 60, "agent that starts again")
    assert interface() == number
    run("ip", "link", "delete", "dev", INTERFACE)
    poll(has_own_interface, 60, "interface made again by the unit")
    reaches(peer, addresses[0])


def has_own_interface() -> bool:
    return Path(f"/sys/class/net/{INTERFACE}").exists()


@pytest.mark.usefixtures("addresses")
def test_all_goes_when_it_leaves(peer: Host) -> None:
    run("nmk", "leave")
    for role in ("agent", "server"):
        run("nmk", "service", "remove", role)
    assert not has_own_interface()
    assert has_interface(peer)
    assert "nmk" not in run("nft", "list", "tables")
    assert run("sysctl", "-n", "net.ipv4.ip_forward") == "0\n"
    assert "nmk" not in run("systemctl", "list-unit-files", "--no-pager")
