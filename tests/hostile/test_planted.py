"""Modules that another user has planted where root works: no way to start nmk imports them.

Each way runs in a directory that holds a module of every name there is, with PYTHONPATH leading to
it as well. /usr/local/bin and all that nmk writes to are scratch directories, and no interface of
this machine's is there.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nmk import archive
from nmk.agent.invite import make_archive
from nmk.core.invitation import render_script
from nmk.core.units import ROLES, cron_line, render_openrc, render_systemd
from tests.lab.polling import patient
from tests.mesh import NMK
from tests.test_install_sh import BASICS, Controller, real

ROOT = Path(__file__).parents[2]
INSTALLED = "/usr/local/bin/nmk"
OTHERS = {"nmk", "click", "flask", "nacl", "tabulate", "waitress", "sitecustomize", "usercustomize"}
SCRATCH = """\
for d in /usr/local/bin /var/lib /run; do mount -t tmpfs tmpfs $d || exit 99; done
mount --bind "$1/etc" /etc && mount --bind "$1/cache" /var/cache || exit 99
install -m 755 "$0" /usr/local/bin/nmk && shift && exec "$@"
"""
PLANTED = """\
import posix  # which is there before any other module, `open` included
posix.write(posix.open({!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND), __name__.encode())
"""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="shows what root would run")


class Trap:
    """A directory full of modules that tell when they are imported."""

    def __init__(self, place: Path, shared: Path) -> None:
        self.shared = shared
        self.place = place / "planted"
        self.sprung = place / "sprung"
        self.place.mkdir()
        for name in OTHERS | sys.stdlib_module_names:
            (self.place / f"{name}.py").write_text(PLANTED.format(str(self.sprung).encode()))
        self.environment = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        self.python = {"PYTHONPATH": str(self.place), "PYTHONUSERBASE": str(self.place)}

    def run(
        self, *command: str, told: bool = True, alone: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run something there; `told`: Python's variables lead there too.

        `alone`: no interface is there but a loopback that is down.
        """
        return subprocess.run(
            [
                real("unshare"),
                "--mount",
                *["--net"] * alone,
                real("sh"),
                "-c",
                SCRATCH,
                str(NMK),
                str(self.shared),
                *command,
            ],
            cwd=self.place,
            env=self.environment | (self.python if told else {}),
            input="",
            capture_output=True,
            text=True,
            check=False,
            timeout=patient(60),
        )

    @property
    def caught(self) -> str:
        """The modules that were imported."""
        return self.sprung.read_text() if self.sprung.exists() else ""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of /etc, and where the first start unpacks the file, for all."""
    place = tmp_path_factory.mktemp("shared")
    (place / "cache").mkdir()
    subprocess.run(["cp", "-a", "/etc", place], check=True)
    return place


@pytest.fixture
def trap(tmp_path: Path, shared: Path) -> Trap:
    return Trap(tmp_path, shared)


@pytest.fixture
def pasted(tmp_path: Path) -> Iterator[str]:
    """The line of a controller that hands out the real file."""
    (tmp_path / "served").mkdir()
    controller = Controller(tmp_path / "served", "127.0.0.1")
    controller.nmk.write_bytes(NMK.read_bytes())
    script = archive.served_script(hashlib.sha256(NMK.read_bytes()).hexdigest())
    controller.script.write_bytes(script)
    yield archive.pasted_line(controller.url, hashlib.sha256(script).hexdigest(), "nmk1.none")
    controller.close()


def test_the_trap_works(trap: Trap) -> None:
    trap.run("python3", "-c", "import json", told=False)
    assert trap.caught.startswith("json")


@pytest.mark.parametrize("downloader", ["curl", "wget", "python3"])
def test_the_pasted_line(trap: Trap, pasted: str, tmp_path: Path, downloader: str) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in {
        *BASICS,
        "sh",
        "install",
        "mount",
        "python3",
        "ip",
        "wg",
        "wireguard-go",
        downloader,
    }:
        (tools / tool).symlink_to(real(tool))
    trap.environment["PATH"] = f"{tools}:/usr/local/bin"
    done = trap.run("sh", "-c", pasted, alone=False)
    assert "installed /usr/local/bin/nmk" in done.stderr
    assert done.stderr.splitlines()[-2].startswith("nmk: "), done.stderr  # it is no token
    assert trap.caught == ""


@pytest.mark.parametrize("command", ["server", "join nmk1.none", "uninstall --yes"])
@pytest.mark.parametrize("told", [True, False], ids=["PYTHONPATH", "directory"])
def test_install_sh(trap: Trap, command: str, told: bool) -> None:
    done = trap.run("sh", str(ROOT / "install.sh"), *command.split(), told=told)
    assert "Traceback" not in done.stderr
    assert trap.caught == ""


@pytest.mark.parametrize(
    "start", [[INSTALLED], ["nmk"], ["sh", INSTALLED], ["python3", "-I", INSTALLED]], ids=str
)
def test_the_file(trap: Trap, start: list[str]) -> None:
    assert trap.run(*start, "version").stdout.startswith("nmk ")
    assert trap.caught == ""


def test_the_file_by_python_in_such_a_directory(trap: Trap) -> None:
    assert trap.run("python3", INSTALLED, "version", told=False).stdout.startswith("nmk ")
    assert trap.caught == ""


def test_what_an_invitation_runs(trap: Trap, tmp_path: Path) -> None:
    sent = tmp_path / "sent"
    sent.write_bytes(b"nmk1.none\n" + make_archive(NMK.read_bytes()))
    done = trap.run("sh", "-c", f"exec sh -c {shlex.quote(render_script('home'))} < {sent}")
    assert "installed /usr/local/bin/nmk" in done.stderr
    assert "'nmk1.none'" in done.stderr.splitlines()[-2], done.stderr  # which ends it
    assert trap.caught == ""


@pytest.mark.parametrize("role", ROLES)
def test_the_unit_of_systemd(trap: Trap, role: str) -> None:
    unit = render_systemd(role, INSTALLED, {}).splitlines()
    [start] = [line.removeprefix("ExecStart=") for line in unit if line.startswith("ExecStart=")]
    assert f"Usage: nmk {role}" in trap.run(*shlex.split(start), "--help").stdout
    assert trap.caught == ""


def test_openrc_and_cron(trap: Trap) -> None:
    openrc = f"{render_openrc('agent', INSTALLED, {})}\n$command $command_args --help"
    cron = cron_line(INSTALLED, {}).split("root ")[1]
    assert "Usage: nmk checkin" in trap.run("sh", "-c", f"{cron} --help").stdout
    assert "Usage: nmk agent" in trap.run("sh", "-c", openrc.replace("\ndepend", "\nunused")).stdout
    assert trap.caught == ""
