"""The files that start nmk with the machine, for the ways in which machines start things.

systemd.service(5), systemd.exec(5), openrc-run(8), crontab(5).
"""

from __future__ import annotations

from collections.abc import Mapping

ROLES: dict[str, str] = {
    "agent": "nmk agent: keeps this machine in its WireGuard mesh",
    "server": "nmk controller: manages WireGuard mesh networks",
}
_CAPABILITIES = {
    # DAC_OVERRIDE: hooks and files of other users, as root is used to
    "agent": "CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_DAC_OVERRIDE",
    "server": "CAP_NET_BIND_SERVICE",
}
_FAMILIES = {
    "agent": "AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET",
    "server": "AF_UNIX AF_INET AF_INET6 AF_NETLINK",
}
# wireguard-go is a process of its own, which must outlive the agent that started it.
_ROLE_LINES = {
    "agent": "KillMode=process\nWatchdogSec=180\nDeviceAllow=/dev/net/tun rw\nProtectSystem=full\n",
    "server": (
        "ProtectSystem=strict\nPrivateDevices=yes\nUMask=0077\nLimitNOFILE=65536\n"
        "ProtectKernelTunables=yes\n"
    ),
}


def render_systemd(role: str, program: str, environment: Mapping[str, str]) -> str:
    """The unit `nmk-ROLE.service`. `environment` is what the service is to find set."""
    settings = "".join(f'Environment="{k}={v}"\n' for k, v in sorted(environment.items()))
    return f"""\
[Unit]
Description={ROLES[role]}
Wants=network-online.target
After=network-online.target

[Service]
Type=notify
ExecStart={program} {role}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5
{settings}{_ROLE_LINES[role]}StateDirectory=nmk
StateDirectoryMode=0755
CacheDirectory=nmk
CacheDirectoryMode=0700
CapabilityBoundingSet={_CAPABILITIES[role]}
RestrictAddressFamilies={_FAMILIES[role]}
NoNewPrivileges=yes
DevicePolicy=closed
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateTmp=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=multi-user.target
"""


def render_openrc(role: str, program: str, environment: Mapping[str, str]) -> str:
    """The script `/etc/init.d/nmk-ROLE`."""
    settings = "".join(f'export {k}="{v}"\n' for k, v in sorted(environment.items()))
    return f"""\
#!/sbin/openrc-run
description="{ROLES[role]}"
supervisor=supervise-daemon
command="{program}"
command_args="{role}"
respawn_delay=5
respawn_max=0
extra_started_commands="reload"
{settings}
depend() {{
	need net
	after firewall
}}

reload() {{
	ebegin "Reloading $RC_SVCNAME"
	supervise-daemon "$RC_SVCNAME" --signal HUP
	eend $?
}}
"""


def cron_line(program: str, environment: Mapping[str, str]) -> str:
    """The check-in a minute, as /etc/cron.d holds it."""
    settings = "".join(f"{k}={v} " for k, v in sorted(environment.items()))
    return f"* * * * * root {settings}{program} checkin --quiet --splay 30"


def render_cron(program: str, environment: Mapping[str, str]) -> str:
    """The file `/etc/cron.d/nmk`, for the agent."""
    line = cron_line(program, environment)
    return f"""\
# Keeps this machine in its WireGuard mesh; made by: nmk service install
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
{line.replace("* * * * *", "@reboot").removesuffix(" --splay 30")}
{line}
"""
