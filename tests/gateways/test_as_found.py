"""A gateway is, after it has left, the machine that it was before it joined."""

from __future__ import annotations

import pytest

from tests.e2e.traces import has_ended, own_files, traces
from tests.lab import Host, poll
from tests.mesh import Mesh, failure, reaches

COMMANDS = {
    "nft": "nft --stateless list ruleset",
    "iptables": "(iptables-save; ip6tables-save) | sed 's/ .[0-9]*:[0-9]*.$//'",
    "rule": "ip rule; ip -6 rule",
    "route": "ip route show table all; ip -6 route show table all",
    "sysctl": "cd /proc/sys/net; grep -r . ipv4/ip_forward ipv4/conf ipv6/conf 2>/dev/null",
    "run": "find /run",
    "process": "ps -e -o args=",
}
LEFT = {"/run/wireguard"}  # wireguard-go's, empty


def found(host: Host) -> dict[str, list[str]]:
    """What there is on a machine, by kind, a line each."""
    shown = {}
    for kind, command in COMMANDS.items():
        lines = host.run("sh", "-c", command, check=False).stdout.splitlines()
        # The time of a saved table is of the moment.
        kept = [line for line in lines if not line.startswith("#") and command not in line]
        shown[kind] = sorted(
            line for line in kept if line not in LEFT and not has_ended(kind, line)
        )
    written = [path for path in own_files(host) if not path.startswith("/var/log")]
    each = 'for path; do sha256sum "$path" 2>/dev/null || echo "$path"; done'
    shown["file"] = sorted(host.run("sh", "-c", each, "sh", *written).stdout.splitlines())
    return shown


@pytest.mark.parametrize("forwarding", ["0", pytest.param("1", marks=pytest.mark.full)])
def test_a_gateway_of_all_roles_leaves_no_trace(mesh: Mesh, forwarding: str) -> None:
    lan = mesh.lab.lan(f"lan{forwarding}", f"192.168.5{forwarding}.0/24")
    gateway = mesh.machine(f"gateway{forwarding}")
    gateway.attach(lan)
    gateway.run("sysctl", f"net.ipv4.ip_forward={forwarding}")
    gateway.run("iptables", "-P", "FORWARD", "DROP")
    gateway.run("iptables", "-N", "DOCKER-USER")
    gateway.run("iptables", "-A", "FORWARD", "-j", "DOCKER-USER")
    gateway.run("nft", "add table inet theirs; add chain inet theirs own")
    before = found(gateway)
    mesh.join(gateway)
    other = mesh.join(mesh.machine(f"other{forwarding}"))
    far = f"192.168.9{forwarding}.0/24"
    mesh.admin("gateway", "add", gateway.name, "egress", str(lan.subnets[0]))
    mesh.admin("gateway", "add", gateway.name, "ingress")
    mesh.admin("gateway", "add", gateway.name, "exit")
    mesh.admin("gateway", "add", other.name, "egress", far)
    mesh.admin("extclient", "create", f"phone{forwarding}", "--gateway", gateway.name)
    for host in (gateway, other):
        host.run("nmk", "checkin")
    neighbour = mesh.lab.host(f"neighbour{forwarding}", on=lan)
    reaches(other, neighbour.address)
    during = found(gateway)
    changed = {kind for kind in before if during[kind] != before[kind]}
    assert changed == {*COMMANDS, "file"}, "what is not looked at properly proves nothing"
    assert any("DOCKER-USER -i nmk-home" in line for line in during["iptables"])

    gateway.run("nmk", "leave")
    assert found(gateway) == before
    other.run("nmk", "leave")


def test_a_role_that_was_taken_away_leaves_no_trace_either(mesh: Mesh) -> None:
    gateway = mesh.join(mesh.machine("once"))
    gateway.run("nmk", "checkin")
    before = {k: v for k, v in found(gateway).items() if k not in {"file", "process", "run"}}
    mesh.admin("gateway", "add", "once", "egress", "192.168.77.0/24", "fd77::/64")
    gateway.run("nmk", "checkin")
    assert gateway.read("/proc/sys/net/ipv4/ip_forward") == "1\n"
    mesh.admin("gateway", "remove", "once", "egress", "--yes")
    gateway.run("nmk", "checkin")
    assert {k: v for k, v in found(gateway).items() if k in before} == before
    assert gateway.run("nmk", "checkin", "-v").stderr.count("[#]") == 0


def test_where_kernel_settings_cannot_be_changed_a_machine_can_still_leave(mesh: Mesh) -> None:
    gateway = mesh.machine("contained")
    gateway.run("mount", "--bind", "/proc/sys", "/proc/sys")
    gateway.run("mount", "-o", "remount,bind,ro", "/proc/sys")
    before = found(gateway)
    mesh.join(gateway)
    mesh.admin("gateway", "add", "contained", "ingress")
    code, message, _ = failure(gateway, "checkin")
    assert (code, message.split(" cannot ")[0]) == (1, "home: /proc/sys/net/ipv4/ip_forward")
    failure(gateway, "checkin")
    [row] = mesh.json("gateway", "list")
    assert (row["serves"], row["obstacle"].split(",")[0]) == (False, "its kernel does not forward")
    gateway.run("nmk", "down")
    failure(gateway, "up")
    gateway.run("nmk", "leave")
    assert found(gateway) == before


def test_a_filter_that_somebody_else_removed_leaves_no_trace(mesh: Mesh) -> None:
    gateway = mesh.machine("emptied")
    before = found(gateway)
    mesh.join(gateway)
    mesh.admin("gateway", "add", "emptied", "ingress")
    gateway.run("nmk", "checkin")
    gateway.run("nft", "delete", "table", "inet", "nmk-home")
    gateway.run("nmk", "leave")
    assert found(gateway) == before


def test_a_process_that_has_ended_is_no_trace(mesh: Mesh) -> None:
    host = mesh.lab.host("parent")
    before = traces(host), found(host)
    host.start("sh", "-c", "true & exec sleep 60")
    poll(lambda: "Z" in host.run("ps", "-e", "-o", "stat=").stdout, 10, "end of a process")
    after = traces(host), found(host)
    assert after[0] - before[0] == {"process sleep 60"}
    assert after[1]["process"] == sorted([*before[1]["process"], "sleep 60"])
