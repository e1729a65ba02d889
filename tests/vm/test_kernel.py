"""The mesh on the kernel's own WireGuard.

What differs from wireguard-go, which all other tests have: there is no process and no socket, so
what makes an interface and what it leaves differ; the interface keeps its queue of packets and its
sessions while it is changed; a reboot takes it away without a trace.
"""

from __future__ import annotations

import json

from tests.lab import Host, Network
from tests.mesh import (
    INTERFACE,
    Mesh,
    failure,
    has_interface,
    live_addresses,
    live_peers,
    reaches,
)

FAMILIES = (4, 6)


def check_in(*hosts: Host) -> None:
    for host in hosts:
        host.run("nmk", "checkin")


def link(host: Host) -> dict[str, object]:
    """What `ip` shows of the interface."""
    [shown] = json.loads(host.run("ip", "-j", "-d", "link", "show", "dev", INTERFACE).stdout)
    assert isinstance(shown, dict)
    return shown


def key_of(host: Host) -> str:
    return host.run("wg", "show", INTERFACE, "public-key").stdout.strip()


def address(host: Host, family: int = 4) -> str:
    """Its own in the network."""
    return next(a for a in live_addresses(host) if (":" in a) == (family == 6))


def received(host: Host, peer: Host) -> int:
    """Bytes since the interface was made: a peer that is made anew begins at none."""
    return int(live_peers(host, "transfer")[key_of(peer)].split("\t")[0])


def test_the_kernel_carries_the_tunnel(anna: Host, bert: Host) -> None:
    for host in (anna, bert):
        assert link(host)["linkinfo"] == {"info_kind": "wireguard"}
        assert host.run("sh", "-c", "command -v wireguard-go", check=False).returncode
    for family in FAMILIES:
        reaches(anna, address(bert, family))
        reaches(bert, address(anna, family))


def test_changes_keep_the_interface_and_its_sessions(
    mesh: Mesh, token: str, anna: Host, bert: Host
) -> None:
    reaches(anna, address(bert))
    number, before = link(anna)["ifindex"], received(anna, bert)
    assert before
    handshake = live_peers(anna, "latest-handshakes")[key_of(bert)]
    cleo = mesh.join(mesh.machine("cleo"), token=token)
    mesh.admin("network", "set", "home", "mtu=1380")
    check_in(anna, cleo)
    assert (link(anna)["ifindex"], link(anna)["mtu"]) == (number, 1380)
    assert received(anna, bert) >= before
    assert live_peers(anna, "latest-handshakes")[key_of(bert)] >= handshake
    reaches(anna, address(cleo))
    assert "[#]" not in anna.run("nmk", "checkin", "-v").stderr
    cleo.run("nmk", "leave")
    check_in(anna)
    assert list(live_peers(anna, "endpoints")) == [key_of(bert)]


def test_peers_follow_a_machine_that_moves(
    mesh: Mesh, cafe: Network, anna: Host, bert: Host
) -> None:
    reaches(anna, address(bert))
    numbers = [link(host)["ifindex"] for host in (anna, bert)]
    anna.readdress(cafe, "192.168.1.77")
    reaches(anna, address(bert))  # bert's WireGuard follows by itself
    bert.readdress(mesh.internet, "203.0.113.99", "2001:db8::99")
    check_in(bert, anna)
    reaches(anna, address(bert, 6))
    assert live_peers(anna, "endpoints")[key_of(bert)].startswith(
        ("203.0.113.99:", "[2001:db8::99]:")
    )
    assert [link(host)["ifindex"] for host in (anna, bert)] == numbers


def test_a_reboot_needs_no_controller(mesh: Mesh, anna: Host, bert: Host) -> None:
    there = address(bert)
    check_in(anna)
    with mesh.stopped():
        anna.reboot()
        assert not has_interface(anna)
        assert failure(anna, "checkin").exit_code == 75
        reaches(anna, there)
