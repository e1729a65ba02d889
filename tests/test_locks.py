"""Locks that nobody else on the machine can take."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from nmk.agent import places, state
from nmk.agent.checks.machine import check_lock
from nmk.agent.lock import LOCK, find_stuck, locked, machine_lock
from nmk.agent.status import status
from nmk.agent.tick import put_right
from nmk.errors import Locked, NotJoined, StoreUnavailable
from nmk.locks import holder, holder_of, line_up, open_lock, passing_lock, take
from nmk.system.runner import Runner
from nmk.tools import nmk_command
from tests.agent.memberships import joined
from tests.agent.test_damaged import blind
from tests.lab.polling import patient

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")


@contextmanager
def held(path: Path, user: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock on a file or directory, if it can get it."""
    code = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), 2); print(); input()"
    python = os.path.realpath(sys.executable)  # which others may run, wherever this checkout is
    command = (python, "-I", "-c", code, str(path))
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL, text=True, user=user,
    ) as process:  # fmt: skip
        assert process.stdout
        process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def open_place(tmp_path: Path) -> Iterator[Path]:
    """A directory that everybody can open, up to the root."""
    modes = {p: p.stat().st_mode for p in tmp_path.parents if p.stat().st_uid == os.geteuid()}
    for path, mode in modes.items():
        path.chmod(mode | 0o055)
    place = tmp_path / "place"
    place.mkdir()
    for path in (tmp_path, place):
        path.chmod(0o755)
    yield place
    for path, mode in modes.items():
        path.chmod(mode)


@as_root
def test_a_local_user_cannot_hold_up_a_command(open_place: Path) -> None:
    with held(open_place, NOBODY) as user, locked(open_place):
        assert user.poll() is None  # it has the directory's
        with held(open_place / LOCK, NOBODY) as refused:
            refused.wait(patient(10))
            assert refused.returncode == 1


@as_root
def test_a_local_user_cannot_hold_up_a_controller(open_place: Path) -> None:
    start = "import sys, pathlib; from nmk.server.datadir import DataDir as D; "
    start += "data = D(pathlib.Path(sys.argv[1]))\nwith data.first_start(): pass"
    subprocess.run([sys.executable, "-c", start, str(open_place)], check=True)
    open_place.chmod(0o755)
    (open_place / "lock").chmod(0o644)
    with held(open_place, NOBODY):
        subprocess.run([sys.executable, "-c", start, str(open_place)], check=True)
    with held(open_place / "lock", NOBODY) as refused:
        refused.wait(patient(10))
        assert refused.returncode == 1


@pytest.mark.parametrize("name", ["lock", "controller.key", "admin.key"])
def test_a_pipe_in_the_place_of_a_file_holds_up_no_controller(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    data.mkdir(0o700)
    os.mkfifo(data / name, 0o600)
    command = (sys.executable, "-m", "nmk.cli.main", "server", "--data-dir", str(data))
    ended = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=patient(20)
    )
    assert ended.returncode == StoreUnavailable.exit_code
    assert "no regular file" in ended.stderr


def test_a_pipe_in_the_place_of_a_lock_holds_up_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / LOCK, 0o600)
    with pytest.raises(OSError, match="no regular file"):
        open_lock(tmp_path / LOCK)
    with pytest.raises(OSError, match="no regular file"):
        line_up(tmp_path / LOCK)


def test_the_directory_of_old_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tmp_path / "nmk"
    old.mkdir()
    old.chmod(0o755)
    (old / "server").mkdir()
    monkeypatch.setattr(places, "DEFAULT_STATE", old)
    with locked(old):
        assert old.stat().st_mode & 0o777 == 0o711
        assert (old / LOCK).stat().st_mode & 0o777 == 0o600


def test_a_directory_that_the_owner_chose_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "home.json").touch()
    with locked(tmp_path):
        assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_the_holder_is_named(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    with (
        held(tmp_path / LOCK) as other,
        pytest.raises(Locked, match=rf" \(python[.0-9]*, process {other.pid}\)$"),
        locked(tmp_path),
    ):
        raise AssertionError


@contextmanager
def suspended(path: Path) -> Iterator[subprocess.Popen[str]]:
    """As `held`, by a process that Ctrl-Z has stopped."""
    with held(path) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield process
        process.send_signal(signal.SIGCONT)


def test_a_holder_that_was_suspended_is_named_with_what_lets_it_go_on(state_dir: Path) -> None:
    """By who finds the lock held, by `nmk status` and by `nmk doctor`, which wait for nobody."""
    state.save(joined())
    (state_dir / LOCK).touch()
    with suspended(state_dir / LOCK) as other:
        with pytest.raises(Locked, match=f"process {other.pid}, stopped") as raised:
            put_right("home", Runner())
        assert raised.value.hint.startswith(f"kill -CONT {other.pid} lets it go on")
        row = status("home", blind(), 0.0, reachable=lambda _: False, held=find_stuck())
        assert row["problems"][-1] == {
            "code": "locked", "message": raised.value.message, "hint": raised.value.hint
        }  # fmt: skip
        [found] = check_lock()
        assert (found.level, found.mend) == ("broken", raised.value.hint)
        assert found.reason.startswith(raised.value.message)
    assert (check_lock(), find_stuck()) == ([], None)


def test_a_holder_that_gives_the_lock_back_is_not_told_of(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmk.agent.lock._SAID_AFTER", patient(1))  # however busy we are
    (state_dir / LOCK).touch()
    with held(state_dir / LOCK) as other:
        threading.Timer(0.2, other.kill).start()
        assert find_stuck() is None
        assert other.wait() < 0


def test_a_person_waits_and_is_told_so(tmp_path: Path) -> None:
    (tmp_path / LOCK).touch()
    told: list[str] = []
    with held(tmp_path / LOCK) as other:

        def end(line: str) -> None:
            told.append(line)
            other.kill()

        with locked(tmp_path, 10, end):
            [line] = told
            assert line.endswith(f"process {other.pid}): waiting for it")


def test_a_person_waits_for_ten_seconds(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0

    def busy(_handle: int, seconds: float) -> bool:
        nonlocal now
        now += seconds
        return False

    monkeypatch.setattr("nmk.agent.lock.take", busy)
    monkeypatch.setattr("nmk.agent.lock.time", SimpleNamespace(monotonic=lambda: now))
    (state_dir / LOCK).touch()
    with pytest.raises(Locked), machine_lock(Runner()):
        raise AssertionError
    assert now == 100 + 10


def test_a_lock_that_was_removed_is_taken_anew(tmp_path: Path) -> None:
    """The last network was left while another run waited."""
    handle = open_lock(tmp_path / LOCK)
    assert take(handle)
    told: list[str] = []

    def remove(line: str) -> None:
        told.append(line)
        (tmp_path / LOCK).unlink()
        os.close(handle)

    (tmp_path / "home.json").touch()
    with locked(tmp_path, 10, remove):
        assert told
        assert (tmp_path / LOCK).exists()
        with pytest.raises(Locked), locked(tmp_path):
            raise AssertionError


def test_where_nothing_can_be_written_there_is_a_lock_all_the_same(tmp_path: Path) -> None:
    (tmp_path / LOCK).symlink_to("elsewhere")  # which is not followed
    with locked(tmp_path), pytest.raises(Locked), locked(tmp_path):
        raise AssertionError
    assert not (tmp_path / "elsewhere").exists()


def test_nothing_is_left_of_an_empty_directory(tmp_path: Path) -> None:
    place = tmp_path / "nmk"
    place.mkdir()
    with locked(place):
        pass
    assert not place.exists()
    with pytest.raises(NotJoined), locked(place):
        raise AssertionError


def test_no_lock_is_left_where_there_is_no_network(tmp_path: Path) -> None:
    (tmp_path / "server").mkdir()
    with locked(tmp_path):
        assert (tmp_path / LOCK).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["server"]
    (tmp_path / "home.json").touch()
    with locked(tmp_path):
        pass
    assert (tmp_path / LOCK).exists()


def test_who_waits_while_the_last_network_is_left_takes_the_new_lock(tmp_path: Path) -> None:
    """All in turn, none beside another, whoever removes the file."""
    (tmp_path / "server").mkdir()
    code = """
import pathlib, sys
from nmk.agent.lock import locked
place = pathlib.Path(sys.argv[1])
for _ in range(20):
    with locked(place, 60):
        (place / "inside").touch(exist_ok=False)
        (place / "inside").unlink()
"""
    command = (sys.executable, "-c", code, str(tmp_path))
    runs = [subprocess.Popen(command) for _ in range(4)]
    assert [run.wait(patient(60)) for run in runs] == [0] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["server"]


def test_a_lock_that_passes_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / ".nmk.db.lock"
    with passing_lock(path, 1):
        assert path.stat().st_mode & 0o777 == 0o600
        with pytest.raises(TimeoutError), passing_lock(path, 0):
            raise AssertionError
    assert not path.exists()


def test_a_file_of_the_same_number_that_is_only_shared_is_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as the unpacked build of this very process, on another file system."""
    (tmp_path / LOCK).touch()
    told = f"1: FLOCK ADVISORY READ 1 fe:00:{(tmp_path / LOCK).stat().st_ino} 0 EOF"
    read = Path.read_text
    monkeypatch.setattr(
        Path, "read_text", lambda p, *a, **k: told if str(p) == "/proc/locks" else read(p, *a, **k)
    )
    assert holder_of(tmp_path / LOCK) is None


@as_root
@pytest.mark.parametrize(("user", "is_told"), [(NOBODY, False), (None, True)])
def test_a_lock_of_another_users_on_a_file_of_the_same_number_is_not_ours(
    open_place: Path, monkeypatch: pytest.MonkeyPatch, user: int | None, is_told: bool
) -> None:
    """As on another file system, where everybody may make files until one has that number."""
    ours = open_place / LOCK
    ours.touch(0o600)
    theirs = open_place / "theirs"
    theirs.touch(0o644)
    read = Path.read_text

    def told(path: Path, *how: str, **more: str) -> str:
        text = read(path, *how, **more)
        mine, other = (f":{p.stat().st_ino} " for p in (ours, theirs))
        return text.replace(other, mine) if str(path) == "/proc/locks" else text

    monkeypatch.setattr(Path, "read_text", told)
    with held(theirs, user) as process:
        who = holder_of(ours)
        assert (who.process if who else None) == (process.pid if is_told else None)


def test_nobody_holds_what_is_free(tmp_path: Path) -> None:
    handle = open_lock(tmp_path / LOCK)
    assert holder(handle) is None
    fcntl.flock(handle, fcntl.LOCK_EX)
    assert f"process {os.getpid()})" in str(holder(handle))
    os.close(handle)


def test_what_need_not_last_is_where_it_is_told_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its directory keeps its mode where the owner chose it; ours is closed."""
    tmp_path.chmod(0o755)
    monkeypatch.setenv("NMK_RUNTIME_DIR", str(tmp_path))
    assert places.make_runtime_directory() == tmp_path
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    monkeypatch.setattr(places, "_RUNTIME", tmp_path)
    monkeypatch.delenv("NMK_RUNTIME_DIR")
    assert places.make_runtime_directory() == tmp_path
    assert tmp_path.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("/usr/local/bin/nmk agent", "agent"),
        ("python3 -I /usr/local/bin/nmk checkin --quiet", "checkin"),
        ("/bin/sh /usr/local/bin/nmk down", "down"),
        ("vi /usr/local/bin/nmk", ""),
        ("less /srv/nmk.txt agent", ""),
    ],
)
def test_what_runs_is_told_by_its_command_line(line: str, command: str) -> None:
    assert nmk_command(line.split()) == command
