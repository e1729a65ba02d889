"""Puts a view of PEERS peers on a fresh interface: as nmk does it, then by hand.

Prints as JSON: the seconds that each took, and how many commands one more peer costs nmk.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import NamedTemporaryFile

from nmk.agent import interface, state
from nmk.agent.history import Reason
from nmk.agent.membership import Membership, take_in
from nmk.core.peers import MOST_INFLATED
from nmk.core.tunnel import Command
from nmk.core.view import pack_view
from nmk.system import wireguard
from nmk.system.facts import own_addresses
from nmk.system.runner import Runner
from nmk.wire.envelope import NO_EPOCH, Identity, unpack
from nmk.wire.messages import parse_reply
from scripts.benchmarks.population import found_network, join
from tests.agent.memberships import joining

INTERFACE = "bench"


class Recorder(Runner):
    """Runs commands; keeps those that change something, and counts all."""

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Command] = []
        self.count = 0

    def read(self, argv: Sequence[str]) -> str:
        """As Runner."""
        self.count += 1
        return super().read(argv)

    def change(self, command: Command) -> None:
        """As Runner."""
        self.count += 1
        self.changes.append(command)
        super().change(command)


def measure(peers: int) -> dict[str, float]:
    """All that is printed."""
    me, views = prepare(peers)
    lan = own_addresses(leave_out=[INTERFACE])
    run, again = Recorder(), Recorder()
    with fresh_interface():
        start = time.perf_counter()
        me = apply(take_in(me, parse_reply(views[0])), run, lan)
        by_nmk = time.perf_counter() - start
        apply(take_in(me, parse_reply(views[1])), again, lan)
    with fresh_interface():
        by_hand = replay(run.changes)
    return {"by_nmk": by_nmk, "by_hand": by_hand, "one_more": again.count}


def prepare(peers: int) -> tuple[Membership, list[bytes]]:
    """A machine that has joined, and what its controller says, before and with one more peer."""
    identity = Identity.generate()
    mesh, ticket, _ = found_network()
    join(mesh, ticket, identity, 0)
    [node] = mesh.nodes.values()
    views = []
    for number in range(1, peers + 2):
        if number > peers:
            views.append(pack_view(mesh, node, NO_EPOCH.hex(), ("", 0, "")))
        join(mesh, ticket, Identity.generate(), number)
    views.append(pack_view(mesh, node, NO_EPOCH.hex(), ("", 0, "")))
    me = joining(identity=identity, interface=INTERFACE, phase="joined")
    state.make_directory()
    return me, [unpack(view, MOST_INFLATED) for view in views]


def apply(me: Membership, run: Runner, lan: tuple[str, ...]) -> Membership:
    """One tick's second half."""
    return interface.apply(me, run, {}, lan, Reason("check-in"))


def replay(commands: Sequence[Command]) -> float:
    """Seconds for the same by `wg setconf` and `ip -batch`, from files."""
    with NamedTemporaryFile("w") as config, NamedTemporaryFile("w") as batch:
        texts = {c.argv[0]: c.stdin or "" for c in commands}
        for file, text in ((config, texts["wg"]), (batch, texts["ip"])):
            file.write(text)
            file.flush()
        start = time.perf_counter()
        subprocess.run(["wg", "setconf", INTERFACE, config.name], check=True)
        subprocess.run(["ip", "-batch", batch.name], check=True)
        return time.perf_counter() - start


@contextmanager
def fresh_interface() -> Iterator[None]:
    """A new WireGuard interface, for a while."""
    run = Runner()
    wireguard.create(run, wireguard.creations(INTERFACE), INTERFACE)
    yield
    wireguard.remove(run, INTERFACE)


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
