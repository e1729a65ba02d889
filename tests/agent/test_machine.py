"""The machine's commands in hosts of the lab, against a controller in another one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab import Host, Lab, Network, Process
from tests.mesh import install_cron

NMK = (sys.executable, "-m", "nmk.cli.main")
SOURCE = str(Path(__file__).parents[2])
STATE = "/var/lib/nmk/home.json"


class Place:
    """A lab with a controller, the network `home`, and as many machines as are asked for."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.internet: Network = lab.internet()
        self.controller = lab.host("controller", on=self.internet)
        self.start()
        self.admin("network", "create", "home", "10.77.0.0/24")

    def start(self) -> None:
        self.server: Process = self.controller.start(*NMK, "server", env={"PYTHONPATH": SOURCE})
        self.admin("server", "wait")

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """No controller until the end of the block."""
        self.server.terminate()
        assert self.server.wait() == 0
        try:
            yield
        finally:
            self.start()

    def admin(self, *command: str) -> str:
        done = nmk(self.controller, *command)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def nodes(self) -> dict[str, Any]:
        return {n["name"]: n for n in json.loads(self.admin("node", "list", "-o", "json"))}

    def token(self) -> str:
        return self.admin("key", "create", "-n", "home").strip()

    def machine(self, name: str) -> Host:
        return self.lab.host(name, on=self.internet)

    def member(self, name: str) -> Host:
        host = self.machine(name)
        assert nmk(host, "join", self.token()).returncode == 0
        return host


def nmk(
    host: Host, *command: str, stdin: str | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    """Run nmk in a host, however it ends."""
    return host.run(*NMK, *command, check=False, input=stdin, env={"PYTHONPATH": SOURCE, **env})


def interfaces(host: Host) -> list[str]:
    return [link["ifname"] for link in json.loads(host.run("ip", "-j", "link").stdout)]


def state_of(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.read(STATE))
    return found


def test_a_join_says_what_it_does_and_what_comes_next(place: Place) -> None:
    host = place.machine("talks")
    install_cron(host)
    done = nmk(host, "join", "-", stdin=place.token())
    assert done.returncode == 0
    assert done.stdout == ""
    for said in (
        "asking http://",
        "home has it as talks (10.77.0.",
        "nmk-home is up",
        "nmk service install agent",
        "nmk status",
    ):
        assert said in done.stderr


def test_a_quiet_join_says_nothing(place: Place) -> None:
    host = place.machine("silent")
    host.write("/root/token", place.token())
    done = nmk(host, "join", "--quiet", "--token-file", "/root/token")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_dry_join_changes_nothing(place: Place) -> None:
    host = place.machine("dry")
    token = place.token()
    done = nmk(host, "join", token, "--dry-run", "--interface", "mesh0")
    assert done.returncode == 0
    assert "[#] wg syncconf mesh0 /dev/stdin < (stdin)\n" in done.stdout
    assert "mesh0" not in interfaces(host)
    assert host.run("ls", "/var/lib/nmk", check=False).returncode != 0
    assert "dry" not in place.nodes()
    assert nmk(host, "join", token).returncode == 0


def test_an_unchanged_check_in_touches_nothing(place: Place) -> None:
    host = place.member("idle")
    nmk(host, "checkin")
    before = host.run("stat", "-c", "%i %Y %Z", STATE).stdout
    done = nmk(host, "checkin", "-v")
    assert done.returncode == 0
    assert "[#]" not in done.stderr
    assert host.run("stat", "-c", "%i %Y %Z", STATE).stdout == before


def test_joined_already(place: Place) -> None:
    host = place.member("twice")
    before = state_of(host)["identity"]
    host.run("ip", "link", "delete", "nmk-home")
    done = nmk(host, "join", place.token())
    assert done.returncode == 0
    assert "in home already, as twice" in done.stderr
    assert "nmk-home" in interfaces(host)
    assert state_of(host)["identity"] == before


def test_a_failed_join_leaves_the_identity_and_nothing_else(place: Place) -> None:
    host = place.machine("unlucky")
    token = place.token()
    host.write(
        "/usr/local/sbin/ip",
        '#!/bin/sh\ncase "$*" in *-batch*) echo no luck >&2; exit 3;; esac\nexec /sbin/ip "$@"\n',
        mode=0o755,
    )
    done = nmk(host, "join", token)
    assert done.returncode == 1
    assert "nmk: 'ip -force -batch -' ended with 3: no luck\n" in done.stderr
    assert "nmk-home" not in interfaces(host)
    assert host.run("ls", "/var/run/wireguard").stdout == ""
    before = state_of(host)
    assert nmk(host, "checkin").returncode == 1

    host.run("rm", "/usr/local/sbin/ip")
    assert nmk(host, "join", token).returncode == 0
    after = state_of(host)
    assert after["identity"] == before["identity"]
    assert [name for name in place.nodes() if name.startswith("unlucky")] == ["unlucky"]


def test_what_a_killed_join_left_is_taken_over(place: Place) -> None:
    """Killed after the interface was made and before that was noted."""
    host = place.member("killed")
    before = state_of(host)
    host.write(STATE, json.dumps(before | {"phase": "joining", "known": None, "reported": None}))
    assert nmk(host, "join", place.token(), "--interface", "other0").returncode == 0
    assert interfaces(host) == ["lo", "eth0", "other0"]
    assert state_of(host)["identity"] == before["identity"]
    assert [name for name in place.nodes() if name.startswith("killed")] == ["killed"]


def test_a_refusal_under_seal_ends_the_identity(place: Place) -> None:
    host = place.machine("second")
    token = place.token()
    assert nmk(place.machine("first"), "join", token).returncode == 0
    done = nmk(host, "join", token)
    assert done.returncode == 1
    assert "has been used 1 of 1 times" in done.stderr
    assert host.run("ls", "/var/lib/nmk", check=False).returncode != 0


def test_a_deleted_node_stops_and_can_join_anew(place: Place) -> None:
    host = place.member("doomed")
    old = state_of(host)["identity"]
    place.admin("node", "delete", "doomed", "--yes")
    for _ in range(2):
        done = nmk(host, "checkin")
        assert done.returncode == 1
        assert "was deleted on the controller" in done.stderr
        assert "nmk-home" not in interfaces(host)
    assert nmk(host, "up").returncode == 1
    assert nmk(host, "join", place.token()).returncode == 0
    assert state_of(host)["identity"] != old


def test_down_stays_down_until_up(place: Place) -> None:
    host = place.member("sleeper")
    for command in ("down", "checkin", "checkin"):
        assert nmk(host, command).returncode == 0
        assert "nmk-home" not in interfaces(host)
    assert "down until: nmk up" in nmk(host, "status").stdout
    assert nmk(host, "up").returncode == 0
    assert "nmk-home" in interfaces(host)


def test_an_address_changed_by_an_admin_is_changed_in_place(place: Place) -> None:
    host = place.member("mover")
    index = json.loads(host.run("ip", "-j", "link", "show", "nmk-home").stdout)[0]["ifindex"]
    place.admin("node", "set", "mover", "address=10.77.0.200")
    nmk(host, "checkin")
    [link] = json.loads(host.run("ip", "-j", "-4", "addr", "show", "nmk-home").stdout)
    assert [a["local"] for a in link["addr_info"]] == ["10.77.0.200"]
    assert link["ifindex"] == index


def test_the_owners_settings_win(place: Place) -> None:
    host = place.machine("own")
    host.write("/etc/nmk/home.toml", "mtu = 1300\nlisten-port = 55555\n")
    assert nmk(host, "join", place.token(), NMK_KEEPALIVE="0").returncode == 0
    [link] = json.loads(host.run("ip", "-j", "link", "show", "nmk-home").stdout)
    assert link["mtu"] == 1300
    assert host.run("wg", "show", "nmk-home", "listen-port").stdout == "55555\n"
    assert place.nodes()["own"]["listen_port"] == 55555
    nmk(host, "checkin", NMK_MTU="1350")
    assert "mtu 1350" in host.run("ip", "link", "show", "nmk-home").stdout


def test_leaving_leaves_no_trace(place: Place) -> None:
    host = place.machine("guest")
    look = "ip -br addr; ip route; ls -A /var/lib /etc /run; ls -A /run/wireguard 2>/dev/null"
    host.run("mkdir", "-p", "/run/wireguard")  # wireguard-go makes it and leaves it
    before = host.run("sh", "-c", look).stdout
    assert nmk(host, "join", place.token()).returncode == 0
    assert nmk(host, "leave").returncode == 0
    assert host.run("sh", "-c", look).stdout == before
    assert "guest" not in place.nodes()
    assert nmk(host, "leave").returncode == 1


def test_without_the_controller(place: Place) -> None:
    other, host, late = place.member("nearby"), place.member("alone"), place.machine("late")
    nmk(other, "checkin")
    token = place.token()
    with place.stopped():
        again = nmk(host, "join", token)
        assert again.returncode == 0
        assert "the mesh works on without the controller" in again.stderr

        host.reboot()
        done = nmk(host, "checkin")
        assert done.returncode == 75
        assert "Connection refused" in done.stderr
        [address] = state_of(other)["known"]["view"]["self"]["addresses"]
        host.run("ping", "-c1", "-W60", address)

        status = nmk(host, "status")
        assert "does not answer; the mesh works without it" in status.stdout
        assert "nearby" in status.stdout

        refused = nmk(host, "leave")
        assert refused.returncode == 75
        assert "nmk leave -n home --force" in refused.stderr
        assert "nmk-home" in interfaces(host)
        assert nmk(host, "leave", "--force").returncode == 0
        assert "nmk-home" not in interfaces(host)

        assert nmk(late, "join", token).returncode == 75
        identity = state_of(late)["identity"]
    assert nmk(late, "join", token).returncode == 0
    assert state_of(late)["identity"] == identity


def test_uninstall_leaves_and_cleans_up(place: Place) -> None:
    host = place.member("goner")
    host.run("mkdir", "-p", "/etc/cron.d", "/var/cache/nmk/build", "/var/lib/nmk/server")
    host.run("touch", "/etc/cron.d/nmk")
    assert nmk(host, "uninstall").returncode == 2  # nobody is there to answer
    assert nmk(host, "uninstall", "--yes", "--dry-run").returncode == 0
    assert "nmk-home" in interfaces(host)
    done = nmk(host, "uninstall", "--yes")
    assert done.returncode == 0
    assert "the controller's data stays in /var/lib/nmk/server" in done.stderr
    assert "nmk-home" not in interfaces(host)
    assert "goner" not in place.nodes()
    left = host.run("ls", "-d", "/etc/cron.d/nmk", "/var/cache/nmk", STATE, check=False)
    assert left.stdout == ""


# Bad input


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "there is no join token"),
        ("hello", "'hello' is no join token"),
        ("nmk1.AAAA", "'nmk1.AAAA' is damaged or cut off"),
    ],
)
def test_a_bad_token(place: Place, token: str, message: str) -> None:
    done = nmk(place.controller, "join", *([token] if token else []))
    assert done.returncode == 2
    assert done.stderr.startswith(f"nmk: {message}\n  try: ")


def test_a_failing_tool_keeps_what_worked(place: Place) -> None:
    host = place.member("sick")
    place.member("healthy")
    host.write(
        "/usr/local/sbin/wg",
        '#!/bin/sh\ncase $1 in addconf) echo "no room" >&2; exit 1;; esac\nexec /usr/bin/wg "$@"\n',
        mode=0o755,
    )
    done = nmk(host, "checkin")
    assert done.returncode == 1
    assert "'wg addconf nmk-home /dev/stdin' ended with 1: no room" in done.stderr
    assert "nmk-home" in interfaces(host)
    host.run("rm", "/usr/local/sbin/wg")
    assert nmk(host, "checkin").returncode == 0
    assert "healthy" in nmk(host, "status").stdout


def test_the_interfaces_name_is_taken(place: Place) -> None:
    host = place.machine("crowded")
    host.run("ip", "link", "add", "nmk-home", "type", "bridge")
    done = nmk(host, "join", place.token())
    assert done.returncode == 1
    assert "there is an interface 'nmk-home', and nmk did not make it" in done.stderr
    assert "nmk-home" in interfaces(host)
    assert nmk(host, "join", place.token(), "--interface", "mesh0").returncode == 0
    assert "mesh0" in interfaces(host)


def test_an_interface_of_somebody_elses_in_our_place(place: Place) -> None:
    host = place.member("usurped")
    host.run("ip", "link", "delete", "nmk-home")
    host.run("ip", "link", "add", "nmk-home", "type", "bridge")
    for command in ("checkin", "up"):
        done = nmk(host, command)
        assert done.returncode == 1
        assert "'nmk-home' is no WireGuard interface" in done.stderr
    assert "not ours" in nmk(host, "status").stdout
    assert nmk(host, "leave").returncode == 0
    assert "nmk-home" in interfaces(host)


def test_the_port_is_taken(place: Place) -> None:
    host = place.machine("busy")
    holder = host.start(
        sys.executable,
        "-c",
        "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); "
        "s.bind(('0.0.0.0', 51821)); print('bound', flush=True); time.sleep(600)",
    )
    holder.wait_for("bound", 10)
    done = nmk(host, "join", place.token(), "--listen-port", "51821")
    assert done.returncode == 1
    assert "UDP port 51821 is in use" in done.stderr
    assert nmk(host, "join", place.token()).returncode == 0
    assert host.run("wg", "show", "nmk-home", "listen-port").stdout == "51822\n"


def test_a_state_directory_that_does_not_last(place: Place) -> None:
    host = place.machine("forgetful")
    done = nmk(host, "join", place.token(), NMK_STATE_DIR="/run/state")
    assert done.returncode == 0
    assert "warning: /run/state is on a tmpfs" in done.stderr
    assert "NMK_STATE_DIR" in done.stderr


@pytest.mark.full  # tests/e2e/test_state_files.py has it, and more
def test_a_state_file_cut_off_or_from_the_future(place: Place) -> None:
    host = place.member("damaged")
    content = host.read(STATE)
    for text, message in (
        (content[:100], f"{STATE} is damaged: "),
        ("", f"{STATE} is damaged: "),
        (json.dumps({"version": 99}), f"{STATE} was written by a newer nmk (format 99, not 1)"),
    ):
        host.write(STATE, text)
        for command in ("checkin", "up", "leave", "showconf"):
            done = nmk(host, command)
            assert done.returncode == 1
            assert message in done.stderr
        assert message in nmk(host, "status").stdout
        assert host.read(STATE) == text


def test_a_network_of_the_same_name_at_another_controller(place: Place) -> None:
    host = place.member("loyal")
    other = place.lab.host("other-controller", on=place.internet)
    other.start(*NMK, "server", env={"PYTHONPATH": SOURCE})
    nmk(other, "server", "wait")
    nmk(other, "network", "create", "home")
    token = nmk(other, "key", "create").stdout
    done = nmk(host, "join", "-", stdin=token)
    assert done.returncode == 1
    assert "'home' of another controller" in done.stderr


def test_another_controller_behind_the_same_address(place: Place) -> None:
    host = place.member("watchful")
    state = state_of(host)
    host.write(STATE, json.dumps(state | {"controller_key": state["identity"]}))
    done = nmk(host, "checkin")
    assert done.returncode == 1
    assert f"does not know the key in {STATE}: another controller answers there" in done.stderr
    first, _, last = done.stderr.partition("only where that controller is gone for good")
    assert "controller.key" in first
    assert "--force" not in first
    assert "nmk leave -n home --force, then join" in last
    assert "nmk-home" in interfaces(host)


def test_two_runs_at_once(place: Place) -> None:
    host = place.member("busybody")
    holder = host.start("flock", "/var/lib/nmk/lock", "sh", "-c", "echo held; exec sleep 600")
    holder.wait_for("held", 10)
    done = nmk(host, "checkin")
    assert done.returncode == 75
    assert "another run of nmk is at work" in done.stderr
