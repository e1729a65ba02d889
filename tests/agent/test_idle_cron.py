"""A machine whose cron does not run: whoever counts on it is told, and what starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nmk import processes
from nmk.agent import service, state
from nmk.agent.checks import network
from nmk.cli.machine import next_steps
from nmk.system import starters
from nmk.system.runner import Runner
from tests.agent.memberships import joined
from tests.cli.inprocess import nmk

SAID = "cron is not running"


class Machine:
    """A machine whose directories and programs are files below one place."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root, self._patch = root, patch
        for name in ("state", "proc", "bin", "cron.d", "init.d", "generator"):
            (root / name).mkdir()
        patch.setattr("nmk.tools._SYSTEM_PATH", str(root / "bin"))
        patch.setenv("PATH", str(root / "bin"))
        patch.setenv("NMK_STATE_DIR", str(root / "state"))
        patch.setattr(service, "systemd_runs", lambda: False)
        patch.setattr(service, "OPENRC_RUNS", root / "openrc")
        patch.setattr(service, "CRON_TABLES", root / "cron.d")
        patch.setattr(starters, "_CRONTABS", (f"{root}/cron.d/*",))
        patch.setattr(processes, "PROC", root / "proc")
        patch.setattr(starters, "_TIMERS", root / "generator")
        patch.setattr(starters, "_SCRIPTS", root / "init.d")

    def give(self, name: str) -> None:
        """Install a program, or a script that starts one."""
        path = self._root / name
        path.touch()
        path.chmod(0o755)

    def start(self, *words: str) -> None:
        """Let a program run."""
        process = self._root / "proc/17"
        process.mkdir()
        (process / "status").write_text("Name:\tcron\nUid:\t0\t0\t0\t0\n")
        (process / "exe").touch(0o755)
        (process / "cmdline").write_bytes(b"\0".join(word.encode() for word in words) + b"\0")

    def install(self) -> str:
        """Have the agent started with the machine; what is said."""
        said: list[str] = []
        service.install("agent", "/opt/nmk", Runner(), said.append)
        return "\n".join(said)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def check_ins() -> tuple[str, str | None]:
    """What doctor says of check-ins, and what mends them."""
    state.save(joined())
    found = network.check_check_ins(joined(), 0, {})[-1]
    return found.reason, found.mend


def test_an_installation_says_that_cron_does_not_run(machine: Machine) -> None:
    machine.give("bin/cron")
    machine.give("init.d/cron")
    said = machine.install()
    assert f"{SAID}, so nothing checks in yet\n  try: " in said
    assert said.endswith("/init.d/cron start")


def test_the_state_of_the_service_says_so(machine: Machine) -> None:
    machine.give("bin/cron")
    assert SAID not in nmk("service", "status").err
    machine.install()
    done = nmk("service", "status", "agent")
    assert done.code == 0
    assert f"{SAID}, so nothing checks in\n  try: cron, and have this machine" in done.err


def test_a_join_says_so_before_and_after_the_installation(machine: Machine) -> None:
    machine.give("bin/cron")
    machine.give("init.d/cron")
    told = next_steps(joined())
    assert "nmk service install agent\n\nFor that cron has to run, and does not:" in told
    machine.install()
    told = next_steps(joined())
    assert "keeps it up to date" not in told
    assert "To keep it up to date, cron has to run, and does not:\n\n  " in told
    machine.start("/usr/sbin/cron", "-f")
    assert "cron keeps it up to date" in next_steps(joined())


def test_an_agent_that_somebody_has_started_needs_no_cron(machine: Machine) -> None:
    machine.give("bin/cron")
    machine.start("sh", "/usr/local/bin/nmk", "agent")
    said = machine.install()
    done = nmk("service", "status", "agent")
    assert (done.code, SAID in said + done.err) == (0, False)
    assert "The agent keeps it up to date" in next_steps(joined())


def test_doctor_says_so(machine: Machine) -> None:
    machine.give("bin/cron")
    machine.give("init.d/cron")
    reason, mend = check_ins()
    assert reason.startswith(f"nothing on this machine starts them, and {SAID}; ")
    assert mend == "nmk service install agent"
    machine.install()
    reason, mend = check_ins()
    assert reason.startswith(f"{SAID}, so ")
    assert "cron.d/nmk starts none; " in reason
    assert (mend or "").endswith("/init.d/cron start")
    machine.start("cron")
    assert "starts them" not in check_ins()[0]


@pytest.mark.parametrize(
    "words",
    [
        ("/usr/sbin/cron", "-f"),
        ("crond", "-n"),
        ("/usr/sbin/crond",),
        ("busybox", "crond", "-f"),
        ("/bin/busybox", "crond"),
        ("/usr/sbin/fcron", "-b"),
    ],
)
def test_a_cron_that_runs(machine: Machine, words: tuple[str, ...]) -> None:
    machine.give("bin/cron")
    machine.start(*words)
    assert SAID not in machine.install()


def test_systemd_in_the_place_of_cron(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "generator/cron-nmk-root-0.timer").touch()
    assert starters.cron_runs()
    machine.start("vi", "cron")
    (tmp_path / "generator/cron-nmk-root-0.timer").unlink()
    assert not starters.cron_runs()


def test_no_cron_at_all_is_not_one_that_does_not_run(machine: Machine) -> None:
    machine.start("vi", "cron")
    assert SAID not in next_steps(joined())
    assert check_ins()[0].startswith("nothing on this machine starts them; ")
