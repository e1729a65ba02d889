"""The controller, stopped anywhere in a commit or in its first start: nothing acknowledged is lost.

The signal hits whichever thread comes to the call first; it ends them all.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from nmk.errors import StoreUnavailable
from tests.lab import poll
from tests.reliability.killing import EFFECTS, Point, parse_trace, some_of
from tests.reliability.served import Agent, Served

Stopped = Callable[[int], None]
ATTACHED = "attached"
FILES = {"admin.key", "admin.sock", "controller.key", "lock", "nmk.db", "nmk.db-shm", "nmk.db-wal"}


def strace(*options: str) -> list[str]:
    return ["strace", "-f", "-e", f"trace={','.join(EFFECTS)}", "-e", "signal=none", *options]


def stop_at(point: Point) -> tuple[str, str]:
    return "-e", f"inject={point.name}:signal=KILL:when={point.number}"


@contextmanager
def watched(served: Served, *options: str) -> Iterator[None]:
    """strace on a controller that runs already."""
    log = served.data.parent / "strace.log"
    with log.open("wb") as said:
        tracer = subprocess.Popen(strace(*options, "-p", str(served.pid)), stderr=said)
    try:
        poll(lambda: ATTACHED in log.read_text(), 10, "strace at work")
        yield
    finally:
        tracer.terminate()
        tracer.wait()


def points_of(trace: str) -> list[Point]:
    """The points that any of the threads passed."""
    threads: dict[str, list[str]] = {}
    for line in trace.splitlines():
        thread, _, call = line.partition(" ")
        threads.setdefault(thread, []).append(call.lstrip())
    passed = [point for calls in threads.values() for point in parse_trace("\n".join(calls))]
    points = {(p.name, p.number): p for p in passed}
    return list(points.values())


def assert_sound(served: Served) -> None:
    """No address twice, no gap in the log, and a database that is whole."""
    nodes = served.nodes().values()
    addresses = [a for node in nodes for a in node["addresses"]]
    assert len(addresses) == len(set(addresses))
    with closing(sqlite3.connect(served.data / "nmk.db")) as database:
        log = database.execute("SELECT revision FROM changes WHERE network = 'home' ORDER BY 1")
        revisions = [revision for (revision,) in log]
        assert revisions == list(range(1, len(revisions) + 1))
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_commit(served: Served, tmp_path: Path, full: bool, stopped: Stopped) -> None:
    trace = tmp_path / "trace"
    with watched(served, "-o", str(trace)):
        Agent(served, served.token(), "traced").join()
    points = points_of(trace.read_text())
    assert {"pwrite64", "fsync"} & {point.name for point in points}
    known = served.nodes()
    chosen = points if full else some_of(points)
    for number, point in enumerate(chosen):
        agent = Agent(served, served.token(), f"host-{number}")
        with watched(served, *stop_at(point), "-o", "/dev/null"):
            acknowledged = agent.try_join()
            if acknowledged:
                served.kill()  # where it came no further than to the reply
            assert served.wait() == -signal.SIGKILL, point
        served.start()
        if acknowledged:
            assert agent.name in served.nodes(), point
        agent.join()
        assert served.uses(agent.token) == 1, point
        nodes = served.nodes()
        assert nodes.keys() == known.keys() | {agent.name}, point
        assert {n: nodes[n]["addresses"] for n in known} == {
            n: known[n]["addresses"] for n in known
        }
        assert_sound(served)
        known = nodes
    stopped(len(chosen))


def test_a_log_removed_under_it_is_told_and_sigterm_saves_what_it_has(tmp_path: Path) -> None:
    with Served(tmp_path) as served:
        served.call("POST", "/networks", {"name": "home", "cidrs": ["10.77.0.0/16"]})
        for log in ("nmk.db-wal", "nmk.db-shm"):
            (served.data / log).unlink()
        for _ in range(4):  # each of its threads
            with pytest.raises(StoreUnavailable, match=r"nmk\.db-wal.*not in its place") as refusal:
                served.call("POST", "/networks", {"name": "lost", "cidrs": ["10.78.0.0/16"]})
            assert "SIGTERM" in refusal.value.hint
        served.stop()
        served.start()
        assert [network["name"] for network in served.call_list("/networks")] == ["home"]
        assert "database-empty" not in (tmp_path / "server.log").read_text()


def test_what_was_acknowledged_just_after_a_start_outlives_its_log_and_a_kill(
    tmp_path: Path,
) -> None:
    log = tmp_path / "server.log"
    with Served(tmp_path) as served:
        served.call("POST", "/networks", {"name": "home", "cidrs": ["10.77.0.0/16"]})
        for removed in ("nmk.db-wal", "nmk.db-shm"):
            (served.data / removed).unlink()
        poll(lambda: "database-not-read" in log.read_text(), 10, "that it was noticed")
        for _ in range(4):  # each of its threads
            with pytest.raises(StoreUnavailable):
                served.call("POST", "/networks", {"name": "lost", "cidrs": ["10.78.0.0/16"]})
        served.kill()
        served.start()
        assert [network["name"] for network in served.call_list("/networks")] == ["home"]
        assert log.read_text().count("database-not-read") == 1
        assert_sound(served)


def test_what_a_first_start_made_is_in_the_file_when_it_says_that_it_has_started(
    tmp_path: Path,
) -> None:
    with Served(tmp_path) as served:
        made = served.call("GET", "/status")["epoch"]
        served.kill()
        (served.data / "nmk.db-wal").unlink()
        served.start()
        assert served.call("GET", "/status")["epoch"] == made


def test_a_database_that_lost_all_is_said_at_the_start(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    with Served(tmp_path) as served:
        assert "database-empty" not in log.read_text()
        served.stop()
        served.start()
        poll(lambda: "database-empty" in log.read_text(), 10, "the line")


def test_first_start(tmp_path: Path, full: bool, stopped: Stopped) -> None:
    trace = tmp_path / "trace"
    # -D: strace is the grandchild, so that the process we start is the controller.
    with Served(tmp_path, strace("-D", "-o", str(trace))):
        before, _, _ = trace.read_text().partition(" started ")
    points = points_of(before)
    chosen = points if full else some_of(points)
    for point in chosen:
        shutil.rmtree(tmp_path / "data")
        doomed = Served(tmp_path, strace("-D", "-o", "/dev/null", *stop_at(point)))
        with pytest.raises(AssertionError):
            doomed.start()
        assert doomed.wait() == -signal.SIGKILL, point
        with Served(tmp_path) as served:
            served.call("POST", "/networks", {"name": "home"})
            Agent(served, served.token(), "anna").join()
            assert_sound(served)
            assert {path.name for path in served.data.iterdir()} == FILES, point
    stopped(len(chosen))
