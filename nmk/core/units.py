"""The files that start nmk with the machine, for the ways in which machines start things.

systemd.service(5), systemd.exec(5), openrc-run(8), crontab(5).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath

ROLES: dict[str, str] = {
    "agent": "nmk agent: keeps this machine in its WireGuard mesh",
    "server": "nmk controller: manages WireGuard mesh networks",
}
_ORDER = {
    # No network is needed to put a tunnel in place; that one has come makes the agent check in.
    "agent": "After=network.target\n",
    "server": "Wants=network-online.target\nAfter=network-online.target\n",
}
_CAPABILITIES = {
    # DAC_OVERRIDE: hooks and files of other users, as root is used to
    "agent": "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE",
    "server": "CAP_NET_BIND_SERVICE",
}
# wireguard-go is a process of its own, which must outlive the agent that started it. The lists of
# modules are how the agent knows that the kernel has WireGuard; it cannot load any by itself.
_ROLE_LINES = {
    # Of all in the unit the one that has grown is killed, and that is not the tunnel.
    "agent": (
        "KillMode=process\nMemoryMax=1G\nOOMPolicy=continue\nWatchdogSec=180\n"
        "DeviceAllow=/dev/net/tun rw\nProtectSystem=yes\n"
    ),
    "server": (
        "ProtectSystem=strict\nPrivateDevices=yes\nUMask=0077\nLimitNOFILE=65536\n"
        "MemoryMax=1G\nTasksMax=64\n"
        "ProtectKernelTunables=yes\nProtectKernelModules=yes\n"
    ),
}
_HOMES = ("/home", "/root", "/run/user")
_TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108  # no file of ours


def render_systemd(
    role: str, program: str, environment: Mapping[str, str], writes: Sequence[str] = ()
) -> str:
    """The unit `nmk-ROLE.service`.

    `environment` is what the service is to find set, `writes` are the directories that it writes
    to beside those that it has anyway. What it needs is never hidden from it.
    """
    needed = [program, *environment.values(), *writes]
    settings = "".join(f"Environment={_unit_word(f'{k}={v}')}\n" for k, v in environment.items())
    settings += "".join(f"ReadWritePaths={_unit_word(f'-{path}')}\n" for path in writes)
    return f"""\
[Unit]
Description={ROLES[role]}
{_ORDER[role]}
[Service]
Type=notify
ExecStart={_unit_word(program).replace("$", "$$")} {role}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5
{settings}{_ROLE_LINES[role]}StateDirectory=nmk
StateDirectoryMode=0711
CacheDirectory=nmk
CacheDirectoryMode=0700
CapabilityBoundingSet={_CAPABILITIES[role]}
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
SystemCallArchitectures=native
NoNewPrivileges=yes
DevicePolicy=closed
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateTmp={"no" if _are_below(_TEMPORARY, needed) else "yes"}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome={"read-only" if _are_below(_HOMES, needed) else "yes"}
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectProc=invisible
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes

[Install]
WantedBy=multi-user.target
"""


def openrc_log(role: str) -> str:
    """Where a service of OpenRC writes what it says."""
    return f"/var/log/nmk-{role}.log"


def render_openrc(role: str, program: str, environment: Mapping[str, str]) -> str:
    """The script `/etc/init.d/nmk-ROLE`."""
    settings = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in environment.items())
    return f"""\
#!/sbin/openrc-run
description="{ROLES[role]}"
supervisor=supervise-daemon
command={shlex.quote(program)}
command_args="{role}"
respawn_delay=5
respawn_max=0
output_log={openrc_log(role)}
error_log={openrc_log(role)}
extra_started_commands="reload"
{settings}
depend() {{
	use net logger
	after firewall
}}

reload() {{
	ebegin "Reloading $RC_SVCNAME"
	supervise-daemon "$RC_SVCNAME" --signal HUP
	eend $?
}}
"""


def cron_line(program: str, environment: Mapping[str, str], user: str = "root ") -> str:
    """The check-in a minute, as /etc/cron.d holds it; with `user` empty as a crontab does."""
    command = [*(f"{k}={_cron_word(v)}" for k, v in environment.items()), _cron_word(program)]
    return f"* * * * * {user}{' '.join(command)} checkin --quiet --splay 30"


def render_cron(program: str, environment: Mapping[str, str]) -> str:
    """The file `/etc/cron.d/nmk`, for the agent."""
    line = cron_line(program, environment)
    return f"""\
# Keeps this machine in its WireGuard mesh; made by: nmk service install
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
{line.replace("* * * * *", "@reboot").removesuffix(" --splay 30")}
{line}
"""


def _are_below(tops: Iterable[str], paths: Iterable[str]) -> bool:
    """Whether any of the paths is in any of the directories."""
    parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents}
    return not parents.isdisjoint(tops)


def _unit_word(text: str) -> str:
    """A word of a unit, which has specifiers and quoting of its own."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _cron_word(text: str) -> str:
    """A word of the command in a crontab, where a bare % ends it."""
    return shlex.quote(text).replace("%", "\\%")
