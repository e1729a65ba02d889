from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from socket import AF_INET6, SOCK_STREAM, socket
from textwrap import dedent

import pytest

from tests.gateways.capture import captured
from tests.lab import CommandFailed, Host, Lab, LabError, Nat, Process, patient, poll

pytest_plugins = ["tests.lab.plugin"]

ROOT = Path(__file__).parents[1]
PING = ("ping", "-c1", "-W60")
PING_ONCE_IN_VAIN = ("ping", "-c1", "-W0.3")


def reaches(host: Host, address: str) -> bool:
    return host.run(*PING_ONCE_IN_VAIN, address, check=False).returncode == 0


# Hosts


def test_a_host_is_a_machine_of_its_own(lab: Lab) -> None:
    host = lab.host("alpha")
    assert host.run("hostname").stdout == "alpha\n"
    assert host.run("sh", "-c", "echo $$").stdout != "1\n"
    poll(lambda: host.read("/proc/1/comm") == "cat\n", 5, "first process that only holds on")
    assert host.run("ls", "/sys/class/net").stdout == "lo\n"
    assert host.run("ls", "-A", "/run").stdout == ""
    assert host.run("pwd").stdout == "/\n"
    host.run(*PING, "127.0.0.1")


def test_only_a_clean_environment_gets_in(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMK_LEAK", "1")
    names = re.findall("(?m)^([A-Z_]+)=", lab.host("a").run("env", env={"EXTRA": "x"}).stdout)
    assert sorted(names) == ["EXTRA", "HOME", "LANG", "PATH"]


def test_a_host_captures_once_and_again(lab: Lab) -> None:
    """Whatever fs.protected_regular is on this machine: what is read twice is two files."""
    lan = lab.lan("home", "192.168.1.0/24")
    host, other = lab.host("alpha", on=lan), lab.host("beta", on=lan)
    for _ in range(2):
        with captured(host, "eth0", "icmp") as capture:
            host.run(*PING, other.address)
        assert [packet.source for packet in capture.packets] == [host.address, other.address]


def test_a_host_has_all_its_addresses_from_the_beginning(lab: Lab) -> None:
    """On a busy machine the kernel makes the routes of IPv6 addresses later."""
    lan = lab.lan("home", "192.168.1.0/24", cidr6="2001:db8:1::/64")
    for n in range(8):
        routes = lab.host(f"h{n}", on=lan).run("ip", "-6", "route", "show", "table", "local").stdout
        assert sorted(line[:11] for line in routes.splitlines() if line.startswith("local")) == [
            "local 2001:",
            "local ::1 d",
            "local fe80:",
        ]


def test_a_failed_command_tells_all(lab: Lab) -> None:
    host = lab.host("alpha")
    with pytest.raises(CommandFailed) as caught:
        host.run("sh", "-c", "echo out; echo err >&2; exit 3")
    assert caught.value.returncode == 3
    for part in ("alpha$ sh -c", "ended with 3", "out\n", "err\n"):
        assert part in str(caught.value)
    assert host.run("false", check=False).returncode == 1


def test_a_slow_command_is_killed(lab: Lab) -> None:
    host = lab.host("a")
    with pytest.raises(CommandFailed, match="ran out of time"):
        host.run("sleep", "1234", timeout=0.1)
    assert "sleep" not in host.run("sh", "-c", "cat /proc/[0-9]*/comm", check=False).stdout


def test_a_daemon_left_behind_does_not_hold_up_its_starter(lab: Lab) -> None:
    host = lab.host("a")
    host.run("sh", "-c", "sleep 1234 & exit 0")
    pid = host.run("sh", "-c", "grep -l sleep /proc/[0-9]*/comm", check=False).stdout.split("/")[2]
    host.run("kill", pid)
    poll(lambda: not Path(f"/proc/{host.pid}/root/proc/{pid}").exists(), 5, "reaped orphan")


def test_background_processes(lab: Lab) -> None:
    host = lab.host("a")
    polite = host.start("sh", "-c", "trap 'echo bye; exit 7' TERM; echo ready; sleep 99 & wait")
    polite.wait_for("ready")
    assert polite.running
    polite.terminate()
    assert polite.wait() == 7
    assert polite.log.read_text() == "ready\nbye\n"
    polite.terminate()  # of an ended one is nothing

    stubborn = host.start("sh", "-c", "trap '' TERM; echo ready; sleep 99")
    stubborn.wait_for("ready")
    stubborn.kill()
    assert stubborn.wait() == -signal.SIGKILL
    with pytest.raises(CommandFailed, match="ended with 1"):
        host.start("false").wait_for("ready")
    with pytest.raises(CommandFailed, match="ran out of time"):
        host.start("sleep", "99").wait(timeout=0.05)


def test_what_a_host_writes_stays_in_the_host(lab: Lab) -> None:
    alpha, beta = lab.host("alpha"), lab.host("beta")
    paths = [
        f"/{top}/nmk-lab-probe"
        for top in ("etc", "home", "root", "run", "tmp", "usr/local/bin", "usr/lib", "var/lib")
    ]
    for path in paths:
        alpha.write(path, "#!/bin/sh\necho mine\n", mode=0o750)
    assert alpha.run("nmk-lab-probe").stdout == "mine\n"
    assert alpha.run("stat", "-c%a", *paths).stdout.split() == ["750"] * len(paths)
    for path in paths:
        assert not Path(path).exists()
        assert beta.run("test", "-e", path, check=False).returncode == 1
    for path in ("/nmk-lab-probe", str(ROOT / "nmk-lab-probe")):
        with pytest.raises(CommandFailed, match="Read-only"):
            alpha.write(path, "")
    for top in ("/etc", "/root", "/tmp"):
        machine = Path(top).stat()
        assert alpha.run("stat", "-c%a %u", top).stdout == (
            f"{machine.st_mode & 0o7777:o} {machine.st_uid}\n"
        )


def test_a_reboot_kills_all_and_keeps_disk_and_links(lab: Lab) -> None:
    internet = lab.internet()
    a, b = lab.host("a", on=internet), lab.host("b", on=internet)
    b.run(*PING, a.address)
    for path in ("/etc/nmk/kept", "/var/lib/nmk/kept", "/run/lost"):
        a.write(path, "text")
    daemon = a.start("sleep", "999")
    for _ in range(3):
        a.reboot()
    assert not daemon.running
    assert a.read("/etc/nmk/kept") == a.read("/var/lib/nmk/kept") == "text"
    assert a.run("ls", "-A", "/run").stdout == ""
    b.run(*PING, a.address)

    a.stop()
    assert not reaches(b, a.address)
    a.boot()
    b.run(*PING, a.address)
    assert a.address6
    b.run(*PING, a.address6)


def test_a_bare_python_has_only_its_standard_library(lab: Lab) -> None:
    count = "from importlib.metadata import distributions; print(len(list(distributions())))"
    command = ("/usr/bin/python3", "-s", "-c", count)
    outside = subprocess.run(command, env={}, cwd="/", check=True, capture_output=True, text=True)
    assert lab.host("full").run(*command).stdout == outside.stdout
    bare = lab.host("bare", bare_python=True)
    assert bare.run(*command).stdout == "0\n"
    assert bare.run("sh", "-c", "command -v python3").stdout == "/usr/bin/python3\n"


OF_THE_MACHINE = (
    "/etc/cron.d/nmk",
    "/etc/crontab",
    "/etc/init.d/nmk-agent",
    "/etc/nmk/agent.toml",
    "/etc/systemd/system/multi-user.target.wants/nmk-agent.service",
    "/etc/systemd/system/nmk-agent.service",
    "/etc/wireguard/wg0.conf",
    "/root/.ssh/config",
    "/run/nmk/home.answered",
    "/tmp/capture.pcap",
    "/usr/local/bin/nmk",
    "/var/cache/nmk/build/file",
    "/var/lib/nmk/home.json",
    "/var/log/nmk-agent.log",
    "/var/spool/cron/crontabs/root",
)


def test_what_the_machine_is_used_for_is_hidden(lab: Lab) -> None:
    machine = lab.host("machine")
    library = machine.run("sh", "-c", "echo /usr/lib/python3*").stdout.split()[0]
    for path in (*OF_THE_MACHINE, f"{library}/dist-packages/extra.py"):
        machine.write(path, "machine's")
    machine.run("sysctl", "-w", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.ip_forward=1")
    before = machine.run("sh", "-c", 'ls -lR "$@"', "sh", *OF_THE_MACHINE).stdout
    ending = (
        "b = lab.host('b', bare_python=True);"
        f"found = b.run('ls', '-d', *{OF_THE_MACHINE}, check=False).stdout;"
        "assert not found, found;"
        f"b.run('test', '!', '-e', '{library}/dist-packages');"
        f"[b.write(path, 'own') for path in {OF_THE_MACHINE}];"
        "told = b.run('sysctl', '-n', 'net.ipv4.conf.all.rp_filter', 'net.ipv4.ip_forward').stdout;"
        "assert told == '0\\n0\\n', told;"
        "b.run('sysctl', '-w', 'net.ipv4.ip_forward=1')"
    )
    used = use_lab(machine, ending)
    assert used.wait() == 0, used.output
    assert machine.run("sh", "-c", 'ls -lR "$@"', "sh", *OF_THE_MACHINE).stdout == before


def test_a_host_cannot_change_what_the_kernel_keeps_once(lab: Lab) -> None:
    host = lab.host("a")
    for setting in ("fs/protected_regular", "kernel/pid_max", "net/ipv4/ip_forward"):
        value = host.read(f"/proc/sys/{setting}")
        written = host.run("sh", "-c", f"echo {value.strip()} >/proc/sys/{setting}", check=False)
        assert (written.returncode == 0) == setting.startswith("net/"), setting


# Networks


def test_the_internet_routes_between_its_ranges_and_nowhere_else(lab: Lab) -> None:
    internet = lab.internet()
    a = lab.host("a", on=internet)
    b = lab.host("b", on=internet, address="198.51.100.7", address6="2001:db8::7")
    a.run(*PING, "198.51.100.7")
    a.run(*PING, "2001:db8::7")
    b.run(*PING, a.address)
    refused = a.run(*PING, "8.8.8.8", check=False).stdout
    assert "From 203.0.113.1" in refused
    assert "Unreachable" in refused
    with pytest.raises(LabError, match="in no subnet"):
        lab.host("c", on=internet, address="10.0.0.1")


def test_lans(lab: Lab) -> None:
    internet = lab.internet()
    server = lab.host("server", on=internet)
    alone = lab.lan("alone", "10.1.0.0/24", cidr6="2001:db8:1::/64")
    routed = lab.lan(
        "routed", "10.2.0.0/24", cidr6="2001:db8:2::/64", behind=internet, address="192.0.2.9"
    )
    a = lab.host("a", on=alone)
    link = a.attach(routed)
    assert (link.interface, link.address, link.address6) == ("eth1", "10.2.0.2", "2001:db8:2::2")
    assert routed.router
    assert routed.router.address == "192.0.2.9"
    server.run(*PING, "10.2.0.2")
    server.run(*PING, "2001:db8:2::2")
    b = lab.host("b", on=alone)
    b.run(*PING, a.address)
    assert "unreachable" in b.run(*PING, server.address, check=False).stderr

    routed.router.reboot()
    assert internet.router
    internet.router.reboot()
    a.run(*PING, server.address)
    with pytest.raises(LabError, match="not attached"):
        b.link(routed)


def test_faults(lab: Lab) -> None:
    internet = lab.internet()
    a, b, c = (lab.host(name, on=internet) for name in "abc")
    internet.cut(a, b)
    assert not reaches(a, b.address)
    assert b.address6
    assert not reaches(a, b.address6)
    a.run(*PING, c.address)
    b.readdress(internet, "198.51.100.99")
    assert b.address == "198.51.100.99"
    assert not reaches(a, b.address)
    internet.heal()
    a.run(*PING, b.address)

    internet.lose(50)
    lost = a.run("ping", "-c100", "-i0.002", "-W0.2", c.address, check=False).stdout
    share = re.search(r"([\d.]+)% packet loss", lost)
    assert share
    assert 50 < float(share[1]) < 95  # there and back: 75 % on average
    internet.heal()

    a.unplug(internet)
    assert "NO-CARRIER" in a.run("ip", "link", "show", "eth0").stdout
    assert not reaches(c, a.address)
    a.plug(internet)
    c.run(*PING, a.address)


@pytest.mark.parametrize(
    ("nat", "keeps_port", "lets_in_other_port", "lets_in_other_host"),
    [
        ("full-cone", True, True, True),
        ("address-restricted", True, True, False),
        ("port-restricted", True, False, False),
        ("symmetric", False, False, False),
    ],
)
def test_nat(
    lab: Lab, nat: Nat, keeps_port: bool, lets_in_other_port: bool, lets_in_other_host: bool
) -> None:
    internet = lab.internet()
    home = lab.lan("home", "192.168.1.0/24", nat=nat, behind=internet)
    assert home.router
    near, far = lab.host("near", on=internet), lab.host("far", on=internet)
    with (
        bound(lab.host("inside", on=home), 4000) as inside,
        bound(near, 5000) as friend,
        bound(near, 5001) as other_port,
        bound(far, 5000) as other_host,
    ):
        inside.sendto(b"hello", (near.address, 5000))
        _, mapped = friend.recvfrom(99)
        assert mapped[0] == home.router.address

        # Packets keep their order: what comes before the friend's was let in.
        other_port.sendto(b"other port", mapped)
        other_host.sendto(b"other host", mapped)
        friend.sendto(b"friend", mapped)
        got = list(iter(lambda: inside.recv(99), b"friend"))
        expected = [b"other port"] * lets_in_other_port + [b"other host"] * lets_in_other_host
        assert got == expected

        inside.sendto(b"hello", (far.address, 5000))
        _, again = other_host.recvfrom(99)
        assert (again == mapped) == keeps_port
        assert (mapped[1] == 4000) == keeps_port


def test_both_sides_punch_through_port_restricted_nat(lab: Lab) -> None:
    internet = lab.internet()
    lans = [
        lab.lan(name, "192.168.1.0/24", nat="port-restricted", behind=internet) for name in "ab"
    ]
    (to_a, to_b) = ((lan.router.address, 4000) for lan in lans if lan.router)
    with (
        bound(lab.host("in-a", on=lans[0]), 4000) as a,
        bound(lab.host("in-b", on=lans[1]), 4000) as b,
    ):
        a.sendto(b"dropped by b's router", to_b)
        b.sendto(b"through", to_a)
        assert a.recvfrom(99) == (b"through", to_b)
        a.sendto(b"back", to_b)
        assert b.recvfrom(99) == (b"back", to_a)


def test_nat_filters_ipv6_without_translating_it(lab: Lab) -> None:
    internet = lab.internet()
    home = lab.lan(
        "home", "192.168.1.0/24", cidr6="2001:db8:1::/64", nat="full-cone", behind=internet
    )
    inside, server = lab.host("inside", on=home), lab.host("server", on=internet)
    assert inside.address6
    assert server.address6
    assert not reaches(server, inside.address6)
    with (
        server.socket(SOCK_STREAM, AF_INET6) as listener,
        inside.socket(SOCK_STREAM, AF_INET6) as client,
    ):
        listener.bind((server.address6, 80))
        listener.listen()
        client.connect((server.address6, 80))
        assert client.getsockname()[0] == inside.address6


def bound(host: Host, port: int) -> socket:
    """A UDP socket of this process in the host's network."""
    made = host.socket()
    made.bind(("0.0.0.0", port))
    made.settimeout(patient(5))
    return made


# Tunnels


def test_a_real_tunnel_between_two_hosts(lab: Lab) -> None:
    internet = lab.internet()
    home = lab.lan("home", "192.168.1.0/24", nat="port-restricted", behind=internet)
    laptop, server = lab.host("laptop", on=home), lab.host("server", on=internet)
    keys = {host: host.run("wg", "genkey").stdout for host in (laptop, server)}
    public = {host: host.run("wg", "pubkey", input=keys[host]).stdout.strip() for host in keys}
    for host, inner, peer in ((laptop, "10.9.0.1", server), (server, "10.9.0.2", laptop)):
        host.run("wireguard-go", "wg0")
        endpoint = f"Endpoint = {peer.address}:51820" if peer is server else ""
        config = f"""
            [Interface]
            PrivateKey = {keys[host]}
            ListenPort = 51820
            [Peer]
            PublicKey = {public[peer]}
            AllowedIPs = 10.9.0.0/24
            {endpoint}
        """
        host.run("wg", "setconf", "wg0", "/dev/stdin", input=dedent(config))
        host.run("ip", "-batch", "-", input=f"addr add {inner}/24 dev wg0\nlink set wg0 up\n")
    laptop.run("ping", "-c1", "-W60", "10.9.0.2")
    assert "latest handshake" in server.run("wg", "show").stdout


# The whole


def test_sixty_hosts(lab: Lab) -> None:
    internet = lab.internet()
    hosts = [lab.host(f"host{number}", on=internet) for number in range(60)]
    for host in hosts[1:]:
        host.run(*PING, hosts[0].address)


def test_a_host_of_a_taken_name_is_refused(lab: Lab) -> None:
    lab.host("a")
    with pytest.raises(LabError, match="already"):
        lab.host("a")


def test_namespaces_that_cannot_be_made_are_an_error(lab: Lab) -> None:
    with pytest.raises(LabError, match="No such file"):
        lab._lifeline.hold(["--net"], "cat /no/such/file")


def test_poll_gives_the_value_or_says_what_never_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.lab.polling.SPARE_SECONDS", 0)
    values = iter(["", "", "value"])
    assert poll(lambda: next(values), 5, "value") == "value"
    with pytest.raises(TimeoutError, match=r"no rain within 0.03 s; last seen: \[\]"):
        poll(list, 0.01, "rain")


def test_nothing_shows_on_the_machine_even_while_it_runs(lab: Lab) -> None:
    def shown() -> list[str]:
        commands = (["ip", "-o", "link"], ["nft", "list", "ruleset"])
        return [Path("/proc/self/mountinfo").read_text()] + [
            subprocess.run(command, check=True, capture_output=True, text=True).stdout
            for command in commands
        ]

    before = shown()
    home = lab.lan("home", "192.168.1.0/24", nat="full-cone", behind=lab.internet())
    lab.host("a", on=home)
    assert shown() == before
    assert not list(Path("/run").glob("netns/*"))


def test_the_logs_of_hosts_are_in_the_report_of_a_failed_test(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "def test_it(lab):\n"
        "    lab.host('alpha').start('echo', 'what', 'went', 'wrong').wait_for('wrong')\n"
        "    assert False\n"
    )
    pytest_run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "tests.lab.plugin",
            f"--rootdir={tmp_path}",
            tmp_path,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "log alpha-1-echo.log" in pytest_run.stdout
    assert "what went wrong" in pytest_run.stdout


# The end. A lab runs inside a host of another lab: there, nobody else makes namespaces.

USER = """
import signal, sys
from tests.lab import Lab
with Lab() as lab:
    home = lab.lan("home", "192.168.1.0/24", nat="symmetric", behind=lab.internet())
    a = lab.host("a", on=home)
    a.run("wireguard-go", "wg0")
    a.start("sh", "-c", "while :; do echo x >>/var/log/busy; done")
    print("ready", flush=True)
    {ending}
"""


@pytest.mark.parametrize("ending", ["pass", "raise RuntimeError", "sys.exit(1)"])
def test_nothing_is_left_when_it_ends(lab: Lab, ending: str) -> None:
    machine = lab.host("machine")
    before = traces(machine)
    use_lab(machine, ending).wait()
    assert traces(machine) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_is_left_when_it_is_killed(lab: Lab, number: signal.Signals) -> None:
    machine = lab.host("machine")
    before = traces(machine)
    process = use_lab(machine, "signal.pause()")
    during = traces(machine)
    assert during["namespaces"] != before["namespaces"]
    assert during["files"] != before["files"]
    process.signal(number)
    process.wait()
    poll(lambda: traces(machine) == before, 10, "clean machine")


def use_lab(machine: Host, ending: str) -> Process:
    """Run a lab inside a host until it is built."""
    script = USER.format(ending=ending)
    process = machine.start(sys.executable, "-c", script, env={"PYTHONPATH": str(ROOT)})
    process.wait_for("ready")
    return process


def traces(machine: Host) -> dict[str, str]:
    """All that a lab could leave behind on a machine."""
    commands = {
        "files": "find /run /dev/shm | sort",
        "links": "ip -o link",
        "mounts": "cat /proc/self/mountinfo",
        "namespaces": "lsns --noheadings --output NS,TYPE",
        "processes": "for id in /proc/[0-9]*; do [ $id = /proc/1 ] || cat $id/comm || :; done",
        "rules": "nft list ruleset",
    }
    # Some of these fail when what they look at ends meanwhile.
    found = {
        what: machine.run("sh", "-c", command, check=False).stdout
        for what, command in commands.items()
    }
    return found | {"disk": "\n".join(sorted(map(str, machine.disk.written())))}
