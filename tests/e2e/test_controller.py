"""The controller as its owner sees it: starts, stops, what it keeps, and where it says it is."""

from __future__ import annotations

import json
import signal

import pytest

from nmk.wire.token import parse_token
from tests.lab import Host
from tests.mesh import PORT, Mesh, failure, reaches

DATA = "/var/lib/nmk/server"
LOOK_AT_STATE = ("stat", "-c", "%y %i", "/var/lib/nmk/home.json")
FIRST_START = f"""\
made a new key and database in {DATA}
  open TCP port {PORT}: every machine must reach it
  next, in another terminal: nmk network create home
"""


def everything(mesh: Mesh) -> dict[str, object]:
    """All that an admin sees, but for when machines were heard of."""
    shown = {noun: mesh.json(noun, "list", "-n", "home") for noun in ("node", "key")}
    for node in shown["node"]:
        del node["last_seen"], node["check_in"], node["state"]
    return {
        **shown,
        "network": mesh.json("network", "list"),
        "status": mesh.json("server", "status"),
    }


def test_a_restart_keeps_everything(mesh: Mesh) -> None:
    anna, bert = mesh.members("anna", "bert")
    mesh.admin("network", "set", "home", "mtu=1380")
    mesh.admin("node", "set", "bert", "endpoint=198.51.100.5:5")
    token = mesh.token("--uses", "3")
    anna.run("nmk", "checkin")
    before, file = everything(mesh), anna.run(*LOOK_AT_STATE).stdout
    with mesh.stopped():
        assert failure(mesh.controller, "node", "list", "-n", "home").exit_code == 75
    assert everything(mesh) == before
    anna.run("nmk", "checkin")
    assert anna.run(*LOOK_AT_STATE).stdout == file
    cleo = mesh.join(mesh.machine("cleo"), token=token)
    bert.run("nmk", "checkin")
    reaches(cleo, mesh.address("bert"))


def test_it_tells_what_to_do_at_its_first_start(mesh: Mesh) -> None:
    logs = mesh.lab.logs()
    first, *later = [text for name, text in logs.items() if name.startswith("controller-")]
    assert FIRST_START in first
    assert not [text for text in later if "made a new key" in text]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(mesh: Mesh, number: signal.Signals) -> None:
    server = mesh.server
    assert server
    server.signal(number)
    assert server.wait() == 0
    assert server.output.splitlines()[-1].endswith(" stopped")
    assert "Traceback" not in server.output
    mesh.start()


def test_a_killed_one_starts_again(mesh: Mesh) -> None:
    assert mesh.server
    before = everything(mesh)
    mesh.server.kill()
    mesh.server.wait()
    mesh.start()
    assert everything(mesh) == before


def test_two_on_one_directory(mesh: Mesh) -> None:
    refusal = failure(mesh.controller, "server", "--listen", "*:50052", "--admin-listen", "off")
    assert refusal.exit_code == 75
    assert refusal.message.startswith(f"another controller runs on {DATA} (nmk server, process ")


def test_a_port_that_another_program_has(mesh: Mesh) -> None:
    refusal = failure(mesh.controller, "server", "--data-dir", "/srv/second")
    assert refusal[:2] == (1, f"cannot listen on 0.0.0.0 port {PORT}: Address already in use")


def test_waiting_for_one_that_never_comes(mesh: Mesh) -> None:
    nowhere = ("--server", "unix:///run/none.sock")
    refusal = failure(mesh.controller, "server", "wait", "--timeout", "0.1", *nowhere)
    assert refusal.exit_code == 75
    assert "no controller answered at unix:///run/none.sock" in refusal.message


def test_its_health(mesh: Mesh) -> None:
    stranger = mesh.lab.host("stranger", on=mesh.internet)
    for url in mesh.urls:
        assert stranger.run("curl", "-gfsS", f"{url}/healthz").stdout == "ok\n"
    assert (
        stranger.run(
            "curl", "-fsS", f"http://{mesh.controller.address}:8081/healthz", check=False
        ).returncode
        != 0
    )


def test_the_admin_api_over_tcp_wants_its_key(mesh: Mesh) -> None:
    over_tcp = {"NMK_SERVER": "http://127.0.0.1:8081"}
    refusal = failure(mesh.controller, "network", "list", env=over_tcp)
    assert (refusal.exit_code, "admin.key" in refusal.hint) == (1, True)
    key = mesh.controller.read(f"{DATA}/admin.key").strip()
    listed = mesh.controller.run(
        "nmk", "network", "list", "-o", "name", env={**over_tcp, "NMK_API_KEY": key}
    )
    assert listed.stdout == "home\n"


# Where machines reach it


def urls_of(host: Host) -> tuple[tuple[str, ...], str]:
    """The URLs in a new token, and what was said along with it."""
    made = host.run("nmk", "key", "create", "-n", "home")
    return parse_token(made.stdout).urls, made.stderr


def test_every_address_of_the_host_is_in_a_token(mesh: Mesh) -> None:
    assert urls_of(mesh.controller)[0] == mesh.urls


def test_public_urls_are_in_a_token_instead(mesh: Mesh) -> None:
    public = ("http://mesh.example.org:8000", "https://198.51.100.1")
    mesh.stop()
    mesh.start("--public-url", public[0], "--public-url", public[1])
    urls, told = urls_of(mesh.controller)
    mesh.stop()
    mesh.start()
    assert urls == public
    assert "note:" not in told
    assert f"- {public[0]} " in told  # the line to paste


def test_private_addresses_are_told_about(mesh: Mesh) -> None:
    nas = mesh.machine("nas", mesh.lab.lan("flat", "192.168.1.0/24"))
    nas.start("nmk", "server")
    nas.run("nmk", "server", "wait")
    nas.run("nmk", "network", "create", "home")
    urls, told = urls_of(nas)
    assert urls == (f"http://{nas.address}:{PORT}",)
    assert (
        f"note: only machines in the same local networks can join, the token leads to {urls[0]}\n"
        "  for others: start the controller with --public-url http://ADDRESS:50051\n"
    ) in told


def test_options_from_file_and_environment(mesh: Mesh) -> None:
    mesh.stop()
    mesh.controller.write(
        "/etc/nmk/server.toml", 'log-format = "json"\npublic-url = ["http://a:1"]\n'
    )
    mesh.start()
    assert mesh.server
    assert json.loads(mesh.server.output.splitlines()[0])["event"] == "started"
    assert urls_of(mesh.controller)[0] == ("http://a:1",)
    mesh.stop()
    mesh.controller.run("rm", "/etc/nmk/server.toml")
    mesh.start()
