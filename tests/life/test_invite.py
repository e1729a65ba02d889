"""`nmk invite`: machines are let in over a real ssh, and no secret shows up on the way."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.lab import Host, Lab, poll
from tests.life.packages import fetch, unpack
from tests.mesh import Mesh, reaches

KEY = "/root/.ssh/id_ed25519"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key"
TRACE = "/root/trace"
UNSEEN = "to trust it unseen: nmk invite --accept-new -n home "
STRACE = ("strace", "-f", "-s", "4096", "-e", "trace=execve,write", "-o", TRACE)
TOKEN = re.compile(r"nmk1\.[A-Za-z0-9_-]{40,}")
OTHER_PYTHON = """\
#!/bin/sh
[ "$1" != -I ] || shift
[ "$1" != -c ] || exec {python} "$@"
exec {python} -c '
import _imp, runpy, sys
_imp.extension_suffixes = lambda: [".cpython-310-aarch64-linux-gnu.so"]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$@"
"""


@pytest.fixture(scope="module", autouse=True)
def archives() -> tuple[str, ...]:
    """Packages that hosts need; autouse comes before the first host is made."""
    return fetch("openssh-server", "sudo", "cron")


@pytest.fixture(scope="module")
def mesh(module_lab: Lab) -> Mesh:
    made = Mesh(module_lab)
    made.stop()
    made.start("--admin-listen", "*:8081")
    return made


@pytest.fixture(scope="module")
def desk(mesh: Mesh) -> Host:
    """An admin's machine, with a key for ssh."""
    desk = mesh.machine("desk")
    desk.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", KEY)
    return desk


@pytest.fixture(scope="module")
def servers(mesh: Mesh, desk: Host, archives: tuple[str, ...]) -> dict[str, Host]:
    """Machines that the admin may enter: web as root, nas as ada and bob; only ada has sudo."""
    hosts = {name: mesh.lab.host(name, on=mesh.internet) for name in ("web", "nas")}
    web, nas = hosts["web"], hosts["nas"]
    for host in hosts.values():
        unpack(host, archives)
    nas.run("useradd", "--create-home", "ada")
    nas.run("useradd", "--create-home", "bob")
    nas.write("/etc/sudoers.d/ada", "ada ALL=(ALL) NOPASSWD: ALL\n", mode=0o440)
    nas.start("cron", "-f")
    known = [serve_ssh(web, desk, "/root", before=STRACE)]
    known += [serve_ssh(nas, desk, "/home/ada", "/home/bob")]
    desk.write("/root/.ssh/known_hosts", "".join(known))
    return hosts


def serve_ssh(host: Host, desk: Host, *homes: str, before: tuple[str, ...] = ()) -> str:
    """Start sshd, which lets the admin in; the line for known_hosts."""
    if host.run("id", "sshd", check=False).returncode:  # else the machine's own sshd made it
        host.run("useradd", "--system", "--home-dir", "/run/sshd", "sshd")
    host.run("install", "-d", "/run/sshd")
    host.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", HOST_KEY)
    for home in homes:
        host.write(f"{home}/.ssh/authorized_keys", desk.read(f"{KEY}.pub"))
    config = "/usr/share/openssh/sshd_config"
    host.start(*before, "/usr/sbin/sshd", "-D", "-e", "-h", HOST_KEY, "-f", config)
    poll(lambda: host.run("ss", "-Hlt", "sport = 22").stdout, 10, "sshd")
    return f"{host.address} {host.read(f'{HOST_KEY}.pub')}"


def invite(mesh: Mesh, desk: Host, *words: str, before: tuple[str, ...] = ()) -> Any:
    """What the command did: as of subprocess.run."""
    env = {
        "NMK_SERVER": f"http://{mesh.controller.address}:8081",
        "NMK_API_KEY": mesh.controller.read("/var/lib/nmk/server/admin.key").strip(),
    }
    return desk.run(*before, "nmk", "invite", *words, check=False, env=env)


@pytest.fixture(scope="module")
def invited(mesh: Mesh, desk: Host, servers: dict[str, Host]) -> Any:
    """How it went that web and nas were let in."""
    machines = (f"root@{servers['web'].address}", f"ada@{servers['nas'].address}")
    return invite(mesh, desk, *machines, "-n", "home", "-o", "json", before=STRACE)


def traced(host: Host) -> list[str]:
    return host.read(TRACE).splitlines()


def test_machines_join_and_no_secret_is_in_a_process_list(
    mesh: Mesh, desk: Host, servers: dict[str, Host], invited: Any
) -> None:
    web, nas = servers["web"], servers["nas"]
    machines = (f"root@{web.address}", f"ada@{nas.address}")
    assert invited.returncode == 0, invited.stderr
    rows = json.loads(invited.stdout)
    assert [(r["machine"], r["state"], r["node"]) for r in rows] == [
        (machines[0], "joined", "web"),
        (machines[1], "joined", "nas"),
    ]
    assert [r["kept_by"] for r in rows] == [None, "cron"]  # only nas has a cron that runs
    assert rows[0]["addresses"] == mesh.nodes()["web"]["addresses"]
    for host in (web, nas):
        host.run("nmk", "checkin")
    reaches(web, mesh.address("nas"))

    steps = [line for line in invited.stderr.splitlines() if line.startswith(machines[0])]
    assert steps[0] == f"{machines[0]}: connecting"
    assert f"{machines[0]}: nmk: installed /usr/local/bin/nmk" in steps
    assert f"{machines[0]}: joined as web" in steps
    assert "Done:" not in invited.stderr

    for host in (desk, web):
        calls = [line for line in traced(host) if "execve(" in line]
        written = [line for line in traced(host) if "write(" in line]
        tokens = {token for line in written for token in TOKEN.findall(line)}
        assert len(tokens) == 1  # so it would have been seen
        assert [line for line in calls if "ssh" in line or "join" in line]
        assert not [line for line in calls if TOKEN.search(line)]
    assert mesh.json("key", "list", "-n", "home") == []
    for host in (web, nas):
        assert host.run("find", "/tmp", "-name", "nmk-invite.*").stdout == ""


@pytest.mark.usefixtures("invited")
def test_one_that_fails_does_not_stop_the_others_and_says_what_to_do(
    mesh: Mesh, desk: Host, servers: dict[str, Host]
) -> None:
    web, nas = servers["web"], servers["nas"]
    python = web.run("readlink", "-f", "/usr/bin/python3").stdout.strip()
    web.write("/usr/bin/python3", OTHER_PYTHON.format(python=python), mode=0o755)
    machines = (
        f"root@{web.address6}",
        f"bob@{nas.address}",
        f"eve@{nas.address}",
        f"root@{mesh.controller.address}",
        f"root@{web.address}",
        f"ada@{nas.address}",
    )
    done = invite(mesh, desk, *machines, "-n", "home", "-o", "json")
    assert done.returncode == 1
    rows = json.loads(done.stdout)
    assert [row["state"] for row in rows] == ["failed"] * 5 + ["joined"], done.stderr
    problems = [(row["problem"], row["hint"]) for row in rows[:5]]
    assert problems[0] == (
        "its host key is not known here",
        f"ssh {machines[0]}   (compare the key, say yes), then again; " + UNSEEN + machines[0],
    )
    assert problems[1][0] == "sudo: a password is required"
    assert "Permission denied" in problems[2][0]
    assert problems[2][1] == f"ssh-copy-id {machines[2]}"
    assert "Connection refused" in problems[3][0]
    assert problems[4][0].endswith("this is Python 3.10 on aarch64 (glibc)")
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    assert [t["error"] for t in told] == ["command-failed"] * 5
    assert mesh.json("key", "list", "-n", "home") == []
    assert rows[-1]["node"] == "nas"  # as before: inviting again does no harm
    assert sorted(mesh.nodes()) == ["nas", "web"]


def test_a_dry_run_shows_and_does_nothing(mesh: Mesh, desk: Host) -> None:
    done = invite(
        mesh, desk, "root@nowhere", "-n", "home", "--ssh-option", "Port=2222", "--dry-run"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("[#] ssh ")
    assert "-o Port=2222 -o BatchMode=yes" in done.stdout
    assert "StrictHostKeyChecking" not in done.stdout
    assert not TOKEN.search(done.stdout)
    assert mesh.json("key", "list", "-n", "home") == []
    assert invite(mesh, desk, "-oProxyCommand=x", "-n", "home").returncode == 2
    assert invite(mesh, desk, "root@x", "-n", "nothing").returncode == 1


def test_on_the_controllers_host_it_needs_no_key(mesh: Mesh) -> None:
    done = mesh.controller.run("nmk", "invite", "root@127.0.0.1", check=False)
    assert done.returncode == 1
    assert "Connection refused" in done.stderr
