"""`nmk doctor` finds what is wrong, and the command that it names mends it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.lab import Host, poll
from tests.mesh import failure, install_cron, live_peers
from tests.seeing.conftest import Pair

CHECKS = [
    *("wireguard", "tools", "forwarding", "state"),
    *("controller", "clock", "interface", "applied", "check-ins", "identity", "revision"),
    *("overlap", "gateway", "firewall"),
    *("peers", "mtu"),
]
LOOKS = "ip -json address; ip route show table all; nft list ruleset; find /var/lib/nmk -ls"
DOCKER = """
table ip filter {
    chain DOCKER-USER {
        return
    }
    chain FORWARD {
        type filter hook forward priority 0; policy drop;
        jump DOCKER-USER
    }
}
"""
CLOSED = """
table inet mine {
    chain in {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
        iifname { lo, nmk-home } accept
        tcp dport { 22, 50051 } accept
    }
}
"""
NARROW = """
table inet narrow {
    chain in {
        type filter hook input priority -300
        udp dport 51821 udp length > 1400 drop
    }
}
"""


def diagnose(host: Host) -> tuple[int, list[dict[str, Any]]]:
    """The exit code and the findings."""
    done = host.run("nmk", "doctor", "-o", "json", check=False)
    findings: list[dict[str, Any]] = json.loads(done.stdout)
    return done.returncode, findings


def find(host: Host, check: str) -> dict[str, Any]:
    """The worst finding of a check; it must be what the exit code says."""
    exit_code, findings = diagnose(host)
    assert exit_code == any(f["level"] == "broken" for f in findings)
    rank = ("ok", "warn", "broken").index
    return max((f for f in findings if f["check"] == check), key=lambda f: rank(f["level"]))


def mend(host: Host, finding: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Do what a finding says."""
    return host.run("sh", "-c", finding["mend"].removeprefix("where nothing else needs it: "))


@contextmanager
def ruleset(host: Host, rules: str) -> Iterator[None]:
    host.run("nft", "-f", "-", input=rules)
    try:
        yield
    finally:
        host.run("nft", "flush", "ruleset")


def test_a_machine_that_is_well(pair: Pair) -> None:
    before = pair.anna.run("sh", "-c", LOOKS).stdout
    exit_code, findings = diagnose(pair.anna)
    assert exit_code == 0
    assert [f["check"] for f in findings] == CHECKS
    assert {f["check"] for f in findings if f["level"] != "ok"} == {"check-ins"}
    assert {frozenset(f) for f in findings} == {
        frozenset({"check", "level", "reason", "mend", "network"})
    }
    assert pair.anna.run("sh", "-c", LOOKS).stdout == before


def test_it_tells_people_the_same(pair: Pair) -> None:
    install_cron(pair.anna)
    lines = pair.anna.run("nmk", "doctor").stdout.splitlines()
    findings = [line.split()[:2] for line in lines if not line.startswith(" ")]
    assert [check for _, check in findings] == CHECKS
    [cure] = [line.strip() for line in lines if line.startswith(" ")]
    assert cure == "try: nmk service install agent"


def test_which_wireguard(pair: Pair) -> None:
    found = find(pair.anna, "wireguard")
    assert found["reason"].startswith("wireguard-go 0.0.")
    assert "userspace" in found["reason"]
    assert "userspace" in find(pair.anna, "interface")["reason"]


def test_no_controller(pair: Pair) -> None:
    with pair.mesh.stopped():
        found = find(pair.anna, "controller")
    assert found["level"] == "broken"
    for url in pair.mesh.urls:
        assert f"{url} cannot be reached: Connection refused" in found["reason"]


def test_one_of_two_urls(pair: Pair) -> None:
    assert pair.anna.address6
    pair.anna.run("ip", "-6", "route", "add", "unreachable", str(pair.mesh.controller.address6))
    try:
        exit_code, findings = diagnose(pair.anna)
    finally:
        pair.anna.run("ip", "-6", "route", "delete", str(pair.mesh.controller.address6))
    found = [f for f in findings if f["check"] == "controller"]
    assert exit_code == 0
    assert [f["level"] for f in found] == ["ok", "warn"]
    assert pair.mesh.urls[0] in found[0]["reason"]
    assert pair.mesh.urls[1] in found[1]["reason"]


def test_dockers_forward_policy(pair: Pair) -> None:
    with ruleset(pair.anna, DOCKER):
        found = find(pair.anna, "firewall")
        assert found["level"] == "warn"
        assert "ip filter FORWARD drops" in found["reason"]
        assert "Docker" in found["reason"]
        mend(pair.anna, found)
        assert find(pair.anna, "firewall")["level"] == "ok"


def test_a_firewall_that_peers_cannot_pass(pair: Pair) -> None:
    with ruleset(pair.anna, CLOSED):
        found = find(pair.anna, "firewall")
        assert found["level"] == "warn"
        assert "inet mine in drops UDP port 51821" in found["reason"]
        mend(pair.anna, found)
        assert find(pair.anna, "firewall")["level"] == "ok"


def test_a_path_that_is_too_narrow(pair: Pair) -> None:
    with ruleset(pair.bert, NARROW):
        found = find(pair.anna, "mtu")
        assert found["level"] == "broken"
        assert "packets of 1420 bytes do not get to bert and back, those of 13" in found["reason"]
        where, _, command = found["mend"].partition(": ")
        assert where == "on the controller"
        pair.mesh.admin(*command.split()[1:])
        for host in (pair.anna, pair.bert):
            host.run("nmk", "checkin")
        assert find(pair.anna, "mtu")["level"] == "ok"
    pair.mesh.admin("network", "set", "home", "mtu=1420")
    for host in (pair.anna, pair.bert):
        host.run("nmk", "checkin")


def test_a_link_below_that_is_too_narrow(pair: Pair) -> None:
    pair.anna.run("ip", "link", "set", "eth0", "mtu", "1450")
    try:
        _, findings = diagnose(pair.anna)
    finally:
        pair.anna.run("ip", "link", "set", "eth0", "mtu", "1500")
    [found] = [f for f in findings if "eth0 takes 1450 bytes" in f["reason"]]
    assert (found["check"], found["level"]) == ("mtu", "warn")
    assert found["mend"].endswith("mtu=1390")


def test_a_route_that_takes_a_nodes_packets(pair: Pair) -> None:
    pair.anna.run("ip", "route", "add", f"{pair.bert_address}/32", "dev", "eth0")
    found = find(pair.anna, "overlap")
    assert found["level"] == "broken"
    assert f"{pair.bert_address}/32 on eth0 takes the packets" in found["reason"]
    refused = failure(pair.anna, "ping", "bert")
    assert refused.exit_code == 1
    assert refused.message == "bert answers, but packets to it leave by eth0, not by the mesh"
    mend(pair.anna, found)
    assert find(pair.anna, "overlap")["level"] == "ok"


def test_a_route_beside_the_nodes(pair: Pair) -> None:
    pair.anna.run("ip", "route", "add", "10.77.0.128/25", "dev", "eth0")
    found = find(pair.anna, "overlap")
    assert found["level"] == "warn"
    mend(pair.anna, found)
    assert find(pair.anna, "overlap")["level"] == "ok"


def test_an_interface_that_somebody_changed(pair: Pair) -> None:
    pair.anna.run("ip", "link", "set", "nmk-home", "mtu", "1300")
    found = find(pair.anna, "interface")
    assert found["level"] == "broken"
    assert "set MTU 1420" in found["reason"]
    mend(pair.anna, found)
    assert find(pair.anna, "interface")["level"] == "ok"


def test_an_interface_that_is_not_there(pair: Pair) -> None:
    pair.anna.run("ip", "link", "delete", "nmk-home")
    found = find(pair.anna, "interface")
    assert (found["level"], found["reason"]) == ("broken", "nmk-home: it is not there")
    mend(pair.anna, found)
    assert find(pair.anna, "interface")["level"] == "ok"


def test_an_interface_that_its_owner_took_down(pair: Pair) -> None:
    pair.anna.run("nmk", "down")
    assert find(pair.anna, "interface")["level"] == "warn"
    pair.anna.run("nmk", "up")


def test_who_starts_check_ins(pair: Pair) -> None:
    assert find(pair.anna, "check-ins")["level"] == "warn"
    agent = pair.anna.start("nmk", "agent")
    agent.wait_for("", 10)
    found = poll(
        lambda: (f := find(pair.anna, "check-ins"))["level"] == "ok" and f, 20, "an agent is seen"
    )
    assert isinstance(found, dict)
    assert found["reason"].endswith("by nmk agent")
    agent.terminate()
    agent.wait()


def test_a_state_that_does_not_last_and_one_that_others_read(pair: Pair) -> None:
    pair.anna.run("mkdir", "/run/state")
    pair.anna.run("cp", "-p", "/var/lib/nmk/home.json", "/run/state")
    elsewhere = {"NMK_STATE_DIR": "/run/state"}

    def doctor() -> tuple[str, int]:
        """What it tells, whatever its columns' widths, and the exit code."""
        done = pair.anna.run("nmk", "doctor", check=False, env=elsewhere)
        return " ".join(done.stdout.split()), done.returncode

    assert "warn state /run/state is forgotten at a reboot" in doctor()[0]
    pair.anna.run("chmod", "644", "/run/state/home.json")
    told, exit_code = doctor()
    assert "broken state others can read /run/state/home.json" in told
    assert exit_code == 1
    pair.anna.write("/run/state/home.json", "no JSON", mode=0o600)
    assert "broken state home: /run/state/home.json is damaged" in doctor()[0]


def test_a_peer_that_is_gone(pair: Pair) -> None:
    pair.bert.stop()
    pair.anna.run("ip", "link", "delete", "nmk-home")
    pair.anna.run("nmk", "up")
    try:
        found = poll(
            lambda: (f := find(pair.anna, "peers"))["level"] == "broken" and f,
            60,
            "a silent peer is noticed",
        )
        assert isinstance(found, dict)
        assert "bert: packets go out to" in found["reason"]
        assert found["mend"] == "nmk ping -n home bert"
        status = pair.anna.run("nmk", "status").stdout
        assert "it has never answered\n  try: nmk ping -n home bert" in status
        assert " failed " in status
    finally:
        pair.bert.boot()
        pair.bert.run("nmk", "up")


def test_an_idle_peer_is_fine(pair: Pair) -> None:
    for host in (pair.anna, pair.bert):
        host.write("/etc/nmk/home.toml", "keepalive = 0\n")
        host.run("ip", "link", "delete", "nmk-home")
        host.run("nmk", "up")
    assert [*live_peers(pair.anna, "latest-handshakes").values()] == ["0"]
    assert find(pair.anna, "peers")["reason"] == "0 of 1 peers in touch, 1 idle"
    assert find(pair.anna, "peers")["level"] == "ok"
    [network] = json.loads(pair.anna.run("nmk", "status", "-o", "json").stdout)
    [peer] = network["peers"]
    assert (peer["state"], peer["problem"]) == ("idle", None)
    for host in (pair.anna, pair.bert):
        host.run("rm", "/etc/nmk/home.toml")


def test_a_machine_in_no_network(pair: Pair) -> None:
    stranger = pair.mesh.machine("stranger")
    done = stranger.run("nmk", "doctor")
    assert "this machine is in no network" in done.stderr
    assert [line.split()[1] for line in done.stdout.splitlines()] == CHECKS[:3]


def test_only_root_may(pair: Pair) -> None:
    for command in ("doctor", "status", "log"):
        line = f"setpriv --reuid 65534 --clear-groups nmk {command}"
        done = pair.anna.run("sh", "-c", line, check=False)
        assert done.returncode == 1
        assert f"`nmk {command}` needs root" in done.stderr
