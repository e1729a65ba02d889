"""Commands that show a network, whatever its controller has told: none has a mistake of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings

from nmk.agent import doctor, state
from nmk.agent.checks.peers import check_mtu, check_peers
from nmk.agent.doctor import _examine_network
from nmk.agent.membership import Membership, Wishes
from nmk.agent.peer_status import describe_clients, describe_peers
from nmk.agent.ping import find_target, ping_node
from nmk.agent.reach import Visit
from nmk.agent.status import status
from nmk.agent.updown import as_wished
from nmk.cli.machine_seeing import finding_lines
from nmk.cli.machine_status import render_status
from nmk.core.hooks import events_of
from nmk.core.tunnel import diff_tunnel, plan_changes, render_quick
from nmk.errors import Ambiguous, BadInput, NotFound
from nmk.system.dump import Dump, LivePeer
from nmk.system.runner import Runner
from tests.agent.test_damaged import Blind, blind
from tests.core.made import Json
from tests.hostile.views import VIEWS, WHOLE, taken_in

NOBODY = WHOLE | {
    "peers": [[peer | {"addresses": []} for peer in WHOLE["peers"][0]]],
    "clients": [[client | {"addresses": []} for client in WHOLE["clients"][0]]],
}
WISHES = Wishes(settings={"exit-node": "n4", "kill-switch": "on"})


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(VIEWS)
@example(WHOLE)
@example(NOBODY)
def test_no_command_makes_a_mistake(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch, view: Json
) -> None:
    monkeypatch.setattr(doctor, "visit_all", lambda urls: [Visit(url, "is far") for url in urls])
    me = taken_in(view)
    if me is None:
        return
    assert state_dir.is_dir()
    me = replace(me, wishes=WISHES)
    state.save(me)
    show(me, blind())


def show(me: Membership, run: Runner) -> None:
    """All that can be seen of the network, on a machine with an interface and on one without."""
    assert me.known
    view = me.known.view
    row = status(me.network, run, 0, reachable=lambda _: False)
    want = as_wished(me.network)
    there = {p.key: LivePeer(p, 90, 5, 7) for p in want.peers.values()}
    dump = Dump(me.private_key, "", 1, there)
    row["peers"] = describe_peers(view, dump, ("192.168.1.1/24",), 100, {})
    row["clients"] = describe_clients(view, dump, 100)
    for output in ("table", "json", "name"):
        assert render_status([row], output) is not None
    found = [*_examine_network(me.network, run, lambda: 0), *check_peers(me.network, row["peers"])]
    found += check_mtu(me, row["peers"], want.mtu, Large(lambda _: None))
    assert all(map(finding_lines, found))
    assert render_quick(want)
    changes = diff_tunnel(want, None, {})
    assert plan_changes(want, None, changes, {}, ("ip", "link", "add"))
    assert events_of(want, None, changes)
    names = {other.name for other in view.others}
    for name in names | {a for other in view.others for a in other.addresses} | {"10.8.0.1"}:
        try:
            target = find_target(name, None)
        except (Ambiguous, BadInput, NotFound):
            continue
        assert ping_node(target, run, 1, lambda: 0, lambda *_: None)["problem"]


class Large(Blind):
    """A ping that can send packets of a given size."""

    def read(self, argv: Sequence[str]) -> str:
        return "ping from iputils 20221126" if "-V" in argv else super().read(argv)
