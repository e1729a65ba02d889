"""What root runs for the machine's owner, and what it refuses."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nmk.errors import CommandFailed
from nmk.system.script import MOST_OUTPUT, TimeIsUp, find_fault, run_script
from tests.lab import poll

Write = Callable[[str], Path]


@pytest.fixture
def write() -> Iterator[Write]:
    """Makes a program that root may run, in a place that only root can write."""
    if os.geteuid() != 0:
        pytest.skip("only root's programs are run")
    directory = Path(tempfile.mkdtemp(dir="/var/lib"))

    def write(script: str) -> Path:
        path = directory / "up"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    yield write
    shutil.rmtree(directory)


def reason(program: Path) -> str | None:
    """Why it is not run."""
    fault = find_fault(program)
    return fault and fault.reason


def test_a_program_of_roots_is_fine(write: Write) -> None:
    assert find_fault(write("true")) is None


def test_what_others_can_change_is_refused(write: Write) -> None:
    program = write("true")
    for mode in (0o775, 0o757, 0o777):
        program.chmod(mode)
        assert reason(program) == f"{program} can be written by others than root"
    program.chmod(0o755)
    for mode in (0o770, 0o1777):
        program.parent.chmod(mode)
        assert reason(program) == f"{program.parent} can be written by others than root"
    program.parent.chmod(0o755)
    for path in (program, program.parent):
        os.chown(path, 65534, -1)
        assert reason(program) == f"{path} does not belong to root"
        os.chown(path, 0, -1)


def test_what_is_no_program_is_refused(write: Write) -> None:
    program = write("true")
    link = program.with_name("link")
    link.symlink_to("/bin/true")
    assert reason(link) == f"{link} is a symbolic link"
    assert reason(program.parent) == f"{program.parent} is no file"
    program.chmod(0o644)
    assert reason(program) == f"{program} is not executable"


def test_its_output_is_told_and_its_environment_is_what_was_given(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NMK_JOIN_TOKEN", "nmk1.secret")
    said: list[str] = []
    hostile = "$(touch /tmp/x); `id` 'a' \"b\" \\"
    program = write('env | grep ^NMK_; echo "$NMK_PEER" >&2; pwd')
    run_script(program, {"NMK_PEER": hostile}, 10, said.append)
    assert said == [f"NMK_PEER={hostile}", hostile, "/"]


def test_a_failure_is_told_after_the_output(write: Write) -> None:
    said: list[str] = []
    with pytest.raises(CommandFailed, match="it ended with 3"):
        run_script(write("echo no luck; exit 3"), {}, 10, said.append)
    assert said == ["no luck"]


def test_what_cannot_be_run(write: Write) -> None:
    program = write("true")
    program.write_text("no program at all")
    with pytest.raises(CommandFailed, match="it cannot be run: Exec format error"):
        run_script(program, {}, 10, print)


def test_one_that_hangs_is_killed_with_all_its_children(write: Write) -> None:
    said: list[str] = []
    program = write("sleep 600 & echo $!; wait")
    with pytest.raises(TimeIsUp, match="took too long"):
        run_script(program, {}, 0.5, said.append)
    [pid] = said
    poll(lambda: is_gone(pid), 5, "the end of the child")


def test_one_that_never_stops_talking_is_killed(write: Write) -> None:
    said: list[str] = []
    with pytest.raises(TimeIsUp, match=f"more than {MOST_OUTPUT} bytes"):
        run_script(write("exec yes"), {}, 60, said.append)
    assert len("\n".join(said)) <= MOST_OUTPUT


def test_what_it_leaves_running_goes_on(write: Write) -> None:
    said: list[str] = []
    run_script(write("sleep 600 & echo $!"), {}, 10, said.append)
    [pid] = said
    assert not is_gone(pid)
    os.kill(int(pid), 9)


def test_what_it_leaves_running_fills_no_memory(write: Write, tmp_path: Path) -> None:
    """Its output is a file in memory, which it has open for as long as it lives."""
    ended = tmp_path / "ended"
    goes_on = f"while echo word; do sleep 0.05; done 2>/dev/null; echo > {ended}"
    said: list[str] = []
    run_script(write(f"({goes_on}) & echo $!"), {}, 10, said.append)
    try:
        poll(ended.exists, 10, "a write that fails")
    finally:
        if not is_gone(said[0]):
            os.kill(int(said[0]), 9)


def is_gone(pid: str) -> bool:
    """Ended, whether somebody has asked for its status yet or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
