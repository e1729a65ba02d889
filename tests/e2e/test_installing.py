"""From a machine with no Python package at all to a node, and back to no file at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.traces import traces
from tests.hostile.middlebox import Middlebox, change_a_byte
from tests.lab import Host
from tests.mesh import INTERFACE, PORT, Mesh, live_addresses

ROOT = Path(__file__).parents[2]
INSTALL_SH = str(ROOT / "install.sh")
PROGRAM = "/usr/local/bin/nmk"


def bare(mesh: Mesh, name: str) -> Host:
    """A machine that has Python, what nmk drives, and nothing of nmk's."""
    host = mesh.lab.host(name, on=mesh.internet, bare_python=True)
    assert host.run("python3", "-c", "import nacl", check=False).returncode == 1
    assert host.run("test", "-e", PROGRAM, check=False).returncode == 1
    return host


def line_to_paste(mesh: Mesh) -> str:
    """As `nmk key create` prints it."""
    told = mesh.controller.run("nmk", "key", "create", "-n", "home").stderr
    found = re.search(r"paste this line:\n\n(.+)\n\n", told)
    assert found, told
    return found[1]


def is_joined(mesh: Mesh, host: Host) -> bool:
    node = mesh.nodes().get(host.name)
    return node is not None and node["addresses"] == live_addresses(host)


@pytest.mark.parametrize("downloader", ["curl", "wget"])
def test_the_pasted_line(mesh: Mesh, downloader: str) -> None:
    host = bare(mesh, f"with-{downloader}")
    other = {"curl": "wget", "wget": "curl"}[downloader]
    host.run("rm", f"/usr/bin/{other}")
    before = traces(host, program=True)
    host.run("sh", "-c", line_to_paste(mesh))
    assert is_joined(mesh, host)
    host.run("nmk", "checkin")

    host.run("nmk", "uninstall", "--yes")
    assert traces(host, program=True) - before <= {"run /run/wireguard"}
    assert before <= traces(host, program=True)
    assert host.name not in mesh.nodes()


def test_options_may_follow_the_pasted_line(mesh: Mesh) -> None:
    host = bare(mesh, "dora")
    host.run("sh", "-c", f"{line_to_paste(mesh)} --name web --interface mesh0")
    assert mesh.nodes()["web"]["addresses"] == live_addresses(host, "mesh0")


@pytest.fixture
def middle(mesh: Mesh) -> Iterator[Host]:
    """Changes a byte of all that comes from the controller."""
    middle = mesh.lab.hosts.get("middle") or mesh.lab.host("middle", on=mesh.internet)
    with Middlebox(mesh.urls[0], change_a_byte, host=middle, port=PORT):
        yield middle


def test_a_changed_script_is_not_run(mesh: Mesh, middle: Host) -> None:
    host = bare(mesh, "emil")
    before = traces(host, program=True)
    url = f"http://{middle.address}:{PORT}"
    line = line_to_paste(mesh).replace(mesh.urls[0], url)
    refusal = host.run("sh", "-c", line, check=False)
    assert refusal.returncode == 1
    assert refusal.stderr.splitlines() == [
        f"nmk: {url}/install.sh has the wrong checksum",
        "  try: on the controller, for a new line: nmk key create",
    ]
    assert traces(host, program=True) == before


def test_a_changed_program_is_not_installed(mesh: Mesh, middle: Host) -> None:
    host = bare(mesh, "frida")
    script = mesh.controller.run("curl", "-fsS", f"{mesh.urls[0]}/install.sh").stdout
    host.write("/root/install.sh", script)
    before = traces(host, program=True)
    refusal = host.run(
        *("sh", "/root/install.sh", "join", "-"),
        input=mesh.token(),
        env={"NMK_SOURCE": f"http://{middle.address}:{PORT}"},
        check=False,
    )
    assert refusal.returncode == 1
    assert refusal.stderr == (
        "nmk: the file nmk is not the one that this script is for (its SHA-256 differs)\n"
        "  try: get install.sh and nmk from the same controller\n"
    )
    assert traces(host, program=True) == before


def test_a_refused_token_leaves_the_program_and_nothing_else(mesh: Mesh) -> None:
    host = bare(mesh, "gerd")
    before = traces(host)
    done = host.run("sh", INSTALL_SH, "join", "nmk1.no-token", check=False)
    assert done.returncode == 2
    assert "is no join token" in done.stderr or "damaged" in done.stderr
    assert traces(host) - before == {f"file {PROGRAM}"}
    host.run("sh", INSTALL_SH, "uninstall", "--yes")
    assert traces(host) == before


def test_install_sh_from_a_clone(mesh: Mesh) -> None:
    """A controller and a machine, each with the files of the repository."""
    server, host = bare(mesh, "server"), bare(mesh, "hans")
    before = {h.name: traces(h, program=True) for h in (server, host)}
    told = server.run("sh", INSTALL_SH, "server").stdout
    assert told == "next: nmk server   (starts the controller and says what to do then)\n"
    running = server.start("nmk", "server")
    server.run("nmk", "server", "wait")
    server.run("nmk", "network", "create", "lab")
    host.run("sh", INSTALL_SH, "join", server.run("nmk", "key", "create").stdout.strip())
    assert live_addresses(host, "nmk-lab")

    host.run("sh", INSTALL_SH, "uninstall", "--yes")
    running.terminate()
    assert running.wait() == 0
    kept = server.run("sh", INSTALL_SH, "uninstall", "--yes").stderr
    assert "the controller's data stays in /var/lib/nmk/server" in kept
    server.run("sh", INSTALL_SH, "server")
    server.run("nmk", "uninstall", "--yes", "--purge")
    for h in (server, host):
        assert traces(h, program=True) - before[h.name] <= {"run /run/wireguard"}


def test_uninstall_keeps_what_is_not_ours(mesh: Mesh) -> None:
    [ida] = mesh.members("ida")
    ida.write("/etc/nmk/home.toml", "mtu = 1400\n")
    ida.run("ip", "link", "add", "br9", "type", "bridge")
    shown = ida.run("nmk", "uninstall", "--yes", "--dry-run").stderr
    assert f"removing {PROGRAM}" in shown
    assert live_addresses(ida, INTERFACE)
    with mesh.stopped():
        ida.run("nmk", "uninstall", "--yes")
    assert ida.read("/etc/nmk/home.toml") == "mtu = 1400\n"
    assert ida.run("ls", "/sys/class/net").stdout.split() == ["br9", "eth0", "lo"]
    assert ida.run("test", "-e", PROGRAM, check=False).returncode == 1
