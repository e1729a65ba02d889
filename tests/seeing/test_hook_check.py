"""Hooks that would not run, as `nmk doctor` finds them before anything happens."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nmk.agent.checks.machine import check_hooks
from nmk.core.findings import Finding

SCRIPT = "#!/bin/sh\ntrue\n"


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of hooks, in a place that only root can write."""
    if os.geteuid() != 0:
        pytest.skip("only root's programs are run")
    config = Path(tempfile.mkdtemp(dir="/var/lib"))
    monkeypatch.setenv("NMK_CONFIG_DIR", str(config))
    (config / "hooks").mkdir()
    yield config / "hooks"
    shutil.rmtree(config)


def put(path: Path, content: str = SCRIPT) -> Path:
    """A hook that may be run."""
    path.write_text(content)
    path.chmod(0o755)
    return path


def levels(findings: list[Finding]) -> list[str]:
    return [f.level for f in findings]


def test_no_hooks_are_nothing_to_speak_of(hooks: Path) -> None:
    assert check_hooks() == []
    hooks.rmdir()
    assert check_hooks() == []


def test_hooks_that_run(hooks: Path) -> None:
    for name in ("up", "peer-added"):
        put(hooks / name)
    shutil.copy("/bin/true", hooks / "down")
    [found] = check_hooks()
    assert (found.level, found.reason) == ("ok", f"down, peer-added, up in {hooks}")


MENDED: dict[str, tuple[Callable[[Path], object], str]] = {
    "not executable": (lambda path: path.chmod(0o644), "is not executable"),
    "written by others": (lambda path: path.chmod(0o775), "can be written by others than root"),
    "another's": (lambda path: os.chown(path, 65534, 0), "does not belong to root"),
    "the directory": (lambda path: path.parent.chmod(0o777), "can be written by others than root"),
}


@pytest.mark.parametrize("kind", MENDED)
def test_what_keeps_a_hook_from_running_is_mended_by_the_command(kind: str, hooks: Path) -> None:
    spoil, said = MENDED[kind]
    spoil(put(hooks / "up"))
    [found] = check_hooks()
    assert (found.check, found.level) == ("hooks", "broken")
    assert found.reason.startswith(f"up is not run: {hooks}")
    assert found.reason.endswith(said)
    assert found.mend
    subprocess.run(["sh", "-c", found.mend.partition(",")[0].rpartition(": ")[2]], check=True)
    assert levels(check_hooks()) == ["ok"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("echo hello\n", "does not begin with #!"),
        ("", "does not begin with #!"),
        ("#!/opt/no/bash\ntrue\n", "wants /opt/no/bash, which is not there"),
        ("#!\ntrue\n", "wants nothing, which is not there"),
        ("#!/bin/sh\r\ntrue\r\n", "has lines that end in CR LF"),
    ],
)
def test_a_script_that_the_kernel_would_not_start(content: str, said: str, hooks: Path) -> None:
    path = put(hooks / "down", content)
    [found] = check_hooks()
    assert found.level == "broken"
    assert said in found.reason
    with pytest.raises(OSError, match=r"Exec format error|No such file"):
        subprocess.run([path], check=False)


def test_a_name_that_no_event_has(hooks: Path) -> None:
    put(hooks / "peer-add")
    put(hooks / "up")
    findings = check_hooks()
    assert levels(findings) == ["ok", "warn"]
    assert findings[1].reason == f"{hooks}/peer-add is never run: no event has that name"
    assert findings[1].mend == "name it for an event: up, down, peer-added, peer-removed"


def test_what_is_no_file(hooks: Path) -> None:
    (hooks / "up").symlink_to("/bin/true")
    (hooks / "down").mkdir()
    os.mkfifo(hooks / "peer-added", 0o700)
    assert levels(check_hooks()) == ["broken"] * 3
