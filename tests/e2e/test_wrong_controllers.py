"""Nobody at the controller's address, or somebody else: the mesh stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from nmk.wire.token import encode_token, parse_token
from tests.e2e.traces import traces
from tests.hostile import middlebox
from tests.hostile.middlebox import Meddle, Middlebox
from tests.lab import Host
from tests.mesh import PORT, Failure, Mesh, failure, live_addresses, reaches
from tests.tiers import sample

STATE = "/var/lib/nmk/home.json"
LEFT = {
    *(f"file {STATE}", "file /var/lib/nmk", "file /var/lib/nmk/lock"),
    *(
        "run /run/nmk",
        "run /run/nmk/home.health",
        "run /run/nmk/home.laid",
        "run /run/nmk/instance",
    ),
}
NO_PROXY = "is that URL nmk's node API, with no proxy page before it?"
IS_IT_RUNNING = "is `nmk server` running there, and its port open?"
JOIN_ANEW = "join with a token of the controller that now answers there"
LEAVE = (
    "look who answers there, and put controller.key back on the controller's host; only where "
    "that controller is gone for good, as with the membership a kill switch goes: "
    f"nmk leave -n home --force, then {JOIN_ANEW}"
)


class Middle:
    """A host that machines take for the controller."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.url = f"http://{host.address}:{PORT}"

    @contextmanager
    def behaves(self, meddle: Meddle, upstream: str) -> Iterator[None]:
        with Middlebox(upstream, meddle, host=self.host, port=PORT):
            yield


@pytest.fixture(scope="module")
def middle(mesh: Mesh) -> Middle:
    return Middle(mesh.lab.host("middle", on=mesh.internet))


@pytest.fixture(scope="module")
def token(mesh: Mesh, middle: Middle) -> str:
    """Leads to the middle, and nowhere else."""
    return encode_token(replace(parse_token(mesh.token("--uses", "9")), urls=(middle.url,)))


@pytest.fixture(scope="module")
def anna(mesh: Mesh, middle: Middle, token: str) -> Host:
    """A node that knows its controller by the middle."""
    [bert] = mesh.members("bert")
    with middle.behaves(middlebox.pass_on, mesh.urls[0]):
        anna = mesh.join(mesh.machine("anna"), token=token)
    bert.run("nmk", "checkin")
    return anna


@pytest.fixture(scope="module")
def stranger(mesh: Mesh) -> Host:
    """A machine that tries to join."""
    return mesh.machine("cleo")


@pytest.fixture(scope="module")
def other(mesh: Mesh) -> str:
    """Another controller's URL."""
    other = mesh.machine("other")
    other.start("nmk", "server")
    other.run("nmk", "server", "wait")
    other.run("nmk", "network", "create", "home")
    return f"http://{other.address}:{PORT}"


def state_of(anna: Host) -> object:
    """All that it keeps, but for how its check-ins went."""
    return {k: v for k, v in json.loads(anna.read(STATE)).items() if k != "health"}


@contextmanager
def unharmed(mesh: Mesh, anna: Host) -> Iterator[None]:
    before, state = traces(anna), state_of(anna)
    yield
    assert traces(anna) == before
    assert state_of(anna) == state
    reaches(anna, mesh.address("bert"))


def refusals(anna: Host, stranger: Host, token: str) -> list[Failure]:
    """Of a check-in, and of a join, which leaves an identity to try again with, and why."""
    before = traces(stranger)
    found = [failure(anna, "checkin"), failure(stranger, "join", "-", input=token)]
    assert traces(stranger) - before <= LEFT
    return found


def test_nobody_there(mesh: Mesh, anna: Host, stranger: Host, middle: Middle, token: str) -> None:
    message = f"cannot reach {middle.url}: Connection refused"
    with unharmed(mesh, anna):
        assert refusals(anna, stranger, token) == [
            Failure(75, f"home: {message}", IS_IT_RUNNING),
            Failure(75, message, IS_IT_RUNNING),
        ]


def test_no_way_there(mesh: Mesh, anna: Host, stranger: Host, middle: Middle, token: str) -> None:
    for host in (anna, stranger):
        host.run("ip", "route", "add", "unreachable", middle.host.address)
    message = f"cannot reach {middle.url}: No route to host"
    with unharmed(mesh, anna):
        assert refusals(anna, stranger, token) == [
            Failure(75, f"home: {message}", IS_IT_RUNNING),
            Failure(75, message, IS_IT_RUNNING),
        ]
    for host in (anna, stranger):
        host.run("ip", "route", "delete", "unreachable", middle.host.address)


def test_another_controller_there(
    mesh: Mesh, anna: Host, stranger: Host, middle: Middle, token: str, other: str
) -> None:
    ending = "another controller answers there"
    with middle.behaves(middlebox.pass_on, other), unharmed(mesh, anna):
        assert refusals(anna, stranger, token) == [
            Failure(
                1,
                f"home: the controller at {middle.url} does not know the key in {STATE}: {ending}",
                LEAVE,
            ),
            Failure(
                1,
                f"the controller at {middle.url} does not know the key in the join token: {ending}",
                JOIN_ANEW,
            ),
        ]


@pytest.mark.parametrize(
    ("meddle", "message"),
    sample(
        [
            (middlebox.reflect, "{url} sent no reply to us: "),
            (middlebox.change_a_byte, "{url} sent no reply to us: "),
            (middlebox.login_page, "{url} sent no reply to us: "),
            (middlebox.not_found, "{url} answers with HTTP status 404"),
            (middlebox.no_http, "{url} answers with no HTTP: "),
            (middlebox.without_end, "{url} sent no reply to us: "),
        ],
        middlebox.change_a_byte,
        middlebox.not_found,
        middlebox.without_end,
    ),
)
def test_something_else_there(
    mesh: Mesh,
    anna: Host,
    stranger: Host,
    middle: Middle,
    token: str,
    meddle: Meddle,
    message: str,
) -> None:
    message = message.format(url=middle.url)
    with middle.behaves(meddle, mesh.urls[0]), unharmed(mesh, anna):
        for refusal in refusals(anna, stranger, token):
            assert (refusal.exit_code, refusal.hint) == (75, NO_PROXY)
            assert refusal.message.removeprefix("home: ").startswith(message)


def test_the_right_one_at_last(
    mesh: Mesh, anna: Host, stranger: Host, middle: Middle, token: str
) -> None:
    with middle.behaves(middlebox.pass_on, mesh.urls[0]):
        anna.run("nmk", "checkin")
        mesh.join(stranger, token=token)
        anna.run("nmk", "checkin")
    for address in live_addresses(stranger):
        reaches(anna, address)
