"""`nmk agent`: a machine that stays in its mesh by itself."""

from __future__ import annotations

import json
import signal

import pytest

from tests.lab import Host, Lab, Process, poll
from tests.mesh import Mesh, live_addresses, live_peers, reaches


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    return Mesh(lab, settings=("interval=5",))


def start_agent(host: Host) -> Process:
    return host.start("nmk", "agent", "--verbose")


def index_of(host: Host) -> int:
    [link] = json.loads(host.run("ip", "-j", "link", "show", "dev", "nmk-home").stdout)
    number: int = link["ifindex"]
    return number


def test_peers_are_found_without_a_hand(mesh: Mesh) -> None:
    web, db = (mesh.join(mesh.machine(n), "--daemon", "off") for n in ("web", "db"))
    for host in (web, db):
        start_agent(host)
    reaches(web, mesh.address("db"))
    late = mesh.join(mesh.machine("late"))
    reaches(web, mesh.address("late"))
    reaches(late, mesh.address("db"))


def test_a_new_address_is_reported_at_once_and_peers_follow(mesh: Mesh) -> None:
    mesh.admin("network", "set", "home", "interval=3600")
    web, db = (mesh.join(mesh.machine(n)) for n in ("web", "db"))
    agent = start_agent(db)
    agent.wait_for("keeping")
    before = index_of(db)
    db.readdress(mesh.internet, "198.51.100.9")
    poll(lambda: "198.51.100.9/24" in mesh.nodes()["db"]["lan"], 20, "the new address is reported")
    web.run("nmk", "checkin")
    reaches(web, mesh.address("db"))
    assert index_of(db) == before


def test_it_outlives_the_controller_and_ends_cleanly(mesh: Mesh) -> None:
    web = mesh.join(mesh.machine("web"))
    agent = start_agent(web)
    mesh.stop()
    agent.wait_for("cannot reach", 60)
    calls = web.start("tcpdump", "-l", "--immediate-mode", "-n", "tcp[tcpflags] == tcp-syn")
    calls.wait_for("listening")
    for _ in range(3):
        before = calls.output.count("\n")

        def has_called(before: int = before) -> bool:
            agent.signal(signal.SIGHUP)  # one that comes while it calls is not for another call
            return calls.output.count("\n") > before

        poll(has_called, 20, "another check-in")
    assert agent.output.count("home: cannot reach") == 1
    assert "well again" not in agent.output
    mesh.start()
    agent.signal(signal.SIGHUP)
    agent.wait_for("well again", 60)
    agent.terminate()
    assert agent.wait() == 0
    assert live_addresses(web) == mesh.nodes()["web"]["addresses"]


def test_a_log_that_nobody_reads_keeps_it_from_nothing(mesh: Mesh) -> None:
    """A pipe that is full: what it says is left out."""
    web = mesh.join(mesh.machine("web"))
    fill = "dd if=/dev/zero of=/tmp/log bs=4096 count=99 oflag=nonblock"
    agent = "nmk agent --verbose > /tmp/log 2>&1"
    web.start("sh", "-c", f"mkfifo /tmp/log; sleep 600 < /tmp/log & {fill}; exec {agent}")
    poll(lambda: "agent" in web.run("pgrep", "-af", "nmk agent", check=False).stdout, 20, "agent")
    look = ("ip", "link", "show", "nmk-home")
    for _ in range(2):
        web.run("ip", "link", "del", "nmk-home")
        poll(lambda: web.run(*look, check=False).returncode == 0, 30, "the interface")


def test_cron_beside_it_does_no_harm(mesh: Mesh) -> None:
    web = mesh.join(mesh.machine("web"))
    start_agent(web)
    for _ in range(10):
        done = web.run("nmk", "checkin", "--quiet", check=False)
        assert done.returncode in {0, 75}
        assert done.stderr == ""


def test_what_is_on_disk_is_up_again_after_a_reboot_without_a_controller(mesh: Mesh) -> None:
    web, db = (mesh.join(mesh.machine(n)) for n in ("web", "db"))
    web.run("nmk", "checkin")
    mesh.stop()
    address = live_addresses(db)[0]
    web.reboot()
    start_agent(web)
    reaches(web, address)


def test_down_stays_down(mesh: Mesh) -> None:
    web = mesh.join(mesh.machine("web"))
    web.run("nmk", "down")
    web.reboot()
    agent = start_agent(web)
    web.run("nmk", "checkin", "--quiet", check=False)
    agent.signal(signal.SIGHUP)
    assert web.run("ip", "link", "show", "dev", "nmk-home", check=False).returncode != 0
    web.run("nmk", "up")
    assert live_addresses(web) == mesh.nodes()["web"]["addresses"]


def test_what_people_and_peers_show_ends_the_wait_after_failures(mesh: Mesh) -> None:
    """Nobody waits out a back-off of minutes once the world is known to be back."""
    mesh.admin("network", "set", "home", "interval=600", "keepalive=0")
    web, db = mesh.members("web", "db")
    assert set(live_peers(web, "latest-handshakes").values()) == {"0"}
    shown = (
        (db, ("ping", "-c1", "-w30", mesh.address("web"))),  # and so a handshake, the first in long
        (web, ("nmk", "up")),
        (web, ("nmk", "set", "mtu=1380")),
        (web, ("nmk", "checkin")),
    )
    agent = start_agent(web)
    agent.wait_for("keeping")

    def is_said(line: str, times: int) -> None:
        poll(lambda: agent.output.count(f"home: {line}") == times, 30, f"{line}, {times} times")

    for number, (host, command) in enumerate(shown, 1):
        with mesh.stopped():
            agent.signal(signal.SIGHUP)
            is_said("cannot reach", number)
        host.run(*command)
        is_said("well again", number)


def test_after_down_and_up_gateways_are_looked_at_again(mesh: Mesh) -> None:
    mesh.admin("network", "set", "home", "interval=600")
    web, _ = mesh.members("web", "way")
    mesh.admin("gateway", "add", "way", "exit")
    web.run("nmk", "checkin")
    web.run("nmk", "set", "exit-node=way")
    noted = "/run/nmk/home.gateways"
    web.run("nmk", "down")
    web.run("rm", "-f", noted)
    agent = start_agent(web)
    agent.wait_for("keeping")  # it has looked, and there was nothing to look at
    web.run("nmk", "up")
    poll(lambda: web.run("test", "-e", noted, check=False).returncode == 0, 30, "look at gateways")


def test_routes_that_flap_are_the_machines_own_business(mesh: Mesh) -> None:
    mesh.admin("network", "set", "home", "interval=600")
    web = mesh.join(mesh.machine("web"))
    web.run("ip", "link", "add", "lan9", "type", "bridge")
    web.run("ip", "link", "set", "lan9", "up")
    agent = start_agent(web)
    agent.wait_for("keeping")
    calls = web.start("tcpdump", "-l", "--immediate-mode", "-n", "tcp[tcpflags] == tcp-syn")
    calls.wait_for("listening")
    route = "203.0.113.64/26 dev lan9"
    web.run(
        "sh",
        "-c",
        f"for n in 1 2 3 4; do ip route add {route}; sleep 1; ip route del {route}; sleep 1; done",
    )
    assert calls.output.count("Flags [S]") == 0, calls.output
    web.readdress(mesh.internet, "198.51.100.9")  # which the controller does not know
    poll(lambda: "198.51.100.9/24" in mesh.nodes()["web"]["lan"], 70, "the new address is reported")
