"""Machines on which nmk cannot do its work say so, and are left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.traces import traces
from tests.lab import Host
from tests.mesh import INTERFACE, Failure, Mesh, failure, has_interface, reaches
from tests.tiers import sample

TO_TRY_AGAIN = {
    *(f"file /var/lib/nmk{name}" for name in ("", "/home.json", "/home.log", "/lock")),
    "file /var/lib/nmk/home.kill-switch",
    *("run /run/nmk", "run /run/nmk/home.laid", "run /run/nmk/instance"),
}
AS_NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")


@pytest.fixture(scope="module")
def member(mesh: Mesh) -> Host:
    """A node that works."""
    anna, _ = mesh.members("anna", "bert")
    return anna


@pytest.fixture(scope="module")
def stranger(mesh: Mesh) -> Host:
    host = mesh.machine("cleo")
    host.run("nmk", "version")
    return host


@pytest.fixture(scope="module")
def token(mesh: Mesh) -> str:
    return mesh.token("--uses", "9")


@contextmanager
def untouched(host: Host, *, identity: bool = False) -> Iterator[None]:
    """Nothing is left of what is tried; `identity`: but that, and why it failed."""
    before = traces(host)
    yield
    assert traces(host) - before <= (TO_TRY_AGAIN if identity else set())
    assert before <= traces(host)


@contextmanager
def without(host: Host, *programs: str) -> Iterator[None]:
    """Programs are not installed."""
    paths = host.run("which", "-a", *programs).stdout.split()
    files = {host.run("readlink", "-f", path).stdout.strip() for path in paths}
    for file in files:
        host.run("mount", "-n", "--bind", "/dev/null", file)
    yield
    for file in files:
        host.run("umount", "-n", file)


# Programs


@pytest.mark.parametrize(
    ("program", "package"), [("wg", "wireguard-tools"), ("ip", "iproute2")], ids=["wg", "ip"]
)
def test_a_program_is_missing(
    mesh: Mesh, stranger: Host, member: Host, token: str, program: str, package: str
) -> None:
    missing = Failure(1, f"the program '{program}' is not installed", f"apt-get install {package}")
    with untouched(stranger), without(stranger, program):
        assert failure(stranger, "join", "-", input=token) == missing
    with without(member, program):
        prefixed = missing._replace(message=f"home: {missing.message}")
        assert failure(member, "checkin") == prefixed
    member.run("nmk", "checkin")
    reaches(member, mesh.address("bert"))


def test_no_wireguard_at_all(stranger: Host, token: str) -> None:
    kernel = stranger.run("ip", "link", "add", "probe", "type", "wireguard", check=False)
    if kernel.returncode == 0:
        stranger.run("ip", "link", "delete", "probe")
        pytest.skip("this machine's kernel has WireGuard")
    with untouched(stranger, identity=True), without(stranger, "wireguard-go"):
        refusal = failure(stranger, "join", "-", input=token)
    assert refusal.exit_code == 1
    assert refusal.message.startswith("no WireGuard in the kernel (")
    assert refusal.message.endswith("), and none installed beside it")
    assert refusal.hint == "apt-get install wireguard-go"


# Names and ports


def test_an_interface_of_that_name(stranger: Host, token: str) -> None:
    stranger.run("ip", "link", "add", INTERFACE, "type", "bridge")
    with untouched(stranger, identity=True):
        assert failure(stranger, "join", "-", input=token) == Failure(
            1,
            f"there is an interface '{INTERFACE}', and nmk did not make it",
            "choose another with --interface",
        )
    stranger.run("ip", "link", "delete", INTERFACE)


def test_another_interface_in_our_place(mesh: Mesh, member: Host) -> None:
    member.run("ip", "link", "delete", INTERFACE)
    member.run("ip", "link", "add", INTERFACE, "type", "bridge")
    with untouched(member):
        refusal = failure(member, "checkin")
    assert refusal.exit_code == 1
    assert f"the interface '{INTERFACE}' is no WireGuard interface" in refusal.message
    assert "not ours" in member.run("nmk", "status").stdout
    member.run("ip", "link", "delete", INTERFACE)
    member.run("nmk", "checkin")
    reaches(member, mesh.address("bert"))


def test_a_port_that_is_taken(stranger: Host, token: str) -> None:
    with stranger.socket() as other, untouched(stranger, identity=True):
        other.bind(("", 40000))
        assert failure(stranger, "join", "-", "--listen-port", "40000", input=token) == Failure(
            1, "UDP port 40000 is in use", "leave --listen-port out and the next free one is taken"
        )


# Rights


@pytest.mark.parametrize(
    "command",
    sample(
        ["join -", "checkin", "leave", "up", "down", "status", "showconf", "uninstall"],
        *("join -", "status"),
    ),
)
def test_not_root(stranger: Host, token: str, command: str) -> None:
    done = stranger.run(
        *(*AS_NOBODY, "nmk", *command.split()),
        input=token,
        env={"HOME": "/tmp"},
        check=False,
    )
    name = command.partition(" ")[0]
    sudo = stranger.run("sh", "-c", "command -v sudo", check=False).returncode == 0
    how = "with sudo" if sudo else "as root"
    expected = f"nmk: `nmk {name}` needs root\n  try: run it again {how}\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_what_everybody_may(mesh: Mesh, stranger: Host) -> None:
    for command in (["version"], ["--help"], ["join", "--help"]):
        stranger.run(*AS_NOBODY, "nmk", *command, env={"HOME": "/tmp"})
    refusal = mesh.controller.run(
        *(*AS_NOBODY, "nmk", "network", "list"), env={"HOME": "/tmp"}, check=False
    )
    assert refusal.returncode == 1
    assert "is for root only" in refusal.stderr


def test_it_works_in_the_end(mesh: Mesh, stranger: Host, token: str) -> None:
    mesh.join(stranger, token=token)
    assert has_interface(stranger)
    assert "cleo" in mesh.nodes()
