"""`nmk doctor`: looks at everything that the mesh needs on this machine, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from nmk.agent import elsewhere, liveness, state
from nmk.agent.checks import controller, firewall, gateway, machine, network, peers, reverse_path
from nmk.agent.desired import desired, listen_port
from nmk.agent.exits import observe_damaged
from nmk.agent.membership import Membership
from nmk.agent.peer_status import bear_with, describe_peers
from nmk.agent.places import state_directory
from nmk.agent.reach import Visit, visit_all
from nmk.agent.salvage import guarded, leftovers
from nmk.agent.settings import local_settings, unread
from nmk.agent.status import live
from nmk.agent.tick import collect_facts
from nmk.core.findings import Finding
from nmk.errors import NmkError, StateDamaged
from nmk.system.firewall import read_tables
from nmk.system.runner import Runner
from nmk.unforeseen import as_ours, ours

Check = Callable[[], list[Finding]]


def examine(networks: list[str], run: Runner, clock: Callable[[], float]) -> Iterator[Finding]:
    """Findings as they come, the machine's first. `clock`: seconds since 1970.

    A machine that is in no network lacks nothing that it needs now: that is no more than a warning.
    """
    for found in _examine_machine(run):
        is_needed = networks or found.level != "broken"
        reason = f"{found.reason}; a machine needs it to join a network"
        yield found if is_needed else replace(found, level="warn", reason=reason)
    yield from attempt("leftovers", None, lambda: check_leftovers(run))
    yield from attempt("agent", None, machine.check_agent)
    if networks:
        yield from attempt("lock", None, machine.check_lock)
        yield from attempt("state", None, machine.check_state)
        yield from attempt("hooks", None, machine.check_hooks)
    for name in networks:
        yield from _examine_network(name, run, clock)


def _examine_machine(run: Runner) -> Iterator[Finding]:
    yield from attempt("wireguard", None, lambda: machine.check_wireguard(run))
    yield from attempt("tools", None, lambda: machine.check_tools(run))
    yield from attempt("forwarding", None, machine.check_forwarding)


def _examine_network(name: str, run: Runner, clock: Callable[[], float]) -> Iterator[Finding]:
    try:
        with as_ours():
            me = state.load(name)
            local = local_settings(name, me)
    except NmkError as error:
        if isinstance(error, StateDamaged):
            elsewhere.point_there(error, name)
        yield Finding("state", "broken", error.message, error.hint, name)
        if isinstance(error, StateDamaged):
            left, out = guarded(name, run), observe_damaged(name, run)
            for problem in unread(left):
                yield Finding("applied", "warn", problem.message, problem.hint, name)
            yield from gateway.check_kill_switch(name, out)
            yield from gateway.way_out_findings(left, out)
        return
    visits: list[Visit] = []

    def visit_controller() -> list[Finding]:
        visits.extend(visit_all(me.urls))
        return [
            *controller.check_controller(me, visits),
            *controller.check_claimed(me, visits, run),
        ]

    checks: dict[str, Check] = {
        "controller": visit_controller,
        "clock": lambda: controller.check_clock(me, visits, clock()),
        "interface": lambda: network.check_interface(me, run, local),
    }
    gateways = {"gateway": lambda: gateway.check_surroundings(me, run, local)}
    if me.phase == "deleted":
        checks |= gateways
    if me.phase == "joined":
        checks |= {
            "applied": lambda: network.check_applied(me, run),
            "changed": lambda: network.check_undone(me, clock()),
            "check-ins": lambda: network.check_check_ins(me, clock(), local),
            "identity": lambda: network.check_identity(me),
            "revision": lambda: network.check_revision(me),
            "overlap": lambda: network.check_overlap(me, run, local),
            **gateways,
            "reverse-path": lambda: reverse_path.check_reverse_path(
                me, desired(me, local, ()).routing, run
            ),
            "firewall": lambda: firewall.check_firewall(
                me, listen_port(me, local), read_tables(run), read_tables(run, "nat") or ()
            ),
        }
    for check, look in checks.items():
        yield from attempt(check, name, look)
    yield from attempt("peers", name, lambda: _look_at_peers(me, run, clock()))


def check_leftovers(run: Runner) -> list[Finding]:
    """What is nmk's here and of no network that this machine is in: it may cut the machine off."""
    left = leftovers(run)
    if left.elsewhere:
        there = elsewhere.told(left.elsewhere)
        reason = f"{state_directory()} is looked at, and this machine is in {there}"
        found = Finding("leftovers", "warn", reason, left.elsewhere[0].by("nmk doctor"))
        return [replace(found, level="broken") if any(e.missing for e in left.elsewhere) else found]
    if not left:
        return []
    what = [f"the packet filter or interface of {n}" for n in left.networks]
    what += [f"the interface {name}" for name in left.interfaces]
    what += ["routing rules"] * bool(left.orders)
    return [
        Finding(
            "leftovers",
            "broken",
            f"of nmk, and of no network that this machine has a state of: {', '.join(what)}",
            left.cure,
        )
    ]


def _look_at_peers(me: Membership, run: Runner, now: float) -> list[Finding]:
    """How the peers are; nothing where the interface is not up, which has been said."""
    condition, dump = live(me, run)
    if condition != "up" or me.known is None:
        return []
    local = local_settings(me.network, me)
    lan, silent = collect_facts(me, local).lan, liveness.silent(me, dump)
    rows = describe_peers(me.known.view, dump, lan, now, {}, silent, me.network)
    rows = bear_with(rows, me, now)
    mtu = desired(me, local, ()).tunnel.mtu
    return [*peers.check_peers(me.network, rows), *peers.check_mtu(me, rows, mtu, run)]


def attempt(check: str, name: str | None, look: Check) -> list[Finding]:
    """The check's findings; one that could not be made says so, and ends no other."""
    try:
        return look()
    except NmkError as error:
        return [Finding(check, "warn", f"cannot be looked at: {error.message}", error.hint, name)]
    except OSError as error:
        return [Finding(check, "warn", f"cannot be looked at: {error.strerror}", None, name)]
    except Exception as error:  # noqa: BLE001  # whatever it is, it ends that check alone
        found = ours(error)
        reason = f"cannot be looked at: {found.message}"
        return [Finding(check, "broken", reason, found.hint, name)]
