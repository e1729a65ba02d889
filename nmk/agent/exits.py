"""How everything leaves this machine: by its exit node, past it, or not at all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import Any, Literal

from nmk.agent import surroundings
from nmk.agent.membership import Membership
from nmk.agent.settings import NOTED, route_wishes, wished
from nmk.core.routes import Routing

NOT_UP = "the interface is not up"


@dataclass(frozen=True, slots=True)
class CutOff:
    """What lets nothing out but to the LAN, and the command that ends that."""

    by: Literal["exit node", "kill switch"]
    next: str


@dataclass(frozen=True, slots=True)
class WayOut:
    """`node`: the exit node that everything is sent to; `problem`: why none, or no use of it."""

    node: str | None = None
    problem: str | None = None
    cut_off: CutOff | None = None

    def as_json(self) -> dict[str, Any]:
        """Its part of `nmk status -o json`."""
        return {
            "exit": {"node": self.node, "problem": self.problem},
            "cut_off": asdict(self.cut_off) if self.cut_off else None,
        }


def find_way_out(me: Membership, routing: Routing, silent: Collection[str]) -> WayOut:
    """What becomes of the owner's wish for an exit node.

    `routing`: as it is now; `silent`: the ids of peers that do not answer.
    """
    node, problem = routing.exit, routing.problem
    peers = me.known.view.peers if me.known else {}
    if any(peers[key].name == node for key in silent if key in peers):
        cut_off = CutOff("exit node", command(me, "exit-node", ""))
        return WayOut(node, f"{node} does not answer", cut_off)
    if problem and route_wishes(me).kill_switch and surroundings.is_settled(me):
        ends = command(me, "kill-switch", "off")
        if problem == NOT_UP and me.phase == "joined":
            ends = f"nmk up -n {me.network}"  # and the exit node is there again
        return WayOut(node, problem, CutOff("kill switch", ends))
    return WayOut(node, problem)


def command(me: Membership, name: str, value: str) -> str:
    """What sets a wish that was set before, wherever that is noted."""
    if me.phase == "deleted":
        return f"nmk leave -n {me.network}"
    source = wished(me.network, me)[name][1]
    if source != NOTED:
        return f"take {name} out of {source}, then: nmk checkin -n {me.network}"
    return f"nmk set -n {me.network} {name}={value}"
