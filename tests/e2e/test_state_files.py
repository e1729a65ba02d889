"""The state directory and its files: volatile, full, read-only, damaged, from the future."""

from __future__ import annotations

import json

import pytest

from tests.lab import Host
from tests.mesh import INTERFACE, Failure, Mesh, failure, has_interface, reaches
from tests.tiers import sample

STATE = "/var/lib/nmk/home.json"
DAMAGED = "restore the file from a backup, or: nmk leave -n home --force; then join again"
ROOM = "make room or make it writable, or choose another place with NMK_STATE_DIR"


@pytest.fixture(scope="module")
def anna(mesh: Mesh) -> Host:
    anna, _ = mesh.members("anna", "bert")
    reaches(anna, mesh.address("bert"))
    return anna


def test_a_directory_that_does_not_last(mesh: Mesh) -> None:
    cleo = mesh.machine("cleo")
    elsewhere = {"NMK_STATE_DIR": "/run/nmk-state"}
    told = cleo.run("nmk", "join", "-", input=mesh.token(), env=elsewhere).stderr
    assert told.splitlines()[0] == (
        "warning: /run/nmk-state is on a tmpfs, so this machine will have forgotten the network "
        "after a reboot; set NMK_STATE_DIR to a directory that lasts"
    )
    cleo.run("nmk", "checkin", env=elsewhere)
    there = "as /var/lib/nmk has it, but in home in /run/nmk-state"
    assert failure(cleo, "checkin").message == f"this machine is in no network, {there}"
    cleo.run("nmk", "leave", env=elsewhere)
    assert cleo.run("test", "-e", "/run/nmk-state", check=False).returncode == 1


def test_no_warning_where_it_lasts(mesh: Mesh) -> None:
    dora = mesh.machine("dora")
    told = dora.run("nmk", "join", "-", input=mesh.token(), env={"NMK_STATE_DIR": "/srv/mesh"})
    assert "warning" not in told.stderr
    assert dora.run("stat", "-c", "%a", "/srv/mesh/home.json").stdout == "600\n"


@pytest.mark.parametrize(
    "content",
    sample(
        ["", "garbage", "{}", "[]", "null", '{"version": 1}', '{"version": "one"}', "\0" * 100],
        *("", "garbage"),
    ),
)
def test_garbage(mesh: Mesh, anna: Host, content: str) -> None:
    good = anna.read(STATE)
    anna.write(STATE, content, mode=0o600)
    for command in ("checkin", "up", "showconf", "leave"):
        refusal = failure(anna, command)
        assert (refusal.exit_code, refusal.hint) == (1, DAMAGED), command
        assert refusal.message.removeprefix("home: ").startswith(f"{STATE} is damaged: ")
    assert failure(anna, "join", "-", input=mesh.token()).hint == DAMAGED
    assert anna.read(STATE) == content
    assert has_interface(anna)
    anna.write(STATE, good, mode=0o600)
    anna.run("nmk", "checkin")


@pytest.mark.parametrize("share", sample([0.1, 0.5, 0.99], 0.5))
def test_truncated(mesh: Mesh, anna: Host, share: float) -> None:
    good = anna.read(STATE)
    anna.write(STATE, good[: int(len(good) * share)], mode=0o600)
    refusal = failure(anna, "checkin")
    assert (refusal.exit_code, refusal.hint) == (1, DAMAGED)
    reaches(anna, mesh.address("bert"))
    anna.write(STATE, good, mode=0o600)


def test_from_a_newer_nmk(mesh: Mesh, anna: Host) -> None:
    good = anna.read(STATE)
    anna.write(STATE, json.dumps({**json.loads(good), "version": 99, "new": {}}), mode=0o600)
    refusal = failure(anna, "checkin")
    message = f"home: {STATE} was written by a newer nmk (format 99, not 1)"
    assert refusal == Failure(1, message, "use that newer nmk")
    assert failure(anna, "leave").exit_code == 1
    reaches(anna, mesh.address("bert"))
    anna.write(STATE, good, mode=0o600)
    anna.run("nmk", "checkin")


def test_one_damaged_network_does_not_stop_the_others(mesh: Mesh, anna: Host) -> None:
    anna.write("/var/lib/nmk/a.json", "garbage")
    mesh.admin("network", "set", "home", "mtu=1350")
    done = anna.run("nmk", "checkin", check=False)
    assert done.returncode == 1
    assert "a.json is damaged" in done.stderr
    assert anna.read(f"/sys/class/net/{INTERFACE}/mtu") == "1350\n"
    anna.run("rm", "/var/lib/nmk/a.json")


def test_a_directory_that_cannot_be_written(mesh: Mesh) -> None:
    emil = mesh.machine("emil")
    emil.run("mkdir", "-p", "/var/lib/nmk")
    emil.run("mount", "-t", "tmpfs", "-o", "ro", "tmpfs", "/var/lib/nmk")
    refusal = failure(emil, "join", "-", input=mesh.token())
    message = f"{STATE} cannot be written: Read-only file system"
    assert refusal == Failure(1, message, ROOM)
    assert not has_interface(emil)
    assert "emil" not in mesh.nodes()


@pytest.mark.usefixtures("anna")  # and so bert is there
def test_a_full_directory(mesh: Mesh) -> None:
    state = "/srv/full"
    frida = mesh.machine("frida")
    frida.run("mkdir", state)
    frida.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", state)
    elsewhere = {"NMK_STATE_DIR": state}
    frida.run("nmk", "join", "-", input=mesh.token(), env=elsewhere)
    before = frida.read(f"{state}/home.json")
    frida.run("dd", "if=/dev/zero", f"of={state}/filler", check=False)
    mesh.admin("node", "set", "bert", "endpoint=198.51.100.5:5")
    refusal = failure(frida, "checkin", env=elsewhere)
    message = f"home: {state}/home.json cannot be written: No space left on device"
    assert refusal == Failure(1, message, ROOM)
    assert frida.read(f"{state}/home.json") == before
    assert has_interface(frida)
    assert ".tmp" not in frida.run("ls", "-A", state).stdout

    frida.run("rm", f"{state}/filler")
    frida.run("nmk", "checkin", env=elsewhere)
    assert "198.51.100.5:5" in frida.read(f"{state}/home.json")
