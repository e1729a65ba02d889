"""Which kernel settings a network needs changed, and which are put back when it does not.

What a setting was before nmk changed it is noted in the state (`found`). It is put back when no
network needs it, unless something else on the machine has come to.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch

from nmk.agent.attempts import Attempts
from nmk.agent.membership import Membership
from nmk.agent.others import others_of
from nmk.core.commands import command
from nmk.core.ruleset import table_name
from nmk.core.surroundings import IPV4_FORWARDING, IPV6_FORWARDING, VALID_MARK, settings_of
from nmk.core.tunnel import Change
from nmk.errors import CommandFailed
from nmk.system import needs, routes, sysctl
from nmk.system.runner import Runner

_RESET = (  # by which setting, which ones, if they have this value
    (IPV4_FORWARDING, "net/ipv4/conf/*/forwarding", "1"),
    (IPV4_FORWARDING, "net/ipv4/conf/all/accept_redirects", "0"),
    (IPV6_FORWARDING, "net/ipv6/conf/*/forwarding", "1"),
)
_FORWARDS = (IPV4_FORWARDING, IPV6_FORWARDING)
_WITH_FORWARDING = (
    *((forwarding, pattern) for forwarding, pattern, _ in _RESET),
    (IPV6_FORWARDING, "net/ipv6/conf/*/accept_ra"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What is to be done about kernel settings, and what becomes of those that nmk changed.

    `values`: to be set, in this order, by their paths below /proc/sys; `found`: what those that
    stay changed were before; `stays`: which of nmk's are not put back, and for whom, a line each.
    """

    values: Mapping[str, str] = field(default_factory=dict)
    found: Mapping[str, str] = field(default_factory=dict)
    stays: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """The same for people."""
        return [*(f"set {_dotted(p)} to {value}" for p, value in self.values.items()), *self.stays]


SETTLED = Settings()


def plan_settings(me: Membership, wanted: Mapping[str, str], run: Runner) -> Settings:
    """What turns the kernel's settings into those that are wanted."""
    values, found = _plan_sysctls(me, wanted, run)
    back = {p: value for p, value in values.items() if p in me.found and p not in found}
    kept = _kept(back, run)
    stays = [
        f"{_dotted(path)} stays {sysctl.read(path)}: {user}"
        for path, user in kept.items()
        if sysctl.read(path) != me.found[path]
    ]
    values = {path: value for path, value in values.items() if path not in kept}
    return Settings(values, found, tuple(stays))


def _plan_sysctls(
    me: Membership, wanted: Mapping[str, str], run: Runner
) -> tuple[dict[str, str], dict[str, str]]:
    """The settings to write, and what those that nmk keeps changed were before."""
    if not (wanted or me.found):
        return {}, {}
    elsewhere = {path: v for other in others_of(me.network) for path, v in other.found.items()}
    wanted = {**_kept_routers(wanted, {*me.found, *elsewhere}, run), **wanted}
    settings: dict[str, str] = {}
    # Before what resets them, so that they are put back after it.
    found = _reset_with_forwarding(wanted, me.found, elsewhere)
    for path, value in wanted.items():
        now = sysctl.read(path)
        if now is None:
            continue
        before = me.found.get(path, elsewhere.get(path, now))
        if before != value:
            found[path] = before
        if now != value:
            settings[path] = value
    for path in reversed(list(me.found)):
        if path not in wanted and path not in elsewhere and path not in found:
            settings[path] = me.found[path]
    return settings, found


def settle_link(interface: str, run: Runner, tried: Attempts) -> list[Change]:
    """Give an interface that exists its own settings, whatever others have made of them.

    They go with it. Those that cannot be written, as in a container, stay as they are: what comes
    out of the tunnel and would make use of them, the packet filter drops.
    """
    changes = []
    for path, value in settings_of(interface).items():
        if sysctl.read(path) not in {None, value} and sysctl.is_writable(path):
            with tried.step():
                sysctl.write(run, path, value)
                changes.append(Change("surroundings", f"set {_dotted(path)} to {value}"))
    return changes


def stops_forwarding(me: Membership, run: Runner) -> bool:
    """Whether all forwarding on this machine is nmk's own, and about to be put back."""
    sysctls, _ = _plan_sysctls(me, {}, run)
    on = {path for path in _FORWARDS if sysctl.is_on(path)}
    ends = {path for path, value in sysctls.items() if path in on and value == "0"}
    return bool(on) and on == ends and not _kept({p: sysctls[p] for p in ends}, run)


def _kept(back: Mapping[str, str], run: Runner) -> dict[str, str]:
    """Which settings are not put back, and why: others have come to need them, or they cannot be.

    With forwarding stays what belongs to it.
    """
    needed = {}
    for path, value in back.items():
        user = None
        if sysctl.read(path) is not None and not sysctl.is_writable(path):
            user = _out_of_reach(path, value)
        elif path.endswith("/accept_ra"):
            user = None if sysctl.read(path) == "2" else "it has been changed since"
        elif path in {IPV4_FORWARDING, IPV6_FORWARDING, VALID_MARK}:
            user = needs.who_needs(run, path, table_name(""))
        if user:
            needed[path] = user
    for forwarding, pattern in _WITH_FORWARDING:
        if forwarding in needed:
            needed = {p: needed[forwarding] for p in back if fnmatch(p, pattern)} | needed
    return needed


def write_settings(me: Membership, settings: Settings, run: Runner, tried: Attempts) -> None:
    """Do what was planned, and say what stays. `me`: with what was found.

    What is not put back although it looked writable (capabilities(7)) keeps nothing else there.
    """
    for line in settings.stays:
        run.warn(line)
    for path, value in settings.values.items():
        now = sysctl.read(path)
        # Its interface may be gone; where it could not be changed it need not be put back.
        if now in {None, value}:
            continue
        try:
            sysctl.write(run, path, value)
        except CommandFailed as error:
            if path not in me.found or path in settings.found:
                tried.errors.append(error)
            else:
                run.warn(f"{_dotted(path)} stays {now}: {_out_of_reach(path, value)}")


def _out_of_reach(path: str, value: str) -> str:
    there = "where /proc/sys can be written, in a container on its host"
    return f"it cannot be put back here; {command('sysctl', '-w', f'{path}={value}')} {there}"


def _reset_with_forwarding(
    wanted: Mapping[str, str], found: Mapping[str, str], elsewhere: Mapping[str, str]
) -> dict[str, str]:
    """What other settings are, that the kernel resets when forwarding is switched off again.

    Each interface's own forwarding and, for IPv4, that redirects are refused (Linux,
    inet_forward_change, addrconf_fixup_forwarding). Noted when forwarding is switched on.
    """
    kept: dict[str, str] = {}
    for forwarding, pattern, value in _RESET:
        noted = next((n for n in (found, elsewhere) if forwarding in n), None)
        if forwarding not in wanted:
            continue
        if noted is not None:
            kept |= {p: v for p, v in noted.items() if fnmatch(p, pattern) and p not in wanted}
        elif sysctl.read(forwarding) == "0":
            there = (p for p in sysctl.paths(pattern) if p not in wanted)
            kept |= {p: value for p in there if sysctl.read(p) == value}
    return kept


def _kept_routers(
    wanted: Mapping[str, str], changed: Collection[str], run: Runner
) -> dict[str, str]:
    """Settings that keep advertised default routes: a host that forwards would drop them.

    accept_ra is 1 for hosts, 2 for hosts that forward and still listen (kernel: ip-sysctl).
    `changed`: what this network or another one on the machine has changed before.
    """
    if IPV6_FORWARDING not in wanted:
        return {}
    kept = {path: "2" for path in changed if path.endswith("/accept_ra")}
    if sysctl.read(IPV6_FORWARDING) == "0":
        for interface in routes.routers_by_advertisement(run):
            path = f"net/ipv6/conf/{interface}/accept_ra"
            if sysctl.is_on(path) and sysctl.read(path) != "2":
                kept[path] = "2"
    return kept


def _dotted(path: str) -> str:
    """A kernel setting as sysctl(8) calls it."""
    return path.replace("/", ".")
