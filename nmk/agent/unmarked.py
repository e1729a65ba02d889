"""An exit node where the kernel's reverse path filter cannot be told of the mark.

With a strict filter the machine would drop what comes past the tunnel: WireGuard's own packets and
the controller's answers (kernel: ip-sysctl, rp_filter, src_valid_mark).
"""

from __future__ import annotations

from dataclasses import replace

from nmk.agent.membership import Membership
from nmk.agent.others import interfaces_of
from nmk.core.commands import command
from nmk.core.parse import EVERYTHING
from nmk.core.route_table import NO_TABLE, RouteTable
from nmk.core.surroundings import VALID_MARK, Surroundings, without_exit
from nmk.errors import CommandFailed
from nmk.system import sysctl
from nmk.system.reverse_path import strict_settings

LEFT_OUT = "the exit node is left out"


def without_mark(me: Membership, want: Surroundings) -> tuple[Surroundings, CommandFailed | None]:
    """What of it may be there; and why the exit node is left out, where it is.

    All of it where the mark is told of, or can be. Where no filter is strict it is not needed.
    """
    if _is_told(want) or sysctl.is_writable(VALID_MARK):
        return want, None
    rest = {path: value for path, value in want.sysctls.items() if path != VALID_MARK}
    why = why_unmarked(me, want)
    table = leave_out_exit(me, want.table) if why else want.table
    return replace(want, sysctls=rest, table=table), why


def leave_out_exit(me: Membership, table: RouteTable) -> RouteTable:
    """What is left without the way by an exit node, also one that is there: nothing gets back."""
    return without_exit(me.order, table, NO_TABLE)


def why_unmarked(me: Membership, want: Surroundings) -> CommandFailed | None:
    """Why everything cannot go by an exit node, with the settings as they are now."""
    if _is_told(want) or want.table.led.isdisjoint(EVERYTHING):
        return None
    ours = {me.interface, *interfaces_of(me), "lo"}
    strict = [name for name in strict_settings() if name not in ours]
    if not strict:
        return None
    loosen = command("sysctl", "-w", f"net/ipv4/conf/{strict[0]}/rp_filter=2")
    return CommandFailed(
        f"{LEFT_OUT}: net.ipv4.conf.{strict[0]}.rp_filter is strict, and "
        "net.ipv4.conf.all.src_valid_mark cannot be set to 1",
        f"{loosen} where /proc/sys can be written, in a container on its host; then: nmk checkin",
    )


def _is_told(want: Surroundings) -> bool:
    """Whether there is nothing to tell, or it has been told."""
    return VALID_MARK not in want.sysctls or sysctl.read(VALID_MARK) != "0"
