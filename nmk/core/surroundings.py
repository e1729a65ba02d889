"""What a network needs on the machine beside its interface, as a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from nmk.core.nft_text import Own
from nmk.core.parse import EVERYTHING
from nmk.core.peers import View
from nmk.core.route_table import NO_TABLE, RouteTable, compile_table, rules_of
from nmk.core.routes import RouteWishes, Routing
from nmk.core.ruleset import render_kill_switch, render_ruleset

IPV4_FORWARDING = "net/ipv4/ip_forward"
IPV6_FORWARDING = "net/ipv6/conf/all/forwarding"
VALID_MARK = "net/ipv4/conf/all/src_valid_mark"


# Of the network's interface (kernel: ip-sysctl). It has no link: it gets addresses and routes from
# nobody but the agent, finds no router and no neighbour, and tells nobody of a better way.
_OF_THE_LINK = {
    "ipv4": {"accept_redirects": "0", "send_redirects": "0", "route_localnet": "0"},
    "ipv6": {
        "accept_ra": "0",
        "accept_redirects": "0",
        "autoconf": "0",
        "router_solicitations": "0",
        "addr_gen_mode": "1",  # none: no link-local address, as the kernel's own WireGuard has it
    },
}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`ruleset`: the content of the nft table, None for no table; `forwards`: packets of others.

    `sysctls`: values by their paths below /proc/sys; `is_wall`: the table is there only because the
    machine forwards, or opens its loopback, for its own reasons, and the tunnel may be there
    without it. The default needs nothing.
    """

    ruleset: str | None = None
    table: RouteTable = NO_TABLE
    sysctls: Mapping[str, str] = field(default_factory=dict)
    forwards: bool = False
    is_wall: bool = False


NOTHING = Surroundings()


def compile_surroundings(
    own: Own,
    order: int,
    view: View,
    routing: Routing,
    wishes: RouteWishes,
    *,
    any_exit: bool = False,
) -> Surroundings:
    """What the view and the owner's wishes ask for. `any_exit`: as in `compile_table`."""
    forwards = bool(view.gateway.roles)
    sysctls: dict[str, str] = {}
    if forwards:
        sysctls |= dict.fromkeys(forwarding_of(view), "1")
    if routing.table:
        sysctls[VALID_MARK] = "1"  # reverse path filters shall look the way up by the mark
    return Surroundings(
        ruleset=render_ruleset(own, view, routing, wishes),
        table=compile_table(order, view, routing, any_exit=any_exit),
        sysctls=sysctls,
        forwards=forwards,
        is_wall=(own.forwards or own.loopback)
        and not (forwards or routing.table or wishes.guarded),
    )


def settings_of(interface: str) -> dict[str, str]:
    """The kernel settings of a network's interface, by their paths below /proc/sys."""
    return {
        f"net/{family}/conf/{interface}/{name}": value
        for family, settings in _OF_THE_LINK.items()
        for name, value in settings.items()
    }


def forwarding_of(view: View) -> list[str]:
    """The kernel settings by which a gateway forwards, of the families that it has to."""
    cidrs = (*view.cidrs, *view.gateway.ranges)
    families = ((IPV4_FORWARDING, False), (IPV6_FORWARDING, True))
    return [path for path, colon in families if any((":" in c) == colon for c in cidrs)]


def compile_kill_switch(own: Own, view: View, wishes: RouteWishes) -> Surroundings:
    """What stays while the interface is down: nothing, or what cuts the machine off."""
    return Surroundings(ruleset=render_kill_switch(own, view, wishes))


def without_exit(order: int, want: RouteTable, live: RouteTable) -> RouteTable:
    """What may be laid where no filter stands beside it: no way by an exit node but a live one."""
    rules = rules_of(order)
    both = {(family, r) for family in (4, 6) for r in (rules.lan, rules.ranges)}
    ranges = rules.links | rules.lans | both
    everything = frozenset(EVERYTHING)
    return RouteTable(
        (want.led - everything) | (want.led & live.led),
        (want.rules & ranges) | (want.rules & live.rules),
        shut=want.shut and live.shut,
    )
