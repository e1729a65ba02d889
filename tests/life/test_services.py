"""`nmk service` with real managers in hosts of the lab: systemd, OpenRC, and none at all."""

from __future__ import annotations

import json
import re

import pytest

from nmk.core.units import ROLES
from tests.lab import Host, Lab, poll
from tests.life.packages import fetch, unpack
from tests.life.systemd import booted, prepare
from tests.mesh import Mesh, failure, has_interface, live_addresses, reaches

LOWEST_SCORE = {"agent": 3.2, "server": 2.2}  # of 10, which is no protection at all

# As after a boot; rc-status makes the directories that openrc keeps its state in.
PREPARE_OPENRC = """\
mkdir -p /etc/runlevels/default /run/openrc
>/run/openrc/softlevel
rc-status --all
"""


@pytest.fixture(scope="module", autouse=True)
def archives() -> tuple[str, ...]:
    """Packages that hosts need; autouse comes before the first host is made."""
    return fetch("systemd", "openrc")


@pytest.fixture(scope="module")
def mesh(module_lab: Lab) -> Mesh:
    return Mesh(module_lab, settings=("interval=5",))


def service_status(host: Host, role: str = "agent") -> tuple[str | None, bool, bool]:
    [row] = json.loads(host.run("nmk", "service", "status", role, "-o", "json").stdout)
    return row["manager"], row["installed"], row["active"]


def userspace(host: Host) -> str:
    return host.run("pgrep", "--full", "wireguard-go nmk-home", check=False).stdout


def test_the_units_are_sound_and_hardened(mesh: Mesh, archives: tuple[str, ...]) -> None:
    host = mesh.machine("checker")
    unpack(host, archives)
    host.run("mkdir", "-p", "/run/systemd/system")
    for role in ROLES:
        shown = host.run("nmk", "service", "install", role, "--dry-run").stderr
        unit = f"/root/nmk-{role}.service"
        host.write(unit, shown[shown.index("[Unit]") :])
        assert host.run("systemd-analyze", "verify", "--man=no", unit).stderr == ""
        scored = host.run("systemd-analyze", "security", "--offline=yes", unit).stdout
        [score] = re.findall(r"exposure level for .*: ([\d.]+)", scored)
        assert float(score) <= LOWEST_SCORE[role]


def test_the_hardened_unit_may_do_what_gateways_need(mesh: Mesh, archives: tuple[str, ...]) -> None:
    door = mesh.machine("door")
    unpack(door, archives)
    prepare(door)
    lan = mesh.lab.lan("office", "192.168.50.0/24")
    door.attach(lan)
    desk = mesh.lab.host("desk", on=lan)
    door.run("iptables", "-P", "FORWARD", "DROP")
    for rule in ("-N DOCKER-USER", "-A FORWARD -j DOCKER-USER"):
        door.run("iptables", *rule.split())
    with booted(door) as system:
        system.run("nmk", "join", "-", typed=mesh.token())
        mesh.admin("gateway", "add", "door", "egress", str(lan.subnets[0]))
        mesh.admin("gateway", "add", "door", "exit")
        user = mesh.join(mesh.machine("user"))
        user.run("nmk", "checkin")
        reaches(user, desk.address)  # as soon as the unit has checked in
        log = system.run("systemctl", "status", "nmk-agent", check=False).stdout
        assert "cannot" not in log
        door.run("nmk", "leave")
    assert "nmk-home" not in door.run("iptables", "-S").stdout
    user.run("nmk", "leave")


def test_systemd_keeps_a_machine_in_the_mesh(mesh: Mesh, archives: tuple[str, ...]) -> None:
    web = mesh.machine("web")
    unpack(web, archives)
    prepare(web)
    with booted(web) as system:
        system.run("nmk", "join", "-", typed=mesh.token())
        assert system.run("systemctl", "is-active", "nmk-agent").stdout == "active\n"
        assert system.show("nmk-agent", "WatchdogUSec") == "3min"
        assert system.run("nmk", "service", "status", "agent").stdout.split()[-4:-1] == [
            "systemd",
            "yes",
            "yes",
        ]
        late = mesh.join(mesh.machine("late"))
        reaches(web, mesh.address("late"))  # learnt by the agent

        process = userspace(web)
        system.run("systemctl", "restart", "nmk-agent")
        system.run("systemctl", "reload", "nmk-agent")
        assert userspace(web) == process
        web.run("ip", "link", "delete", "dev", "nmk-home")
        poll(lambda: has_interface(web), 20, "interface made by the unit")
        assert system.show("nmk-agent", "NRestarts") == "0"

    with mesh.stopped():
        web.reboot()
        with booted(web) as system:
            poll(lambda: has_interface(web), 20, "interface after a reboot with no controller")
            reaches(web, live_addresses(late)[0])
            system.run("nmk", "service", "remove")
            assert userspace(web)
            assert system.run("systemctl", "is-active", "nmk-agent", check=False).returncode
            assert "nmk" not in web.run("ls", "-R", "/etc/systemd/system").stdout


def test_systemd_runs_a_controller_with_its_data_where_the_owner_wants_it(
    mesh: Mesh, archives: tuple[str, ...]
) -> None:
    host = mesh.machine("second")
    unpack(host, archives)
    prepare(host)
    host.write("/etc/nmk/server.toml", 'data-dir = "/srv/mesh data"\n')
    with booted(host) as system:
        system.run("nmk", "service", "install", "server")
        assert system.run("systemctl", "is-active", "nmk-server").stdout == "active\n"
        token = host.run(
            "sh", "-euc", "nmk network create home >&2; exec nmk key create",
            env={"NMK_SERVER": "unix:///srv/mesh data/admin.sock"},
        ).stdout  # fmt: skip
        mesh.join(mesh.machine("guest"), token=token)
        assert host.run("stat", "-c", "%a", "/srv/mesh data/nmk.db").stdout == "600\n"


def test_openrc_keeps_a_machine_in_the_mesh(mesh: Mesh, archives: tuple[str, ...]) -> None:
    nas = mesh.machine("nas")
    unpack(nas, archives)
    nas.run("sh", "-euc", PREPARE_OPENRC)
    mesh.join(nas)
    assert service_status(nas) == ("openrc", True, True)
    assert nas.run("sh", "-n", "/etc/init.d/nmk-agent").stderr == ""
    assert nas.run("ls", "/etc/runlevels/default").stdout == "nmk-agent\n"
    newest = mesh.join(mesh.machine("newest"))
    reaches(nas, live_addresses(newest)[0])

    process = userspace(nas)
    nas.run("rc-service", "nmk-agent", "reload")
    nas.run("rc-service", "nmk-agent", "restart")
    assert userspace(nas) == process
    assert "keeping this machine in: home" in nas.read("/var/log/nmk-agent.log")
    nas.run("nmk", "service", "remove")
    assert service_status(nas) == ("openrc", False, False)
    assert nas.run("ls", "/etc/runlevels/default").stdout == ""
    assert nas.run("pgrep", "--full", "nmk agent", check=False).stdout == ""
    assert userspace(nas)


def test_a_machine_with_nothing_is_told_what_to_start(mesh: Mesh) -> None:
    bare = mesh.machine("bare")
    bare.run("rm", "-f", "/usr/sbin/cron", "/usr/sbin/crond", "/usr/local/sbin/crond")
    mesh.join(bare)
    done = bare.run("nmk", "service", "install", check=False)
    assert done.returncode == 1
    assert "have this machine start `/usr/local/bin/nmk agent`" in done.stderr
    assert "cron" not in done.stderr.partition("try:")[2]
    assert failure(bare, "service", "install", "server")[:2] == (
        1,
        "this machine has no systemd or OpenRC that nmk knows",
    )
    assert service_status(bare) == (None, False, False)
    assert bare.run("nmk", "service", "remove").stderr == (
        "the agent is not started with this machine\n"
    )


def test_a_busybox_crond_does_not_read_the_table_that_nmk_would_write(mesh: Mesh) -> None:
    router = mesh.machine("router")
    router.run("rm", "-f", "/usr/sbin/cron")
    router.run("ln", "-s", "/bin/busybox", "/usr/local/sbin/crond")
    assert service_status(router) == (None, False, False)
