"""What another program takes away of nmk's own is back within seconds, and the log says so."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nmk.agent.mend import UNDONE
from tests.agent.test_machine import NMK, SOURCE, Place, nmk
from tests.hostile.door import Door
from tests.lab import Host, Lab, Process, poll

SOON = 8  # seconds; two on a machine that is not busy


class Home(Place):
    """A network with an exit node, `way`, and a laptop that goes out by it."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.admin("network", "set", "home", "interval=3600")
        self.way = self.member("way")
        self.laptop = self.member("laptop")
        self.admin("gateway", "add", "way", "exit")
        for host in (self.way, self.laptop):
            assert nmk(host, "checkin").returncode == 0
        assert nmk(self.laptop, "set", "exit-node=way", "kill-switch=on").returncode == 0


@pytest.fixture(scope="module")
def home(module_lab: Lab) -> Home:
    return Home(module_lab)


@pytest.fixture
def agent(home: Home) -> Iterator[Process]:
    process = home.laptop.start(*NMK, "agent", env={"PYTHONPATH": SOURCE})
    process.wait_for("keeping")
    yield process
    process.terminate()
    process.wait()


def laid(host: Host) -> dict[str, Any]:
    """All that is there for the exit node."""
    shown = {
        "rules": "ip rule; ip -6 rule",
        "routes": "ip -4 route show table all dev nmk-home",
        "filter": "nft --stateless list ruleset",
        "addresses": "ip -brief address show dev nmk-home scope global",
        "mtu": "cat /sys/class/net/nmk-home/mtu",
        "mark": "cat /proc/sys/net/ipv4/conf/all/src_valid_mark",
    }
    found = {k: host.run("sh", "-c", how, check=False).stdout for k, how in shown.items()}
    return {kind: sorted(text.splitlines()) for kind, text in found.items()}


def log(host: Host) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(nmk(host, "log", "-o", "json").stdout)
    return found


def mended(host: Host) -> int:
    """How often something was put right."""
    return sum(entry["times"] for entry in log(host) if entry["cause"] == "mended")


TAKEN = {
    "rules": "ip rule flush; ip rule add priority 32766 table main; "
    "ip rule add priority 32767 table default; ip -6 rule flush; "
    "ip -6 rule add priority 32766 table main",
    "filter": "nft flush ruleset",
    "routes and addresses": "ip route flush table 7236973; ip address flush dev nmk-home; "
    "ip link set nmk-home down",
    "interface": "ip link delete nmk-home",
    # Older kernels rename no link that is up.
    "name": "ip link set dev nmk-home name theirs || { ip link set nmk-home down; "
    "ip link set dev nmk-home name theirs; ip link set theirs up; }",
    "size": "ip link set nmk-home mtu 68",
}


@pytest.mark.parametrize("what", TAKEN)
def test_what_another_program_removed_is_back(home: Home, agent: Process, what: str) -> None:
    before, said = laid(home.laptop), mended(home.laptop)
    home.laptop.run("sh", "-c", TAKEN[what])
    poll(lambda: mended(home.laptop) > said, SOON, "word of it")
    poll(lambda: laid(home.laptop) == before, SOON, f"{before} again")
    assert log(home.laptop)[-1]["changes"][0] == UNDONE
    agent.wait_for("another program changed what is nmk's")
    assert agent.output.count("another program") == 1


def test_forwarding_that_another_program_switches_on_lets_nobody_through(
    home: Home, agent: Process
) -> None:
    before = laid(home.laptop)
    home.laptop.run("sysctl", "net.ipv4.ip_forward=1")
    poll(lambda: "\tchain forward {" in laid(home.laptop)["filter"], SOON, "filter")
    home.laptop.run("sysctl", "net.ipv4.ip_forward=0")
    poll(lambda: laid(home.laptop) == before, SOON, f"{before} again")
    assert "keeping" in agent.output


def test_nothing_waits_for_a_controller_that_takes_its_time(home: Home, agent: Process) -> None:
    """It accepts connections, and says nothing: looks go on, and SIGTERM ends the agent at once."""
    before, said = laid(home.laptop), mended(home.laptop)
    with home.stopped(), Door(lambda _: silent.silence, home.controller, 50051) as silent:
        agent.signal(signal.SIGHUP)
        poll(lambda: silent.asked, SOON, "question")
        home.laptop.run("sh", "-c", f"{TAKEN['filter']}; {TAKEN['rules']}")
        poll(lambda: mended(home.laptop) > said, SOON, "word of it")
        poll(lambda: laid(home.laptop) == before, SOON, f"{before} again")
        agent.terminate()
        assert agent.wait() == 0
    [_, line] = agent.output.splitlines()  # and so none of a check-in that has come to its end
    assert "another program changed what is nmk's" in line


def test_with_one_who_takes_it_away_each_time_it_is_not_followed_for_ever(
    home: Home, agent: Process
) -> None:
    before = len(log(home.laptop))
    quarrel = home.laptop.start(
        "sh", "-c", "while :; do ip rule del priority 30001 2>/dev/null; sleep 0.05; done"
    )
    agent.wait_for("another program keeps changing it", 40)
    quarrel.kill()
    assert agent.output.count("another program") == 2
    news = log(home.laptop)[before:]
    assert sum(entry["times"] for entry in news) <= 5
    assert len(news) <= 2
    doctor = nmk(home.laptop, "doctor").stdout
    assert "another program keeps changing what nmk needs" in doctor


def test_without_an_agent_the_next_check_in_puts_it_right(home: Home) -> None:
    assert nmk(home.laptop, "checkin").returncode == 0
    before = laid(home.laptop)
    home.laptop.run("sh", "-c", TAKEN["rules"])
    assert nmk(home.laptop, "checkin").returncode == 0
    assert laid(home.laptop) == before


def test_the_monitor_tells_ours_from_theirs(home: Home) -> None:
    program = """
import select, subprocess, time
from nmk.system.monitor import Monitor
monitor = Monitor(lambda: {"nmk-x"}, lambda: {"nmk-x"}, 7237484)
def after(expected, *commands):
    for command in commands:
        subprocess.run(command, shell=True, check=True)
    ours = theirs = False
    end = time.monotonic() + 120
    def waits():  # of some, the kernel tells late
        return f"{ours:d}{theirs:d}" != expected and time.monotonic() < end
    while select.select([monitor], [], [], 0.3)[0] or (expected != "00" and waits()):
        news = monitor.read()
        ours, theirs = ours or news.ours, theirs or news.theirs
    print(f"{ours:d}{theirs:d}", end=" ")
def settled():
    # The kernel has said all of both ends: that they are up, and that they have addresses.
    up = [open(f"/sys/class/net/{name}/operstate").read().strip() for name in ENDS]
    flags = [words[4] for words in map(str.split, open("/proc/net/if_inet6")) if words[5] in ENDS]
    return up == ["up", "up"] and [int(each, 16) & 0x40 for each in flags] == [0, 0]
ENDS = "nmk-x", "them"
add = "ip link add nmk-x type veth peer name them"
after("11", add, "ip link set them up", "ip link set nmk-x up")
end = time.monotonic() + 120
while not settled() and time.monotonic() < end:
    time.sleep(0.02)
assert settled()
while select.select([monitor], [], [], 0.3)[0]:
    monitor.read()
after("10", "ip address add 10.9.9.1/24 dev nmk-x")
after("01", "ip address add 192.0.2.9/24 dev them")
after("01", "ip route add 10.8.0.0/16 via 192.0.2.1")
after("10", "ip route add 10.8.0.0/16 via 192.0.2.1 table 7237484")
after("10", "ip rule add priority 77 table 7")
after("00", "nft add table inet theirs", "nft add chain inet theirs c")
after("10", "nft add table inet nmk-x")
after("10", "sysctl -qw net.ipv4.ip_forward=1")
after("00", "true")
after("11", "ip link delete nmk-x")
monitor.close()
"""
    done = home.lab.host("listens").run(sys.executable, "-c", program, env={"PYTHONPATH": SOURCE})
    assert Path(SOURCE, "nmk").is_dir()
    assert done.stdout == "11 10 01 01 10 10 00 10 10 00 11 "


PRETENDER = """
import ctypes, fcntl, os, signal, socket, struct
server = socket.socket(socket.AF_UNIX)
server.bind("\\0/run/wireguard/nmk-home.sock")
assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET
fcntl.ioctl(os.open("/dev/net/tun", os.O_RDWR), 0x400454CA, struct.pack("16sH22x", b"eth0", 0x1001))
print("ready", flush=True)
signal.pause()
"""  # any user can: a socket that is called like ours, and a device eth0 that is not the machine's


def test_one_that_was_renamed_is_found_without_a_note_too(home: Home) -> None:
    host = home.laptop
    before = laid(host)
    host.run("sh", "-c", TAKEN["name"])
    host.run("rm", "-r", "/run/nmk")
    said = json.loads(nmk(host, "status", "-o", "json").stdout)[0]["problems"]
    assert [p["message"] for p in said] == ["nmk-home has been renamed: it is theirs now"]
    assert nmk(host, "checkin").returncode == 0
    assert laid(host) == before


def test_leave_finds_an_interface_that_was_renamed(home: Home) -> None:
    host = home.laptop
    user = host.start(sys.executable, "-c", PRETENDER)
    user.wait_for("ready")
    host.run("ip", "link", "delete", "nmk-home")  # made again, its process comes after the user's
    assert nmk(host, "checkin").returncode == 0
    host.run("sh", "-c", TAKEN["name"])
    done = nmk(host, "leave")
    assert (done.returncode, done.stderr) == (0, "this machine has left home\n")
    assert "theirs" not in host.run("ip", "-brief", "link").stdout
    assert "2000" not in host.run("ip", "rule").stdout
    assert host.run("ip", "route", "show", "table", "all", "dev", "eth0").stdout
    user.kill()
