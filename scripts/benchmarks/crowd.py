"""Agents by the thousand: their messages sealed beforehand, their replies opened afterwards.

So what a controller is asked is real, and none of the agents' own work is mistaken for its.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nmk.core.records import Facts
from nmk.wire.envelope import (
    NO_EPOCH,
    Header,
    Identity,
    Kind,
    SessionKeys,
    agent_keys,
    open_reply,
    seal_request,
    seal_to,
)
from nmk.wire.messages import CheckIn, encode_check_in, encode_join
from scripts.benchmarks.population import NETWORK, Population

NOWHERE = CheckIn(0, "")


@dataclass(frozen=True, slots=True)
class Message:
    """A request, and what opens its reply."""

    keys: SessionKeys
    header: Header
    body: bytes

    def open(self, reply: bytes) -> dict[str, Any]:
        """The reply's object. Fails where it is an error, or was not made for this request."""
        return dict(json.loads(self.open_text(reply)))

    def open_text(self, reply: bytes) -> bytes:
        """The same as JSON text."""
        kind, text = open_reply(self.keys, self.header, reply)
        assert kind is not Kind.ERROR, text
        return text


class Crowd:
    """The agents of a population, by their numbers. `epoch`: of the view that they hold."""

    def __init__(self, population: Population) -> None:
        self.epoch = NO_EPOCH
        self._population = population
        self._keys = [agent_keys(node, population.controller_key) for node in population.nodes]
        self._joined = len(population.nodes)

    def __len__(self) -> int:
        return len(self._keys)

    def check_ins(self, at: CheckIn, numbers: Iterable[int]) -> list[Message]:
        """A check-in of each of these agents, all of which stand at the same point."""
        body = encode_check_in(at)
        return [self._seal(n, body) for n in numbers]

    def report(self, at: CheckIn, number: int, seq: int, facts: Facts) -> Message:
        """A check-in of an agent whose machine has changed."""
        return self._seal(number, encode_check_in(CheckIn(at.revision, at.commit_id, seq, facts)))

    def join(self) -> Message:
        """The request of one more machine."""
        number, self._joined = self._joined, self._joined + 1
        controller, identity = self._population.controller_key, Identity.generate()
        keys = agent_keys(identity, controller)
        body = encode_join(self._population.ticket.request(identity, number))
        header, sealed = seal_request(keys, Kind.JOIN, identity.public, NO_EPOCH, NETWORK, body)
        return Message(keys, header, seal_to(controller, sealed))

    def _seal(self, number: int, body: bytes) -> Message:
        keys, node = self._keys[number], self._population.nodes[number]
        header, sealed = seal_request(keys, Kind.CHECK_IN, node.public, self.epoch, NETWORK, body)
        return Message(keys, header, sealed)
