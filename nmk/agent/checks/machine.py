"""The machine: WireGuard, programs, forwarding, the state directory."""

from __future__ import annotations

import re
from pathlib import Path

from nmk.agent import state
from nmk.agent.hooks import hooks_directory
from nmk.agent.lock import find_stuck
from nmk.agent.places import find_exposure, state_directory
from nmk.agent.service import outdated
from nmk.core.findings import Finding
from nmk.core.hooks import NAMES
from nmk.errors import NmkError, ToolMissing
from nmk.system import filesystem, wireguard
from nmk.system.iproute import check_ip
from nmk.system.runner import Runner
from nmk.system.script import find_fault, find_start_fault
from nmk.tools import has_tool, install_hint

_VERSIONS = {
    "wg": ("wg", "--version"),
    "ip": ("ip", "-V"),
    "ping": ("ping", "-V"),
    "nft": ("nft", "--version"),
}
_NEEDED = ("wg", "ip")
_NAMING = f"name it for an event: {', '.join(NAMES)}"
_VERSION = re.compile(r"\d+\.[\w.]+|\d{8}")  # 1.0.6, or a day: 20221126
_FORWARDING = {
    4: Path("/proc/sys/net/ipv4/ip_forward"),
    6: Path("/proc/sys/net/ipv6/conf/all/forwarding"),
}


def check_wireguard(run: Runner) -> list[Finding]:
    """Which WireGuard there is, the kernel's or a userspace one."""
    if wireguard.kernel_has_wireguard():
        return [Finding("wireguard", "ok", "the kernel has it")]
    program = wireguard.userspace_program()
    if program is None:
        return [
            Finding(
                "wireguard",
                "broken",
                "neither the kernel has it, nor is a userspace one installed",
                install_hint("wireguard-go"),
            )
        ]
    if fault := wireguard.tun_fault():
        mend = "modprobe tun; a container is to be given it: docker run --device /dev/net/tun"
        reason = f"{program} can make no interface: /dev/net/tun: {fault}"
        return [Finding("wireguard", "broken", reason, mend)]
    version = _version(run, (program, "--version"))
    reason = f"{program} {version} in userspace: it works, slower than a kernel's would"
    return [Finding("wireguard", "ok", reason)]


def check_tools(run: Runner) -> list[Finding]:
    """Programs that nmk drives or looks with, and their versions."""
    missing = [
        Finding(
            "tools",
            "broken" if name in _NEEDED else "warn",
            f"{name} is not installed",
            install_hint(name),
        )
        for name in _VERSIONS
        if not has_tool(name)
    ]
    there = [f"{n} {_version(run, argv)}" for n, argv in _VERSIONS.items() if has_tool(n)]
    if has_tool("ip"):
        try:
            check_ip(run)
        except ToolMissing as error:
            missing.append(Finding("tools", "broken", error.message, error.hint))
            there = [line for line in there if not line.startswith("ip ")]
    return [Finding("tools", "ok", ", ".join(there)), *missing] if there else missing


def check_forwarding() -> list[Finding]:
    """Whether the machine passes packets on: only a gateway has to."""
    states = []
    for family, path in _FORWARDING.items():
        try:
            states.append(f"IPv{family} {'on' if path.read_text().strip() != '0' else 'off'}")
        except OSError:
            states.append(f"IPv{family} not there")
    return [Finding("forwarding", "ok", f"{', '.join(states)}; only gateways need it")]


def check_lock() -> list[Finding]:
    """Whether another run keeps all others from this machine; nothing where none does."""
    held = find_stuck()
    if held is None:
        return []
    return [Finding("lock", "broken", f"{held.message}: no other can change anything", held.hint)]


def check_agent() -> list[Finding]:
    """Whether an agent runs that is not this nmk; nothing where none does."""
    reason = "`nmk agent`, process {}, is another nmk than this: the file was replaced since"
    return [Finding("agent", "warn", reason.format(n), mend) for n, mend in outdated("agent")]


def check_state() -> list[Finding]:
    """Whether what the machine knows outlives a reboot, and nobody else reads or replaces it."""
    directory = state_directory()
    found = []
    if fault := find_exposure():
        reason = f"the state in {directory} is not safe: {fault.reason}"
        found.append(Finding("state", "warn", reason, fault.mend))
    files = (p for p in map(state.file_of, state.networks()) if p.exists())
    open_files = [p for p in files if p.stat().st_mode & 0o077]
    if open_files:
        names = " ".join(str(p) for p in open_files)
        reason = f"others can read {names}"
        return [*found, Finding("state", "broken", reason, f"chmod 600 {names}")]
    if filesystem.is_volatile(directory):
        reason = f"{directory} is forgotten at a reboot, and with it the networks"
        mend = "set NMK_STATE_DIR to a directory that lasts, and join again"
        found.append(Finding("state", "warn", reason, mend))
    return found or [Finding("state", "ok", f"{directory} outlives a reboot")]


def check_hooks() -> list[Finding]:
    """Whether the owner's hooks would be run; nothing where there are none."""
    directory = hooks_directory()
    there = sorted(directory.iterdir()) if directory.is_dir() else []
    known = [program for program in there if program.name in NAMES]
    faults = {p: find_fault(p) or find_start_fault(p) for p in known}
    found = [
        Finding("hooks", "broken", f"{program.name} is not run: {fault.reason}", fault.mend)
        for program, fault in faults.items()
        if fault
    ]
    found += [
        Finding("hooks", "warn", f"{p} is never run: no event has that name", _NAMING)
        for p in there
        if p not in faults
    ]
    well = [program.name for program in known if not faults[program]]
    ok = Finding("hooks", "ok", f"{', '.join(well)} in {directory}")
    return [ok, *found] if well else found


def _version(run: Runner, argv: tuple[str, ...]) -> str:
    try:
        found = _VERSION.search(run.read(argv))
    except NmkError:
        return "(no version)"
    return found[0] if found else "(no version)"
