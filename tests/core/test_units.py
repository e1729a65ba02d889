"""Units, scripts and crontabs: whatever is in a path or a variable stays what it is."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from nmk.core.units import cron_line, render_cron, render_openrc, render_systemd

NMK = "/usr/local/bin/nmk"
STRANGE = """/srv/a b%c$d"e'f\\g"""


def lines(unit: str, key: str) -> list[str]:
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{key}=")]


@pytest.mark.parametrize("role", ["agent", "server"])
def test_what_a_role_does_not_need_is_hidden_from_it(role: str) -> None:
    unit = render_systemd(role, NMK, {})
    assert lines(unit, "ExecStart") == [f'"{NMK}" {role}']
    assert lines(unit, "ProtectHome") == ["yes"]
    assert lines(unit, "PrivateTmp") == ["yes"]
    assert lines(unit, "ReadWritePaths") == lines(unit, "Environment") == []


def test_what_a_role_needs_is_not_hidden_from_it() -> None:
    at_home = render_systemd("agent", "/home/ada/nmk", {})
    assert lines(at_home, "ProtectHome") == ["read-only"]
    kept = render_systemd("agent", NMK, {"NMK_STATE_DIR": "/root/state"}, ["/root/state"])
    assert lines(kept, "ProtectHome") == ["read-only"]
    assert lines(kept, "ReadWritePaths") == ['"-/root/state"']
    assert lines(render_systemd("server", NMK, {}, ["/tmp/data"]), "PrivateTmp") == ["no"]
    assert lines(render_systemd("server", NMK, {}, ["/homes/x"]), "ProtectHome") == ["yes"]


def test_units_are_bounded_and_a_kill_for_memory_does_not_stop_the_rest() -> None:
    agent, server = (render_systemd(role, NMK, {}) for role in ("agent", "server"))
    assert lines(agent, "MemoryMax") == lines(server, "MemoryMax") == ["1G"]
    assert lines(agent, "OOMPolicy") == ["continue"]
    assert lines(server, "TasksMax") == ["64"]


def test_userspace_wireguard_outlives_the_agent_and_only_the_agent_gets_its_device() -> None:
    agent, server = (render_systemd(role, NMK, {}) for role in ("agent", "server"))
    assert lines(agent, "KillMode") == ["process"]
    assert lines(agent, "DeviceAllow") == ["/dev/net/tun rw"]
    assert lines(agent, "WatchdogSec") == ["180"]
    assert lines(server, "KillMode") == lines(server, "DeviceAllow") == []
    assert lines(server, "PrivateDevices") == ["yes"]


def test_a_strange_path_in_a_unit() -> None:
    unit = render_systemd("agent", STRANGE, {"NMK_STATE_DIR": STRANGE})
    assert lines(unit, "ExecStart") == ['"/srv/a b%%c$$d\\"e\'f\\\\g" agent']
    assert lines(unit, "Environment") == ['"NMK_STATE_DIR=/srv/a b%%c$d\\"e\'f\\\\g"']


def test_a_strange_path_in_a_script_of_openrc() -> None:
    script = render_openrc("agent", STRANGE, {"NMK_STATE_DIR": STRANGE})
    check = f'{script}\nprintf "%s\\n" "$command" "$NMK_STATE_DIR"'
    done = subprocess.run(["sh", "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout == f"{STRANGE}\n{STRANGE}\n"


def test_a_strange_path_in_a_crontab() -> None:
    line = cron_line(STRANGE, {"NMK_STATE_DIR": STRANGE}, user="")
    command = line.removeprefix("* * * * * ").replace("\\%", "%")  # as crontab(5) has it
    assert shlex.split(command) == [
        f"NMK_STATE_DIR={STRANGE}",
        STRANGE,
        "checkin",
        "--quiet",
        "--splay",
        "30",
    ]


def test_the_table_of_cron() -> None:
    entries = [line for line in render_cron(NMK, {}).splitlines() if line[0] in "@*"]
    assert entries == [
        f"@reboot root {NMK} checkin --quiet",
        f"* * * * * root {NMK} checkin --quiet --splay 30",
    ]
