from __future__ import annotations

import os
import shlex
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from nmk import tools
from nmk.core.tunnel import Command
from nmk.errors import CommandFailed, ToolMissing
from nmk.system.capabilities import FORBIDDEN
from nmk.system.runner import DryRunner, Runner, find_tool
from tests.lab import poll


def test_read_gives_what_the_command_prints() -> None:
    assert Runner().read(["echo", "hello"]) == "hello\n"


def test_standard_input_reaches_the_command(tmp_path: Path) -> None:
    Runner().change(Command(("tee", str(tmp_path / "out")), "secret"))
    assert (tmp_path / "out").read_text() == "secret"


def test_changes_are_shown_without_what_wg_reads() -> None:
    shown: list[str] = []
    run = DryRunner(shown.append)
    run.change(Command(("wg", "syncconf", "nmk-home", "/dev/stdin"), "PrivateKey = secret"))
    run.change(Command(("ip", "-batch", "-"), "link set dev nmk-home up\n"))
    assert shown == [
        "[#] wg syncconf nmk-home /dev/stdin < (stdin)",
        "[#] ip -batch -\n    link set dev nmk-home up",
    ]


def test_a_dry_run_changes_nothing(tmp_path: Path) -> None:
    DryRunner().change(Command(("touch", str(tmp_path / "made"))))
    assert list(tmp_path.iterdir()) == []


def test_a_failure_quotes_command_code_and_last_words() -> None:
    with pytest.raises(CommandFailed) as raised:
        Runner().read(["sh", "-c", "echo first >&2; echo last >&2; exit 7"])
    assert "exit 7' ended with 7: last" in raised.value.message


@pytest.mark.parametrize("frame", ["\u2514\u2500\u2500\u2500\u2518", "+---+", ""])
def test_the_last_words_are_words(frame: str) -> None:
    """As of wireguard-go, which draws a frame around what it says."""
    with pytest.raises(CommandFailed) as raised:
        Runner().read(["sh", "-c", f"printf '\u2502 not so \u2502\n{frame}\n' >&2; exit 1"])
    assert raised.value.message.endswith(" ended with 1: not so")


def test_the_reason_is_taken_and_not_framed_advice() -> None:
    """As of wireguard-go without /dev/net/tun: the advice is on standard error."""
    framed = "printf '\u250c\u2500\u2510\n\u2502 see https://x/ \u2502\n' >&2"
    script = f"echo 'ERROR: no device'; {framed}; exit 1"
    with pytest.raises(CommandFailed) as raised:
        Runner().read(["sh", "-c", script])
    assert raised.value.message.endswith(" ended with 1: ERROR: no device")


def test_a_missing_tool_names_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "_SYSTEM_PATH", "/nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "apt-get").touch(0o755)
    with pytest.raises(ToolMissing) as raised:
        find_tool("wg")
    assert raised.value.message == "the program 'wg' is not installed"
    assert raised.value.hint == "apt-get install wireguard-tools"


def test_secrets_in_the_environment_stay_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMK_JOIN_TOKEN", "nmk1.hidden")
    assert "nmk1.hidden" not in Runner().read(["env"])


def test_a_process_left_in_the_background_is_not_waited_for(tmp_path: Path) -> None:
    """As wireguard-go stays; it may keep its output open."""
    pid = tmp_path / "pid"
    Runner().change(Command(("sh", "-c", f"sleep 600 & echo $! > {pid}")))
    subprocess.run(["kill", pid.read_text().strip()], check=True)


def test_what_stays_in_the_background_fills_no_memory(tmp_path: Path) -> None:
    """As a userspace WireGuard that tells what it does."""
    pid, ended = tmp_path / "pid", tmp_path / "ended"
    goes_on = f"while echo word; do sleep 0.05; done 2>/dev/null; echo > {ended}"
    Runner().change(Command(("sh", "-c", f"({goes_on}) & echo $! > {pid}")))
    try:
        poll(ended.exists, 10, "a write that fails")
    finally:
        with suppress(ProcessLookupError):
            os.kill(int(pid.read_text()), 9)


def test_what_a_program_is_given_nobody_changes() -> None:
    with pytest.raises(CommandFailed, match="ended with"):
        Runner().change(Command(("sh", "-c", "echo more >> /dev/stdin"), "secret"))


def test_waiting_ends_with_the_condition_or_says_for_what() -> None:
    answers = iter([False, False, True])
    Runner().wait("never mind", lambda: next(answers))
    with pytest.raises(CommandFailed, match="no socket"):
        Runner().wait("no socket", lambda: False, seconds=0)


def test_what_may_not_be_looked_at_is_not_taken_for_gone() -> None:
    """Without NET_ADMIN a table that stands cannot be listed; the hint names what is missing."""
    script = (
        "from nmk.system import filter\n"
        "from nmk.system.runner import Runner\n"
        "for name in ('t', 'none'):\n"
        "    error = filter.why_unseen(Runner(), name)\n"
        "    print(error and f'{error.message}; {error.hint}')\n"
    )
    python = shlex.join([sys.executable, "-c", script])
    lacking = "setpriv --bounding-set=-net_admin --inh-caps=-net_admin"
    for prefix, expected in (("", False), (lacking, True)):
        command = f"nft add table inet t && {prefix} {python}"
        done = subprocess.run(
            ["unshare", "--net", "sh", "-c", command],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2],
        )
        told = done.stdout.splitlines()
        assert ["Operation not permitted; give nmk the cap" in line for line in told] == (
            [expected] * 2
        ), told


LACKING = {
    "setpriv --bounding-set=-net_admin --inh-caps=-net_admin": "give nmk the capability NET_ADMIN",
    "unshare --user --map-root-user": "this network belongs to another user namespace",
}
TRIED = """
from nmk.core.tunnel import Command
from nmk.errors import NmkError
from nmk.system import wireguard
from nmk.system.runner import Runner
run = Runner()
for argv, lines in (
    (("ip", "link", "set", "lo", "up"), None),
    (("ip", "-force", "-batch", "-"), "link set lo up"),
    (("iptables-legacy", "-S"), None),
    (("false",), None),
):
    try:
        run.change(Command(argv, lines))
    except NmkError as error:
        print(argv[0], "|", error.message, "|", error.hint)
for ways in wireguard.creations("nmk-none"), [Command(("ip", "link", "set", "lo", "up"))]:
    try:
        wireguard.create(run, ways, "nmk-none")
    except NmkError as error:
        print("create", "|", error.message, "|", error.hint)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up capabilities")
@pytest.mark.parametrize("lacking", LACKING)
def test_what_is_forbidden_says_which_privilege_is_missing(lacking: str) -> None:
    done = subprocess.run(
        ["unshare", "--net", *lacking.split(), sys.executable, "-c", TRIED],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    for line in done.stdout.splitlines():
        program, said, hint = line.split(" | ")
        is_forbidden = bool(FORBIDDEN.search(said))
        assert is_forbidden == (program != "false"), line
        assert hint.startswith(LACKING[lacking]) == is_forbidden, line
    assert len(done.stdout.splitlines()) == 6


@pytest.mark.skipif(os.geteuid() != 0, reason="gives up capabilities")
def test_the_old_iptables_needs_a_raw_socket_as_well() -> None:
    lacking = "setpriv --bounding-set=-net_raw --inh-caps=-net_raw"
    done = subprocess.run(
        [
            "unshare",
            "--net",
            *lacking.split(),
            sys.executable,
            "-c",
            TRIED.partition("for ways")[0],
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith("iptables-legacy")]
    assert "ermission denied" in line
    assert "give nmk the capability NET_RAW, which it lacks" in line
