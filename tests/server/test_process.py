"""The controller as a process: starting, stopping, and what stands in its way."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from nmk.errors import NmkError, StoreUnavailable, StoreUnusable
from nmk.server.datadir import DataDir
from tests.engines.plugin import MakeDatabase
from tests.lab.polling import patient, poll
from tests.server.process import Controller, clean_environment, started


def run(controller: Controller, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start the controller where it cannot run; how it ends."""
    return subprocess.run(
        controller.command(*more),
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(20),
    )


@pytest.fixture
def stopped(tmp_path: Path, make_database: MakeDatabase) -> Controller:
    """A controller that has never been started."""
    data = tmp_path / "data"
    return Controller(data, make_database(data / "nmk.db"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(controller: Controller, number: int) -> None:
    controller.stop(number)
    assert [e["event"] for e in controller.events()] == ["started", "stopped"]
    assert not controller.socket.exists()
    waited = controller.nmk("server", "wait", "--timeout", "0")
    assert waited.returncode == 75


def test_it_stops_in_the_midst_of_many_requests(controller: Controller) -> None:
    with hammering(lambda: controller.agent_call("GET", "/healthz")) as answers:
        poll(lambda: len(answers) > 50, 30, "answers")
        controller.stop()


def test_a_log_that_nobody_reads_holds_up_nobody(stopped: Controller) -> None:
    """A pipe that is full; what was left out is counted once it is read again."""
    os.mkfifo(stopped.log_file)
    reader = os.open(stopped.log_file, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(reader, "rb") as log:
        writer = os.open(stopped.log_file, os.O_WRONLY | os.O_NONBLOCK)
        with os.fdopen(writer, "wb", buffering=0) as full:
            while full.write(b"\n" * 4096):
                pass
        stopped.start()
        for number in range(3):
            done = stopped.nmk("network", "create", f"n{number}", f"10.9{number}.0.0/16")
            assert done.returncode == 0, done.stderr
        log.read()
        assert stopped.nmk("network", "create", "last", "10.99.0.0/16").returncode == 0
        told, created = [json.loads(line) for line in log.read().splitlines()]
    assert (told["event"], told["lines"]) == ("log-left-out", 4)
    assert created["event"] == "network-created"
    stopped.kill()


@contextmanager
def hammering(call: Callable[[], object]) -> Iterator[list[object]]:
    """The answers to calls that several threads make until the end of the block."""
    answers: list[object] = []
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                answers.append(call())
            except OSError:
                over.wait(0.01)
            except Exception:  # noqa: BLE001  # half an answer, of a server that has stopped
                continue

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_many_requests_make_no_more_threads(controller: Controller) -> None:
    """One socket for agents, and for admins two: a file and a port."""

    def threads() -> int:
        return len([*Path(f"/proc/{controller.pid}/task").iterdir()])

    with hammering(lambda: controller.agent_call("GET", "/healthz")) as answers:
        poll(lambda: len(answers) > 50, 30, "answers")
        assert threads() <= 4 + 2 * 2 + 2


def test_the_first_start_tells_what_to_do_next(stopped: Controller) -> None:
    for told_before in (False, True):
        try:
            stopped.start("--log-format", "text")
            stopped.stop()
        finally:
            stopped.kill()
        told = stopped.log
        assert (f"open TCP port {stopped.port}" in told) != told_before
        assert ("nmk network create" in told) != told_before
        stopped.log_file.unlink()


def test_its_files_are_for_its_user_alone(controller: Controller) -> None:
    assert stat.S_IMODE(controller.data.stat().st_mode) == 0o700
    for name in ("controller.key", "admin.key", "admin.sock"):
        assert stat.S_IMODE((controller.data / name).stat().st_mode) == 0o600


def test_a_restart_keeps_everything(controller: Controller) -> None:
    assert controller.nmk("network", "create", "home", "10.20.0.0/16").returncode == 0
    assert controller.nmk("network", "set", "home", "mtu=1380").returncode == 0
    assert controller.nmk("key", "create").returncode == 0
    before = [controller.admin_call("GET", p).json for p in PAGES]
    controller.stop()
    controller.start()
    assert [controller.admin_call("GET", p).json for p in PAGES] == before


PAGES = ("/v1/networks", "/v1/networks/home/keys", "/v1/status")


def test_a_leftover_socket_is_no_obstacle(controller: Controller) -> None:
    controller.kill()
    assert controller.socket.exists()
    controller.start()
    assert controller.nmk("network", "list").returncode == 0


def test_one_data_directory_has_one_controller(controller: Controller) -> None:
    second = Controller(controller.data)
    ended = run(second)
    assert ended.returncode == 75
    assert str(controller.data) in ended.stderr
    assert controller.nmk("network", "list").returncode == 0  # the first has kept its socket


@pytest.mark.parametrize("listener", ["--listen", "--admin-listen"])
def test_a_port_in_use_is_named(stopped: Controller, listener: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = other.getsockname()[1]
        ended = run(stopped, listener, f"127.0.0.1:{port}")
    assert ended.returncode == 1
    assert f"port {port}" in ended.stderr
    assert listener in ended.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "code", "culprit"),
    [
        (("--listen", "nowhere"), 2, "nowhere"),
        (("--listen", "127.0.0.1:0"), 2, "'0'"),
        (("--admin-listen", "localhost:8081"), 2, "localhost"),
        (("--public-url", "ftp://here"), 2, "ftp://here"),
        (("--db", "oracle://x"), 2, "oracle"),
        (("--log-format", "xml"), 2, "xml"),
        (("--data-dir", "/proc/nmk"), 75, "/proc/nmk"),
        (("--data-dir", "/" + "x" * 120), 2, "too long"),
    ],
)
def test_an_option_that_cannot_be_is_quoted(
    stopped: Controller, args: tuple[str, str], code: int, culprit: str
) -> None:
    ended = run(stopped, *args)
    assert ended.returncode == code
    assert culprit in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_database_without_its_key_is_not_served(controller: Controller) -> None:
    controller.stop()
    (controller.data / "controller.key").unlink()
    ended = run(controller)
    assert ended.returncode == 1
    assert "controller.key" in ended.stderr
    assert not (controller.data / "controller.key").exists()


@pytest.mark.parametrize("error", [StoreUnavailable, StoreUnusable])
@pytest.mark.parametrize("is_cut", [True, False], ids=["cut short before", "first"])
def test_a_key_that_a_database_may_be_bound_to_stays(
    tmp_path: Path, error: type[NmkError], is_cut: bool
) -> None:
    """Of a first start: cut short, then failing; or one that lost its database on the way."""

    def start(ends: type[NmkError] | None) -> bytes:
        data = DataDir(tmp_path / "data")
        with closing(data._lock), suppress(*[ends] if ends else ()), data.first_start():
            data.database.touch()
            if ends:
                raise ends("what it says")
        return data.identity.public

    if is_cut:
        first = DataDir(tmp_path / "data")
        first._lock.close()
        assert start(error) == start(None) == first.identity.public
    elif error is StoreUnavailable:
        assert start(error) == start(None)
    else:
        start(error)
        assert not list((tmp_path / "data").glob("*controller.key*"))


@pytest.mark.parametrize("what", ["is not there", "is empty"])
def test_a_key_without_its_database_is_not_served(tmp_path: Path, what: str) -> None:
    with started(tmp_path / "data") as controller:
        controller.stop()
        for path in controller.data.glob("nmk.db*"):
            path.unlink()
        if what == "is empty":
            (controller.data / "nmk.db").touch()
        ended = run(controller)
        assert ended.returncode == 1
        assert f"its database {controller.data}/nmk.db {what}" in ended.stderr
        assert f"to begin anew, move {controller.data}/controller.key away" in ended.stderr
        (controller.data / "controller.key").rename(tmp_path / "old.key")
        (controller.data / "nmk.db").unlink(missing_ok=True)
        controller.start()


def test_a_directory_in_the_place_of_the_socket_is_named(controller: Controller) -> None:
    controller.stop()
    (controller.data / "admin.sock").mkdir()
    ended = run(controller)
    assert ended.returncode == 1
    assert f"cannot listen on {controller.data}/admin.sock: Is a directory" in ended.stderr
    assert "internal error" not in ended.stderr


@pytest.mark.parametrize("name", ["controller.key", "admin.key"])
@pytest.mark.parametrize("content", ["", "00", "not hex", "00" * 33])
def test_a_damaged_key_file_is_named(controller: Controller, name: str, content: str) -> None:
    controller.stop()
    (controller.data / name).write_text(content)
    ended = run(controller)
    assert ended.returncode == 1
    assert name in ended.stderr


def test_a_data_directory_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with started(Path("data")) as controller:
        assert controller.nmk("network", "list").returncode == 0


def test_every_flag_may_stand_in_the_environment(stopped: Controller) -> None:
    ended = run(stopped, NMK_PUBLIC_URL="nonsense")
    assert ended.returncode == 2
    assert "nonsense" in ended.stderr


def test_the_admin_listener_can_be_left_out(tmp_path: Path) -> None:
    controller = Controller(tmp_path / "data")
    command = controller.command("--admin-listen", "off")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, env=clean_environment())
    try:
        assert controller.nmk("server", "wait").returncode == 0
        with pytest.raises(ConnectionRefusedError):
            controller.admin_call("GET", "/healthz")
    finally:
        process.terminate()
        _, told = process.communicate(timeout=patient(20))
    assert process.returncode == 0
    assert json.loads(told.splitlines()[-1])["event"] == "stopped"
