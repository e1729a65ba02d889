"""What is independent of a part that cannot be done is done, and what was not is named, once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.agent.test_machine import Place, nmk
from tests.lab import Host, Lab

IPV6 = "net.ipv6.conf.{}.disable_ipv6={}"
SIX = "fd77::/64"


class Dual(Place):
    """The same with a network of both families, `dual`."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.admin("network", "create", "dual", "10.78.0.0/24", SIX)

    def token(self) -> str:
        return self.admin("key", "create", "-n", "dual").strip()


@pytest.fixture(scope="module")
def place(module_lab: Lab) -> Dual:
    return Dual(module_lab)


def addresses(host: Host, interface: str = "nmk-dual") -> list[str]:
    [link] = json.loads(host.run("ip", "-j", "addr", "show", "dev", interface).stdout)
    return [a["local"] for a in link["addr_info"] if a["scope"] == "global"]


def status(host: Host) -> dict[str, Any]:
    [found] = json.loads(nmk(host, "status", "-o", "json").stdout)
    assert isinstance(found, dict)
    return found


def problems(host: Host) -> list[str]:
    return [problem["code"] for problem in status(host)["problems"]]


@contextmanager
def read_only(host: Host, path: str) -> Iterator[None]:
    """A file that cannot be written, whoever asks."""
    host.run("mount", "-n", "--bind", path, path)
    host.run("mount", "-n", "-o", "remount,bind,ro", path)
    yield
    host.run("umount", "-n", path)


@pytest.mark.parametrize("which", ["all", "default"])
def test_a_machine_whose_ipv6_is_off_is_in_by_ipv4(place: Dual, which: str) -> None:
    host = place.machine(f"four-{which}")
    host.run("sysctl", IPV6.format(which, 1))
    done = nmk(host, "join", place.token())
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("this machine's IPv6 is off") == 1
    assert "warning: this machine's IPv6 is off (net.ipv6.conf.default.disable" in done.stderr
    [four] = addresses(host)
    assert four.startswith("10.78.0.")
    again = nmk(host, "checkin", "-v")
    assert (again.returncode, again.stderr.count("[#]")) == (0, 0)
    assert problems(host) == ["family-off"]
    assert "warning     this machine's IPv6 is off" in nmk(host, "status").stdout
    assert "IPv6 is off" in nmk(host, "doctor").stdout

    host.run("sysctl", IPV6.format("all", 0), IPV6.format("default", 0))
    assert nmk(host, "checkin").returncode == 0
    assert len(addresses(host)) == 2
    assert problems(host) == []


def test_ipv6_is_switched_off_on_the_interface_later(place: Dual) -> None:
    host = place.member("later")
    assert len(addresses(host)) == 2
    host.run("sysctl", IPV6.format("nmk-dual", 1))
    for commands in (0, 0):
        done = nmk(host, "checkin", "-v")
        assert (done.returncode, done.stderr.count("[#]")) == (0, commands)
    assert len(addresses(host)) == 1
    assert problems(host) == ["family-off"]


def test_a_line_of_many_that_fails_stops_no_other(place: Dual) -> None:
    """As with a kernel or a policy that refuses one address for a reason of its own."""
    host = place.machine("one-line")
    spoiled = 'sed "/add fd/s/nmk-dual/nowhere/" | /sbin/ip "$@"; exit $?'
    host.write(
        "/usr/local/sbin/ip",
        f'#!/bin/sh\ncase "$*" in *-batch*) {spoiled};; esac\nexec /sbin/ip "$@"\n',
        mode=0o755,
    )
    done = nmk(host, "join", place.token())
    assert done.returncode == 0, done.stderr
    assert "warning: 'ip address add fd77::" in done.stderr
    assert len(addresses(host)) == 1
    again = nmk(host, "checkin")
    assert again.returncode == 1
    assert again.stderr.count("ip address add fd77::") == 1
    host.run("rm", "/usr/local/sbin/ip")
    assert nmk(host, "checkin").returncode == 0
    assert len(addresses(host)) == 2


def test_a_peer_that_wireguard_refuses_stops_no_other(place: Dual) -> None:
    odd = [place.member(name) for name in ("near", "far", "odd")][-1].address
    host = place.machine("picky")
    host.write(
        "/usr/local/sbin/wg",
        "#!/bin/sh\n"
        f'case "$1" in syncconf|addconf) cat > /tmp/conf; if grep -q "= {odd}:" /tmp/conf; then\n'
        'echo no such endpoint >&2; exit 1; fi; exec /usr/bin/wg "$@" < /tmp/conf;; esac\n'
        'exec /usr/bin/wg "$@"\n',
        mode=0o755,
    )
    done = nmk(host, "join", place.token())
    assert done.returncode == 0, done.stderr
    done = nmk(host, "checkin")
    assert done.returncode == 1
    assert "WireGuard takes no endpoint of odd" in done.stderr
    endpoints = host.run("wg", "show", "nmk-dual", "endpoints").stdout
    peers = len(status(host)["peers"])
    assert (endpoints.count("\n"), endpoints.count("(none)")) == (peers, 1)
    host.run("rm", "/usr/local/sbin/wg")
    assert nmk(host, "checkin").returncode == 0
    assert f"{odd}:" in host.run("wg", "show", "nmk-dual", "endpoints").stdout


def test_a_kernel_setting_that_cannot_be_set_stops_no_other(place: Dual) -> None:
    host = place.member("stubborn")
    place.admin("gateway", "add", "-n", "dual", "stubborn", "ingress")
    with read_only(host, "/proc/sys/net/ipv4/ip_forward"):
        done = nmk(host, "checkin")
        assert done.returncode == 1
        assert "/proc/sys/net/ipv4/ip_forward cannot be set to 1" in done.stderr
        assert host.read("/proc/sys/net/ipv6/conf/all/forwarding") == "1\n"
        assert problems(host) == ["command-failed"]
    assert nmk(host, "checkin").returncode == 0
    assert problems(host) == []
    place.admin("gateway", "remove", "-n", "dual", "stubborn", "ingress", "--yes")


def test_without_nft_a_gateway_forwards_nothing_and_follows_others(place: Dual) -> None:
    """Forwarding without the filter would lead everywhere."""
    host, other = place.member("bare"), place.member("other")
    place.admin("gateway", "add", "-n", "dual", "bare", "egress", "192.168.8.0/24")
    place.admin("gateway", "add", "-n", "dual", "other", "egress", "192.168.9.0/24")
    host.run("mount", "-n", "--bind", "/dev/null", "/usr/sbin/nft")
    for _ in range(2):
        done = nmk(host, "checkin")
        assert done.returncode == 1
        assert done.stderr.count("nft is not installed") == 1
    assert problems(host) == ["tool-missing"]
    assert host.read("/proc/sys/net/ipv4/ip_forward") == "0\n"
    assert " dev nmk-dual " in host.run("ip", "route", "get", "192.168.9.7").stdout
    assert nmk(host, "checkin", "-v").stderr.count("[#]") == 0
    host.run("umount", "-n", "/usr/sbin/nft")
    assert nmk(host, "checkin").returncode == 0
    assert host.read("/proc/sys/net/ipv4/ip_forward") == "1\n"
    for node in ("bare", "other"):
        place.admin("gateway", "remove", "-n", "dual", node, "egress", "--yes")
    assert nmk(other, "checkin").returncode == 0


def test_a_settings_file_or_a_variable_that_cannot_be_read_stops_nothing_else(place: Dual) -> None:
    host, file = place.machine("muddled"), "/etc/nmk/dual.toml"
    host.write(file, "mtu = 1333\n")
    assert nmk(host, "join", place.token()).returncode == 0
    host.run("rm", file)
    host.run("mkdir", file)
    place.admin("network", "set", "dual", "keepalive=44")
    done = nmk(host, "checkin")
    assert done.returncode == 2
    assert done.stderr.count(file) == 1
    assert host.read("/sys/class/net/nmk-dual/mtu") == "1333\n"
    assert problems(host) == ["bad-input"]
    assert status(host)["check_in"]["revision"] == status(host)["check_in"]["newest"]
    assert "[#]" not in nmk(host, "checkin", "-v").stderr
    host.run("rmdir", file)
    assert nmk(host, "checkin").returncode == 0
    assert host.read("/sys/class/net/nmk-dual/mtu") == "1420\n"
    assert problems(host) == []

    place.admin("network", "set", "dual", "keepalive=45")
    done = nmk(host, "checkin", NMK_MTU="abc")
    assert (done.returncode, done.stderr.count("NMK_MTU: 'abc' cannot be the mtu")) == (2, 1)
    assert problems(host) == ["bad-input"]
    assert status(host)["check_in"]["revision"] == status(host)["check_in"]["newest"]
    assert nmk(host, "checkin").returncode == 0
    assert problems(host) == []


@pytest.mark.parametrize("way", ["back", "anew"])
def test_an_interface_that_was_moved_to_another_namespace_is_told_of(place: Dual, way: str) -> None:
    """Its process goes on, so that no other can be made: what can be done works."""
    host = place.member(f"moved-{way}")
    if host.run("test", "-e", "/run/wireguard/nmk-dual.sock", check=False).returncode:
        pytest.skip("the kernel's own WireGuard is simply made anew")
    host.run("ip", "netns", "add", "other")
    host.run("ip", "link", "set", "nmk-dual", "netns", "other")
    refused = nmk(host, "checkin")
    assert refused.returncode == 1
    assert "moved to another network namespace" in refused.stderr
    hint = "move it back, or make it anew: nmk down -n dual; nmk up -n dual"
    assert refused.stderr.endswith(f"  try: {hint}\n")
    assert hint in nmk(host, "doctor").stdout
    if way == "back":
        host.run("ip", "-n", "other", "link", "set", "nmk-dual", "netns", "1")
        assert nmk(host, "checkin").returncode == 0
    else:
        assert nmk(host, "down").returncode == nmk(host, "up").returncode == 0
    assert len(addresses(host)) == 2
    assert nmk(host, "leave").returncode == 0
    assert "nmk-dual" not in host.run("ip", "-n", "other", "link").stdout
