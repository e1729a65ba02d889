"""An agent that runs on with the code of a file that was replaced since: doctor names it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import build_zipapp
from nmk import bootstrap, processes
from nmk.agent import service
from nmk.agent.checks.machine import check_agent
from nmk.system import starters
from tests.lab import patient

ROOT = Path(build_zipapp.__file__).parent
SLEEPS = b"""
import time
def main():
    print("runs", flush=True)
    time.sleep(600)
"""
PRIVATE = 'mount -t tmpfs t /var/cache; mount -t tmpfs t /run; exec "$@"'


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file `nmk` that does nothing."""
    path = tmp_path_factory.mktemp("file") / "nmk"
    carried = {"nmk/__init__.py": b"", "nmk/cli/__init__.py": b"", "nmk/cli/main.py": SLEEPS}
    build_zipapp.write_executable(path, build_zipapp.render_zipapp(carried, bootstrap.abi()))
    return path


@pytest.fixture(scope="module")
def agent(file: Path) -> Iterator[int]:
    """Its process as `nmk agent`."""
    argv = ["unshare", "-m", "sh", "-c", PRIVATE, "sh", "python3", "-I", str(file), "agent"]
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "NMK_STATE_DIR": "/a b", "NMK_API_KEY": "x"}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env) as process:
        assert process.stdout
        assert process.stdout.readline() == "runs\n"
        yield process.pid
        process.kill()
        process.wait(patient(60))


def restarts(pid: int) -> list[str]:
    return [restart for number, restart in service.outdated("agent") if number == pid]


def test_an_agent_of_another_build_is_named_with_what_restarts_it(
    agent: int, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "find_manager", lambda *_: None)
    monkeypatch.setattr(service, "running_build", lambda: "0" * 16)
    again = f"env 'NMK_STATE_DIR=/a b' {file} agent"
    [restart] = restarts(agent)
    assert restart == f"kill {agent}; unless something starts it again by itself: {again} &"
    [found] = [f for f in check_agent() if f"process {agent}," in f.reason]
    assert (found.level, found.mend) == ("warn", restart)


@pytest.mark.parametrize("is_same", [True, False], ids=["the same build", "a source tree"])
def test_an_agent_that_is_this_nmk_is_not_named(
    agent: int, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    build = starters.build_of(Path(f"/proc/{agent}"))
    assert build
    monkeypatch.setattr(service, "running_build", lambda: build if is_same else None)
    assert restarts(agent) == []


@pytest.mark.parametrize(
    ("make", "restart"),
    [
        (service._systemd, "systemctl restart nmk-agent.service"),
        (service._openrc, "rc-service nmk-agent restart"),
    ],
)
def test_a_service_is_restarted_by_its_manager(
    agent: int, file: Path, monkeypatch: pytest.MonkeyPatch, make: object, restart: str
) -> None:
    for name in ("SYSTEMD_UNITS", "OPENRC_SCRIPTS"):
        monkeypatch.setattr(service, name, file.parent)
    assert callable(make)
    manager = make("agent", "nmk", {})
    manager.path.touch()
    monkeypatch.setattr(service, "find_manager", lambda *_: manager)
    monkeypatch.setattr(service, "running_build", lambda: "0" * 16)
    assert restarts(agent)[0].startswith(f"kill {agent}; ")  # somebody else has started it
    monkeypatch.setattr(starters, "is_service", lambda *_: True)
    assert restarts(agent) == [restart]


@pytest.mark.parametrize(
    ("cgroup", "parent", "is_service"),
    [
        ("0::/system.slice/nmk-agent.service\n", "/sbin/init", True),
        ("0::/\n", "supervise-daemon\0nmk-agent\0--start\0", True),
        ("0::/user.slice/session-2.scope\n", "-bash", False),
    ],
)
def test_who_started_an_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, parent: str, is_service: bool
) -> None:
    monkeypatch.setattr(processes, "PROC", tmp_path)
    for number in ("7", "9"):
        (tmp_path / number).mkdir()
    (tmp_path / "9" / "status").write_text("Name:\tpython3\nPPid:\t7\n")
    (tmp_path / "9" / "cgroup").write_text(cgroup)
    (tmp_path / "7" / "cmdline").write_text(parent)
    assert starters.is_service(tmp_path / "9", "nmk-agent") == is_service
