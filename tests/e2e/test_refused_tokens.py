"""Tokens that let nobody in, and leave no trace on the machine that tried."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from nmk.wire.token import encode_token, parse_token
from tests.e2e.traces import traces
from tests.lab import Host, poll
from tests.mesh import Failure, Mesh, failure
from tests.tiers import sample

PASTE_WHOLE = "paste the whole token that `nmk key create` printed on the controller"
NEW_KEY = "on the controller: nmk key create"


@pytest.fixture(scope="module")
def host(mesh: Mesh) -> Host:
    host = mesh.machine("anna")
    host.run("nmk", "version")
    return host


@pytest.fixture
def machine(mesh: Mesh, host: Host) -> Iterator[Host]:
    """A machine that is as it was after it has been refused, and no node."""
    before, nodes = traces(host, program=True), list(mesh.nodes())
    yield host
    assert traces(host, program=True) == before
    assert list(mesh.nodes()) == nodes


@pytest.mark.parametrize(
    ("token", "message"),
    sample(
        [
            ("hello", "'hello' is no join token"),
            ("nmk2.AAAABBBBCCCC", "'nmk2.AAAABBB...' is no join token"),
            ("nmk1.Zm9v!", "'nmk1.Zm9v!' is no join token"),
            ("nmk1.AAAABBBBCCCC", "'nmk1.AAAABBB...' is damaged or cut off"),
            ("\0", r"'\x00' is no join token"),
        ],
        "hello",
        "nmk1.AAAABBBBCCCC",
    ),
)
def test_malformed(machine: Host, token: str, message: str) -> None:
    assert failure(machine, "join", "-", input=token) == Failure(2, message, PASTE_WHOLE)


def test_none_at_all(machine: Host) -> None:
    hint = "nmk join -   (paste the token, then Ctrl-D)"
    assert failure(machine, "join") == Failure(2, "there is no join token", hint)


def test_truncated(mesh: Mesh, machine: Host) -> None:
    token = mesh.token()
    for length in (40, len(token) - 1):
        refusal = failure(machine, "join", "-", input=token[:length])
        assert refusal == Failure(2, f"'{token[:12]}...' is damaged or cut off", PASTE_WHOLE)


def test_a_letter_mistyped(mesh: Mesh, machine: Host) -> None:
    token = mesh.token()
    changed = token[:30] + ("A" if token[30] != "A" else "B") + token[31:]
    refusal = failure(machine, "join", "-", input=changed)
    assert refusal == Failure(2, f"'{token[:12]}...' is damaged or cut off", PASTE_WHOLE)


def test_revoked(mesh: Mesh, machine: Host) -> None:
    key = mesh.json("key", "create", "-n", "home")
    mesh.admin("key", "delete", key["id"])
    refusal = failure(machine, "join", "-", input=key["token"])
    assert refusal == Failure(1, "the access key was revoked", NEW_KEY)


def test_expired(mesh: Mesh, machine: Host) -> None:
    key = mesh.json("key", "create", "-n", "home", "--expires", "1s")
    poll(lambda: mesh.json("key", "show", key["id"])["state"] == "expired", 10, "end of its time")
    refusal = failure(machine, "join", "-", input=key["token"])
    assert refusal == Failure(1, "the access key has expired", NEW_KEY)


def test_used_up(mesh: Mesh, host: Host) -> None:
    token = mesh.token("--uses", "1")
    mesh.join(mesh.machine("bert"), token=token)
    before = traces(host)
    refusal = failure(host, "join", "-", input=token)
    assert refusal == Failure(1, "the access key has been used 1 of 1 times", NEW_KEY)
    assert traces(host) == before


def test_made_up(mesh: Mesh, machine: Host) -> None:
    made_up = encode_token(replace(parse_token(mesh.token()), secret=bytes(32)))
    refusal = failure(machine, "join", "-", input=made_up)
    assert refusal == Failure(1, "the access key is not one of this network's", NEW_KEY)
