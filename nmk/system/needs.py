"""What else on this machine needs a kernel setting that nmk has switched on. Only looks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nmk.core.nesting import read_json
from nmk.core.surroundings import IPV4_FORWARDING, IPV6_FORWARDING, VALID_MARK
from nmk.core.tunnel import MARK
from nmk.errors import CommandFailed, NmkError
from nmk.files import open_regular
from nmk.system.facts import own_subnets
from nmk.system.firewall import legacy_rules
from nmk.system.runner import Runner
from nmk.tools import has_tool

_NET = Path("/sys/class/net")
# sysctl.d(5): of files with one name the first directory's counts, and all go by their names.
_DIRECTORIES = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d")
_AFTER = ("/etc/sysctl.conf", "/etc/ufw/sysctl.conf")
_MOST_BYTES = 256 * 1024
_TABLE = re.compile(r"table (\S+) (\S+) \{")
_TRANSLATES = re.compile(r'\b(?:masquerade|snat)\b|"(?:MASQUERADE|SNAT)"|-j (?:MASQUERADE|SNAT)\b')
_FAMILIES = {IPV4_FORWARDING: ("ip", "inet"), IPV6_FORWARDING: ("ip6", "inet")}


def who_needs(run: Runner, path: str, own: str) -> str | None:
    """Who needs the setting at a path as it is now, None for nobody.

    `own`: what the names of nmk's tables in nft begin with. A file of sysctl.d(5); for forwarding a
    bridge that leads nowhere but into this machine (Docker, libvirt), and address translation; for
    `src_valid_mark` a routing rule that looks at another mark.
    """
    file = _file_that_sets(path)
    if file:
        return f"{file} sets it"
    if path in _FAMILIES:
        return _inner_bridge(path) or _translation(run, path, own)
    return _marks(run) if path == VALID_MARK else None


def _file_that_sets(path: str) -> str | None:
    """The file that sets it to what it is now."""
    try:
        now = Path("/proc/sys", path).read_text().strip()
    except OSError:
        return None
    last: tuple[str, str] | None = None
    for file in _files():
        for line in _read(file).splitlines():
            name, _, value = line.strip().removeprefix("-").partition("=")
            if _as_path(name.strip()) == path:
                last = (value.strip(), str(file))
    return last[1] if last and last[0] == now else None


def _files() -> Iterator[Path]:
    named: dict[str, Path] = {}
    for directory in reversed(_DIRECTORIES):
        named |= {file.name: file for file in Path(directory).glob("*.conf")}
    yield from (named[name] for name in sorted(named))
    yield from map(Path, _AFTER)


def _as_path(name: str) -> str:
    """A setting's name as its path: its first separator is the one that is meant (sysctl.d(5))."""
    first = re.search(r"[./]", name)
    swapped = name.translate(str.maketrans("./", "/."))
    return swapped if first and first[0] == "." else name


def _read(file: Path) -> str:
    try:
        with open_regular(file) as opened:
            return opened.read(_MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _inner_bridge(path: str) -> str | None:
    for interface, subnet in own_subnets():
        ports = [_NET / port.name for port in (_NET / interface).glob("brif/*")]
        leads_out = any((p / "device").exists() or any(p.glob("lower_*")) for p in ports)
        is_six = ":" in subnet
        is_inner = (_NET / interface / "bridge").exists() and not leads_out
        if is_inner and is_six == (path == IPV6_FORWARDING):
            return f"the bridge {interface} ({subnet}) is there"
    return None


def _translation(run: Runner, path: str, own: str) -> str | None:
    said = "the packet filter translates addresses"
    with suppress(CommandFailed):
        for family, tool, text in legacy_rules(run, "nat"):
            if family in _FAMILIES[path] and _TRANSLATES.search(text):
                return f"{said} ({family} nat, {tool})"
    if not has_tool("nft"):
        return None
    table, is_theirs = ("", ""), False
    with suppress(NmkError):
        for line in run.read(["nft", "--stateless", "list", "ruleset"]).splitlines():
            if match := _TABLE.match(line):
                table = (match[1], match[2])
                is_theirs = table[0] in _FAMILIES[path] and not table[1].startswith(own)
            elif is_theirs and _TRANSLATES.search(line):
                return f"{said} ({' '.join(table)})"
    return None


def _marks(run: Runner) -> str | None:
    with suppress(NmkError, ValueError):
        for rule in read_json(run.read(["ip", "-json", "-4", "rule", "show"])):
            mark = rule.get("fwmark")
            if mark and mark != f"{MARK:#x}":
                return f"a routing rule looks at the mark {mark}"
    return None
