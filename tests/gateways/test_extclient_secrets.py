"""The private keys of ext clients are in their configs and nowhere else, whoever looks."""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from dataclasses import dataclass
from hashlib import sha256

import pytest

from nmk.wire.envelope import Identity
from tests.gateways.phone import (
    Wiretap,
    check_in,
    files_below,
    forms,
    keys_in,
    make_ingress,
    memory_of,
    unsealed,
)
from tests.lab import Host
from tests.mesh import Mesh

DATA = "/var/lib/nmk/server"
STATE = "/var/lib/nmk/home.json"
KEY = b64encode(sha256(b"nobody's").digest()).decode()
HANDED_OUT = "/root/clients"
COUNT, SAMPLE = 50, 8  # each way
# New clients, half of them to files and half to standard output, and a few that rotate.
SCRIPT = f"""
mkdir {HANDED_OUT}
export NMK_SERVER=http://127.0.0.1:8081 NMK_API_KEY=$(cat {DATA}/admin.key)
for n in $(seq $COUNT); do
    nmk extclient create file-$n --config-file {HANDED_OUT}/$n.conf
    nmk extclient create json-$n -o json >{HANDED_OUT}/$n.json
done
nmk extclient create picture --qr-file {HANDED_OUT}/picture.png --config-file {HANDED_OUT}/qr.conf
nmk extclient create plain >{HANDED_OUT}/plain.conf
nmk extclient rotate file-1 >{HANDED_OUT}/rotated.conf
nmk extclient rotate json-1 -o json >{HANDED_OUT}/rotated.json
"""


@dataclass(frozen=True)
class Seen:
    """All that others than the owners of the devices get to see, after all of that.

    `raw`: a public key as nothing but bytes, that must be in what the wire carried.
    """

    private: list[str]
    public: list[str]
    places: dict[str, bytes]


@pytest.fixture(scope="module")
def gate(mesh: Mesh) -> Host:
    """The ingress gateway."""
    return make_ingress(mesh, mesh.join(mesh.machine("gate")))


@pytest.fixture(scope="module")
def count(pytestconfig: pytest.Config) -> int:
    return COUNT if pytestconfig.getoption("full") else SAMPLE


@pytest.fixture(scope="module")
def seen(mesh: Mesh, gate: Host, count: int) -> Seen:
    controller = mesh.controller
    wires = {"admin API": Wiretap(controller, "lo"), "node API": Wiretap(controller, "eth0")}
    told = controller.run("sh", "-euc", SCRIPT, env={"COUNT": str(count)}, timeout=600).stderr
    check_in(gate)
    private = []
    for content in files_below(controller, HANDED_OUT).values():
        private += re.findall(r"PrivateKey = ([\w+/]{43}=)", content.decode("utf-8", "replace"))
    streams = {name: wire.stop() for name, wire in wires.items()}
    assert mesh.server
    places = {name: b"\0".join(said) for name, said in streams.items()}
    key = controller.read(f"{DATA}/controller.key")
    opened = unsealed(streams["node API"], key)
    places |= files_below(controller, DATA) | {
        "told": told.encode(),
        "log": mesh.server.output.encode(),
        "opened": b"\0".join(opened),
        "memory": memory_of(mesh.server),
        "gateway's state": gate.read(STATE).encode(),
    }
    return Seen(private, [c["public_key"] for c in mesh.json("extclient", "list")], places)


@pytest.mark.usefixtures("full")
def test_there_are_a_hundred_clients_with_keys_of_their_own(seen: Seen, count: int) -> None:
    assert len(seen.public) == len(set(seen.public)) == 2 * count + 2
    assert len(seen.private) == len(set(seen.private)) == 2 * count + 4


def test_no_private_key_is_anywhere(seen: Seen) -> None:
    assert keys_in(seen.private, seen.places) == {}


def test_the_same_search_finds_what_must_be_there(mesh: Mesh, gate: Host, seen: Seen) -> None:
    """Or else the one above would prove nothing."""
    found = keys_in(seen.public, seen.places)
    for place in ("memory", "admin API", "gateway's state"):
        assert found[place] == set(seen.public)
    # What comes last is in the second alone, and all of it where that was not full yet.
    assert found.get("nmk.db", set()) | found["nmk.db-wal"] == set(seen.public)
    # Keys that are there as bytes: the controller's own, and a node's name on each of its messages.
    own = bytes.fromhex(mesh.controller.read(f"{DATA}/controller.key"))
    found = keys_in([b64encode(own).decode()], seen.places)
    assert set(found) == {"memory", "controller.key"}
    assert own in seen.places["memory"]
    identity = Identity.from_secret(b64decode(json.loads(gate.read(STATE))["identity"])).public
    found = keys_in([b64encode(identity).decode()], seen.places)
    assert {"memory", "node API"} <= set(found)
    assert identity in seen.places["node API"]


@pytest.mark.parametrize("form", sorted(forms(KEY)), ids=["HEX", "hex", "base64", "raw"])
def test_every_form_of_a_key_would_be_found(form: bytes, seen: Seen) -> None:
    around = seen.places["memory"][:100_000]
    hidden = {"memory": around + form + around, "log": seen.places["log"]}
    assert keys_in([KEY], hidden) == {"memory": {KEY}}
