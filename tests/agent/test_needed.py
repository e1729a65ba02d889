"""Kernel settings that others have come to need stay as they are, and that is said."""

from __future__ import annotations

import pytest

from tests.agent.test_machine import Place, interfaces, nmk
from tests.lab import Host

FORWARDING = "/proc/sys/net/ipv4/ip_forward"
USERS = {
    "docker": (
        "ip link add docker0 type bridge; ip address add 172.17.0.1/16 dev docker0",
        "the bridge docker0 (172.17.0.0/16) is there",
    ),
    "libvirt": (
        "iptables -t nat -A POSTROUTING -s 192.168.122.0/24 -j MASQUERADE",
        "the packet filter translates addresses (ip nat)",
    ),
    "admin": (
        "echo 'net/ipv4/ip_forward = 1' > /etc/sysctl.d/90-router.conf",
        "/etc/sysctl.d/90-router.conf sets it",
    ),
}


def gateway(place: Place, name: str) -> Host:
    """A machine whose forwarding was off before nmk, and is on for a role."""
    host = place.member(name)
    place.admin("gateway", "add", name, "ingress")
    assert nmk(host, "checkin").returncode == 0
    assert host.read(FORWARDING) == "1\n"
    return host


@pytest.mark.parametrize("user", USERS)
def test_forwarding_that_something_else_has_come_to_need_stays(place: Place, user: str) -> None:
    host = gateway(place, user)
    come, reason = USERS[user]
    host.run("sh", "-c", come)
    if user == "libvirt":  # the role goes, and the machine stays
        place.admin("gateway", "remove", user, "ingress", "--yes")
        done = nmk(host, "checkin")
    else:
        done = nmk(host, "leave")
    assert done.returncode == 0
    assert f"net.ipv4.ip_forward stays 1: {reason}" in done.stderr
    assert host.read(FORWARDING) == "1\n"
    if user == "libvirt":
        again = nmk(host, "checkin", "-v")
        assert "stays" not in again.stderr
        assert "[#]" not in again.stderr


def test_a_setting_that_nobody_else_needs_is_put_back(place: Place) -> None:
    host = gateway(place, "alone")
    host.run("sh", "-c", "echo 'net.ipv4.ip_forward=0' > /etc/sysctl.d/90-host.conf")
    done = nmk(host, "leave")
    assert "stays" not in done.stderr
    assert host.read(FORWARDING) == "0\n"


def test_a_mark_that_another_tunnel_looks_at_keeps_its_setting(place: Place) -> None:
    mark = "/proc/sys/net/ipv4/conf/all/src_valid_mark"
    way, host = place.member("way"), place.member("led")
    place.admin("gateway", "add", "way", "egress", "192.168.44.0/24")
    assert nmk(host, "checkin").returncode == 0
    assert host.read(mark) == "1\n"
    host.run("ip", "rule", "add", "not", "fwmark", "0xca6c", "table", "51820")  # as wg-quick does
    done = nmk(host, "leave")
    assert "src_valid_mark stays 1: a routing rule looks at the mark 0xca6c" in done.stderr
    assert host.read(mark) == "1\n"
    assert nmk(way, "leave").returncode == 0


@pytest.mark.parametrize("command", ["down", "leave"])
def test_a_setting_that_cannot_be_written_any_more_keeps_nothing_else(
    place: Place, command: str
) -> None:
    """It is said what stays, and what puts it back where that can be done; then all is well."""
    host = gateway(place, f"sealed-{command}")
    host.run("mount", "--bind", "/proc/sys", "/proc/sys")
    host.run("mount", "-o", "remount,ro,bind", "/proc/sys")
    try:
        done = nmk(host, command)
        again = nmk(host, "checkin") if command == "down" else done
    finally:
        host.run("umount", "/proc/sys")
    back = "it cannot be put back here; sysctl -w net/ipv4/ip_forward=0"
    assert f"net.ipv4.ip_forward stays 1: {back}" in done.stderr
    assert (done.returncode, again.returncode) == (0, 0), again.stderr
    assert command == "leave" or "stays" not in again.stderr
    assert "nmk-home" not in interfaces(host)
    assert host.run("nft", "list", "tables").stdout == ""
