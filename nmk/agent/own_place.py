"""The place of a network among all of this machine: the number that its rules and tables go by.

No two networks may have the same one. A state file that was put back may name one that is another's
by now, or one that the network has left since.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from nmk.agent import state
from nmk.agent.membership import Membership
from nmk.agent.others import interfaces_of, places_of
from nmk.core.route_table import FIRST_ORDER, NO_ORDER, NO_TABLE, RouteTable, plan_table, table_of
from nmk.errors import NotJoined, StateDamaged
from nmk.system import routes
from nmk.system.runner import Runner


def next_order(network: str, run: Runner) -> int:
    """The place of a network that is new: above those of all others, wherever their states are.

    And one of which the machine has no rules: whoever's they are, they would be taken for its own.
    """
    last = max(places_of(network).values(), default=FIRST_ORDER - 1)
    laid = routes.orders(run)
    free = (n for n in range(last + 1, last + 10 + len(laid)) if n not in laid)
    return next((n for n in free if not routes.is_lan_rule_taken(run, n)), last + 1)


def settle(me: Membership, run: Runner) -> Membership:
    """The membership in a place that no other network has; its file says so before it is laid.

    Of two that have the same one that moves whose file was put back; else the later by its name.
    One that only its interface tells of, as a container's beside this one, stays where it is. What
    moves takes its routes along, and what else is laid there is the other's. Hold the lock. Raises
    CommandFailed, StateUnwritable.
    """
    if me.order == NO_ORDER or state.tells_laid(me.network):
        return me
    here = state.networks()
    same = [name for name, order in places_of(me.network).items() if order == me.order]
    is_first = all(n in here and not state.tells_laid(n) and me.network < n for n in same)
    table, theirs = table_of(me.order), interfaces_of(me)
    if is_first and not any(routes.leads_into(run, table, name) for name in theirs):
        return me
    live = routes.probe_table(run, me.order, me.interface)
    _make(me, me.order, replace(live, led=frozenset()), live, run)
    order = next_order(me.network, run)
    if not run.dry:
        with suppress(StateDamaged, NotJoined):  # what can be read of it is made out anew each time
            state.save(replace(state.load(me.network), order=order))
    return replace(me, order=order)


def leave_others(me: Membership, run: Runner) -> None:
    """What the network has laid in places that are no network's goes. Raises CommandFailed.

    While its interface is there: whose they are is told by routes that lead into that.
    """
    taken = {me.order, *places_of(me.network).values()}
    for order in routes.orders(run) - taken:
        if routes.leads_into(run, table_of(order), me.interface):
            _make(me, order, NO_TABLE, routes.probe_table(run, order, me.interface), run)


def _make(me: Membership, order: int, want: RouteTable, live: RouteTable, run: Runner) -> None:
    for command in plan_table(order, me.interface, want, live):
        run.change(command)
