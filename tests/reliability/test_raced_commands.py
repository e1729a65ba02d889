"""Two runs of nmk on one machine at a time: the second one gives way, at once."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab import Host, Process, poll
from tests.mesh import PORT, Mesh, failure


@pytest.fixture
def anna(mesh: Mesh) -> Host:
    [anna] = mesh.members("anna")
    return anna


@contextmanager
def silent(server: Process) -> Iterator[None]:
    """A controller that takes connections and does not answer."""
    server.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        # nsenter has stopped together with the controller, and passes this on.
        server._process.send_signal(signal.SIGCONT)


def test_the_second_gives_way_and_the_first_works(mesh: Mesh, anna: Host) -> None:
    assert mesh.server
    with silent(mesh.server):
        first = anna.start("nmk", "checkin")
        asks = ("ss", "-Htn", "state", "established", f"( dport = :{PORT} )")
        poll(lambda: anna.run(*asks).stdout, 10, "check-in that waits for its answer")

        second = anna.run("nmk", "checkin", "--quiet", check=False)
        assert (second.returncode, second.stdout, second.stderr) == (75, "", "")
        for command in ("checkin", "down", "up", "leave"):
            told = failure(anna, command)
            assert told.exit_code == 75
            assert "another run of nmk is at work" in told.message
        assert first.running

    assert first.wait() == 0, first.output
    assert anna.run("nmk", "checkin", "--quiet").stderr == ""
