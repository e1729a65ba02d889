"""Every hint is possible on the machine that prints it, whatever that machine has."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from nmk import tools
from nmk.agent import service
from nmk.agent.checks import controller, firewall, machine, peers
from nmk.agent.reach import Visit
from nmk.cli import controller_check
from nmk.cli.machine import next_steps
from nmk.cli.machine_seeing import finding_lines
from nmk.cli.main import COMMANDS
from nmk.cli.output import say_text
from nmk.core.findings import Finding
from nmk.core.firewall import Stopped
from nmk.core.text import call_by
from nmk.errors import NmkError, ToolMissing
from nmk.system import echo, facts, ssh, wireguard
from nmk.system.runner import Runner, find_tool
from tests.agent.memberships import joined
from tests.cli.inprocess import nmk

SOURCE = Path(tools.__file__).parent
BASE = {"sh", "echo", "cat", "chmod", "date", "df"}
MACHINES: dict[str, set[str]] = {
    "debian": {"apt-get", "systemctl", "timedatectl", "curl", "sudo", "cron", "crontab", "nft"},
    "debian without systemd": {"apt-get", "timedatectl", "wget", "cron", "crontab"},
    "fedora": {"dnf", "yum", "systemctl", "timedatectl", "curl", "sudo", "firewall-cmd", "nft"},
    "suse": {"zypper", "systemctl", "curl", "sudo"},
    "arch": {"pacman", "systemctl", "sudo", "nft"},
    "alpine": {"apk", "rc-service", "rc-update", "wget", "crond", "crontab"},
    "openwrt": {"opkg", "wget", "crond", "crontab", "iptables", "ip6tables"},
    "synology": {"synopkg", "curl", "sudo", "crond", "iptables", "ip6tables"},
    "bare": set(),
}
PATHS: dict[str, set[str]] = {
    "debian": {"systemd", "cron.d", "crontab"},
    "debian without systemd": {"cron.d", "crontab"},
    "fedora": {"systemd"},
    "suse": {"systemd"},
    "arch": {"systemd"},
    "alpine": {"openrc"},
    "openwrt": set(),
    "synology": {"crontab"},
    "bare": set(),
}
KNOWN = {  # programs that a hint may name, and then has to be sure of
    *("apt-get", "dnf", "yum", "zypper", "pacman", "apk", "opkg", "synopkg"),
    *("systemctl", "timedatectl", "rc-service", "rc-update", "crontab", "sudo"),
    *("curl", "wget", "nft", "iptables", "ip6tables", "ufw", "firewall-cmd"),
}
FILES = {"/etc/cron.d": "cron.d", "/etc/crontab": "crontab", "/run/systemd": "systemd"}
WORD = re.compile(r"(?<![\w/.-])[a-z][a-z0-9-]*(?![\w/-])")


@pytest.fixture(params=MACHINES)
def kind(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A machine of that kind, made at the edge: what programs and directories there are."""
    name: str = request.param
    has = MACHINES[name] | BASE
    monkeypatch.setattr(shutil, "which", lambda tool, **_: f"/bin/{tool}" if tool in has else None)
    for variable in ("NMK_STATE_DIR", "NMK_CONFIG_DIR", "NMK_RUNTIME_DIR", "NMK_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("nmk.agent.service.cron_runs", lambda: bool(has & {"cron", "crond"}))
    monkeypatch.setattr(service, "find_tool", lambda _: "/bin/busybox")
    for attribute, module, there in (
        ("SYSTEMD", tools, "systemd"),
        ("OPENRC_RUNS", service, "openrc"),
        ("CRON_TABLES", service, "cron.d"),
        ("CRONTAB", service, "crontab"),
    ):
        path = tmp_path / there
        if there in PATHS[name]:
            path.mkdir()
        monkeypatch.setattr(module, attribute, path)
    return name


def raised(call: Callable[[], object]) -> str:
    """The hint of the error that a call raises."""
    with pytest.raises(NmkError) as caught:
        call()
    return caught.value.hint


def hints(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str | None]:
    """All hints that depend on what a machine has."""
    me, run = joined(), Runner()
    monkeypatch.setattr(wireguard, "kernel_has_wireguard", lambda: False)
    monkeypatch.setattr(wireguard, "userspace_program", lambda: None)
    monkeypatch.setattr(echo, "can_size", lambda _: False)
    monkeypatch.setattr("nmk.agent.checks.machine._version", lambda *_: "1")
    monkeypatch.setattr("nmk.agent.checks.network._starter", lambda: None)
    monkeypatch.setattr("nmk.agent.checks.network.last_check_in.age", lambda *_: 9, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    state = tmp_path / "home.json"
    state.touch()
    monkeypatch.setattr("nmk.agent.state.file_of", lambda _: state)
    (tmp_path / "controller.key").touch()
    stops = [
        Stopped(table, "input", "drop") for table in ("inet filter", "ip filter", "ip6 filter")
    ]
    found: dict[str, str | None] = {
        **{f"find {tool}": raised(partial(find_tool, tool)) for tool in ("wg", "ip", "x")},
        "no error of its own": ToolMissing("x").hint,
        "root": raised(lambda: facts.check_root("nmk x")),
        "ssh": raised(ssh.check_ssh),
        "wireguard": machine.check_wireguard(run)[0].mend,
        "mtu": peers.check_mtu(me, [], 1420, run)[0].mend,
        "firewall": firewall.check_firewall(me, 51821, None)[0].mend,
        "clock": controller.check_clock(me, [Visit("http://h:1", None, 0)], 1e10)[0].mend,
        "controller": controller.check_controller(me, [Visit("http://h:1", "is away", None)])[
            0
        ].mend,
        "keep": service.keep_hint("/usr/local/bin/nmk"),
        "own controller": controller_check.check_own_controller(tmp_path)[0].mend,
        **{f"tool {n}": f.mend for n, f in enumerate(machine.check_tools(run))},
    }
    if tools.has_tool("nft") or tools.has_tool("iptables"):
        for stop in stops:
            found[f"open {stop.table}"] = firewall.open_port(51821, stop)
            found[f"forward {stop.table}"] = firewall._forward(me, [], stop).mend
    return found


def test_hints_name_what_there_is(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, hint in hints(monkeypatch, tmp_path).items():
        if f"{hint}".endswith("in this machine's own way"):
            continue
        named = set(WORD.findall(hint or "")) & KNOWN
        assert named <= MACHINES[kind], (name, hint)
        for path, there in FILES.items():
            assert path not in (hint or "") or there in PATHS[kind], (name, hint)


@pytest.mark.parametrize(
    ("kind", "tool", "hint"),
    [
        ("debian", "wg", "apt-get install wireguard-tools"),
        ("debian", "ping", "apt-get install iputils-ping"),
        ("fedora", "ip", "dnf install iproute"),
        ("fedora", "wireguard-go", "use a kernel with WireGuard"),
        ("arch", "nft", "pacman -S nftables"),
        ("alpine", "ssh", "apk add openssh-client"),
        ("openwrt", "ip", "opkg install ip-full"),
        ("synology", "nft", "install nft in this machine's own way"),
        ("bare", "ping", "install the ping of iputils in this machine's own way"),
    ],
    indirect=["kind"],
)
def test_what_installs_a_tool(kind: str, tool: str, hint: str) -> None:
    assert kind
    assert tools.install_hint(tool).startswith(hint)


@pytest.mark.parametrize(
    ("kind", "hint"),
    [
        ("debian", "nmk service install agent"),
        ("alpine", "nmk service install agent"),
        ("openwrt", "(crontab -l; echo '* * * * * /nmk checkin"),
        ("synology", "have this machine start `/nmk agent`"),
        ("bare", "have this machine start `/nmk agent`"),
    ],
    indirect=["kind"],
)
def test_what_keeps_a_machine_up_to_date(kind: str, hint: str) -> None:
    found = service.keep_hint("/nmk")
    assert found.startswith(hint)
    assert ("* * * * * root /nmk checkin" in found) == (kind == "synology")


def test_cron_keeps_no_controller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(service, "systemd_runs", lambda: False)
    monkeypatch.setattr(service, "OPENRC_RUNS", tmp_path / "none")
    monkeypatch.setattr(service, "CRON_TABLES", tmp_path)
    monkeypatch.setattr(service, "_reads_cron_d", lambda: True)
    with pytest.raises(NmkError, match=r"^cron cannot keep a controller running$"):
        service.install("server", "/nmk", Runner(), lambda _: None)


@pytest.mark.parametrize(
    ("text", "called"),
    [
        ("nmk leave, then join again", "/nas/nmk leave, then join again"),
        ("or: nmk leave --force; nmk join -", "or: /nas/nmk leave --force; /nas/nmk join -"),
        ("down is `nmk up`", "down is `/nas/nmk up`"),
        ("nmk --help", "/nas/nmk --help"),
        ("on the controller: nmk key create", "on the controller: nmk key create"),
        ("nmk doctor, there", "nmk doctor, there"),
        ("on a machine that has nmk:  nmk join -", "on a machine that has nmk:  nmk join -"),
        ("use the nmk that wrote it", "use the nmk that wrote it"),
        ("have it start `/nas/nmk agent`", "have it start `/nas/nmk agent`"),
        ("nmk: it is down", "nmk: it is down"),
    ],
)  # fmt: skip
def test_commands_in_a_text_are_those_that_work_here(text: str, called: str) -> None:
    assert call_by(text, "/nas/nmk", COMMANDS) == called
    assert call_by(text, "nmk", COMMANDS) == text


@pytest.mark.parametrize("in_path", [False, True])
def test_hints_name_the_program_as_it_is_called(
    in_path: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    program = tmp_path / "my tools/nmk"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setattr(sys.modules["__main__"], "NMK_FILE", str(program), raising=False)
    monkeypatch.setenv("PATH", str(program.parent if in_path else tmp_path))
    monkeypatch.setattr(tools, "_SYSTEM_PATH", str(tmp_path))
    monkeypatch.setenv("NMK_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("NMK_DATA_DIR", str(tmp_path))
    called = "nmk" if in_path else f"'{program}'"
    assert f"  try: {called} join -" in nmk("join", stdin="").err
    assert f'"hint": "{called} join -' in nmk("doctor", "-n", "home", "-o", "json").err
    say_text(next_steps(joined()))
    assert f"\n  {called} status" in capsys.readouterr().err
    finding = Finding("interface", "broken", "it is away", "nmk checkin -n home")
    assert finding_lines(finding)[1].endswith(f"try: {called} checkin -n home")


def test_one_table_has_the_names_of_package_managers() -> None:
    """And nobody else writes a hint for one kind of machine."""
    names = re.compile(r"\b(apt-get|dnf|yum|zypper|pacman|apk|opkg) (install|add|-S)\b|timedatectl")
    for path in SOURCE.rglob("*.py"):
        if path.name != "tools.py":
            assert not names.search(path.read_text()), path


def test_no_command_of_a_hint_goes_on_in_words() -> None:
    """Whoever pastes it would give a comma and words to a program, which then may do more."""
    begins = r"(?:nmk|ip|nft|sysctl|chown|wg-quick|systemctl) "
    odd = re.compile(rf'"{begins}[^"`:;]*, (?:if|or) |\}}, (?:if|or (?:leave|end)) ')
    found = {
        f"{file.name}: {line.strip()}"
        for file in SOURCE.rglob("*.py")
        for line in file.read_text().splitlines()
        if odd.search(line) and '"""' not in line
    }
    assert found <= {'sysctl.py: return f"start a kernel {without}, or leave it so"'}
