"""Programs that are called `ip` and are not what nmk needs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nmk.agent.checks import machine
from nmk.agent.join import join
from nmk.agent.membership import Wishes
from nmk.errors import CommandFailed, ToolMissing
from nmk.system.iproute import check_ip
from nmk.system.runner import Runner
from nmk.wire.envelope import Identity
from nmk.wire.token import Token
from tests.hostile.door import Door

OLD = "echo '0:\tfrom all lookup local'"
OLDER = """echo 'Option "-json" is unknown, try "ip -help".' >&2; exit 255"""
NO_RULES = "echo 'RTNETLINK answers: Operation not supported' >&2; exit 2"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the first `ip` of the search path is to be laid."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin")
    return tmp_path / "bin" / "ip"


@pytest.fixture
def busybox(path: Path) -> Path:
    found = shutil.which("busybox", path="/usr/bin:/bin")
    if not found:
        pytest.skip("there is no busybox")
    path.symlink_to(found)
    return path


def lay(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.usefixtures("state_dir")
def test_busyboxs_ip_is_refused_before_anybody_is_asked(busybox: Path) -> None:
    key = Identity.generate().public
    with Door(lambda _: b"no HTTP") as door:
        token = Token((door.url,), key, "home", "0123456789abcdef", b"secret")
        with pytest.raises(ToolMissing, match=f"'{busybox}' is BusyBox's: nmk needs") as raised:
            join(token, Wishes(), None, Runner(), lambda _: None)
        assert not door.asked
    assert raised.value.hint == "apt-get install iproute2"


def test_doctor_says_that_an_ip_is_busyboxs(busybox: Path) -> None:
    found = machine.check_tools(Runner())
    broken = [f for f in found if f.level == "broken"]
    assert [(f.check, f.mend) for f in broken] == [("tools", "apt-get install iproute2")]
    assert f"'{busybox}' is BusyBox's" in broken[0].reason
    assert not any(" ip " in f" {f.reason}" for f in found if f.level == "ok")


def test_what_busyboxs_ip_cannot_do_later_names_the_package(busybox: Path) -> None:
    assert busybox.exists()
    with pytest.raises(CommandFailed) as raised:
        Runner().read(["ip", "-json", "address", "show"])
    assert raised.value.hint == "apt-get install iproute2"


@pytest.mark.parametrize(
    ("script", "fault"), [(OLD, "prints no JSON"), (OLDER, "does not know -json")]
)
def test_an_ip_that_is_too_old_is_refused(path: Path, script: str, fault: str) -> None:
    lay(path, script)
    with pytest.raises(ToolMissing, match=f"'{path}' {fault}: nmk needs that of iproute2, 4.17"):
        check_ip(Runner())


@pytest.mark.parametrize("script", [NO_RULES, "exit 0", "echo '[]'", "kill -9 $$"])
def test_what_the_kernel_refuses_is_no_fault_of_the_program(path: Path, script: str) -> None:
    lay(path, script)
    check_ip(Runner())


def test_the_ip_of_this_machine_will_do() -> None:
    check_ip(Runner())
