"""No secret where other users of a machine, or readers of a log, could see it."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode

import pytest

from nmk.wire.token import parse_token
from tests.lab import Host
from tests.mesh import Mesh

TRACE = "/root/trace"
STRACE = ("strace", "-f", "-v", "-s", "100000", "-e", "trace=execve", "-o", TRACE)
OWN = re.compile(r'execve\("[^"]*/(nmk|python3)"')  # its environment is what the owner gave it
DRIVEN = re.compile(r'execve\("[^"]*/(wg|ip)", .* = 0$')
STATE = "/var/lib/nmk/home.json"
DATA = "/var/lib/nmk/server"
KEY_FILES = ("controller.key", "admin.key")


def forms(secret: bytes) -> set[str]:
    """Every way a secret might be written."""
    encoded = {b64encode(secret).decode(), urlsafe_b64encode(secret).decode()}
    return {secret.hex(), *(text.rstrip("=") for text in encoded)}


def secrets_of(host: Host, token: str) -> set[str]:
    """What nobody else may know."""
    state = json.loads(host.read(STATE))
    return {token, state["identity"], state["private_key"]} | forms(parse_token(token).secret)


@pytest.mark.parametrize(
    ("name", "joining"), [("anna", "nmk join -"), ("bert", "NMK_JOIN_TOKEN=$(cat) nmk join")]
)
def test_no_secret_in_what_programs_are_given(mesh: Mesh, name: str, joining: str) -> None:
    host, token = mesh.machine(name), mesh.token()
    script = f"{joining} && nmk checkin && nmk down && nmk up && nmk down"
    host.run(*STRACE, "sh", "-c", script, input=token)
    started = [line for line in host.read(TRACE).splitlines() if not OWN.search(line)]
    assert {name for line in started for name in DRIVEN.findall(line)} == {"wg", "ip"}
    for secret in secrets_of(host, token):
        assert not [line for line in started if secret in line]


def test_files_are_for_root_only(mesh: Mesh) -> None:
    [cleo] = mesh.members("cleo")
    assert cleo.run("stat", "-c", "%a %U", STATE).stdout == "600 root\n"
    modes = mesh.controller.run("sh", "-c", f"cd {DATA}; stat -c '%a %n' . *").stdout.split("\n")
    assert "700 ." in modes
    for name in (*KEY_FILES, "admin.sock"):
        assert f"600 {name}" in modes


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_in_the_controllers_log(mesh: Mesh, log_format: str) -> None:
    mesh.stop()
    mesh.start("--log-format", log_format)
    assert mesh.server
    token = mesh.token()
    host = mesh.join(mesh.machine(f"dora-{log_format}"), token=token)
    mesh.admin("node", "set", host.name, "endpoint=198.51.100.9:9")
    host.run("nmk", "checkin")
    log = mesh.server.output
    events = [line for line in log.splitlines() if "joined" in line]
    assert len(events) == 1
    if log_format == "json":
        assert json.loads(events[0])["node"] == host.name
    keys = [mesh.controller.read(f"{DATA}/{name}").strip() for name in KEY_FILES]
    for secret in secrets_of(host, token).union(keys):
        assert secret not in log


def test_the_database_has_only_the_hash_of_a_keys_secret(mesh: Mesh) -> None:
    for form in forms(parse_token(mesh.token()).secret):
        found = mesh.controller.run("grep", "-rlaiF", "-e", form, DATA, check=False)
        assert found.stdout == ""
