"""Agents by the thousand: their messages sealed beforehand, their replies opened afterwards.

So what a controller is given and asked is real, and none of the agents' own work falls between.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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

from scripts.benchmarks.population import NETWORK, Population, join_request

NOWHERE = CheckIn(0, "")


@dataclass(frozen=True, slots=True)
class Message:
    """A request, and what opens its reply."""

    keys: SessionKeys
    header: Header
    body: bytes

    def open(self, reply: bytes) -> dict[str, Any]:
        """The reply's object. Fails where it is an error or not for this request."""
        kind, body = open_reply(self.keys, self.header, reply)
        assert kind is not Kind.ERROR, body
        opened: dict[str, Any] = json.loads(body)
        return opened


class Crowd:
    """The agents of a population."""

    def __init__(self, population: Population) -> None:
        self._population = population
        self._keys = [agent_keys(node, population.controller_key) for node in population.nodes]
        self.epoch = NO_EPOCH
        self._joined = len(population.nodes)

    def __len__(self) -> int:
        return len(self._keys)

    def check_ins(self, at: CheckIn, numbers: Sequence[int]) -> list[Message]:
        """A check-in of each of these agents, all of which stand at the same point."""
        body = encode_check_in(at)
        nodes = self._population.nodes
        return [self._seal(Kind.CHECK_IN, nodes[n], self._keys[n], body) for n in numbers]

    def join(self) -> Message:
        """The request of one more machine that joins."""
        number, self._joined = self._joined, self._joined + 1
        identity = Identity.generate()
        keys = agent_keys(identity, self._population.controller_key)
        request = join_request(
            identity, number, self._population.key_id, self._population.secret
        )
        message = self._seal(Kind.JOIN, identity, keys, encode_join(request))
        whole = seal_to(self._population.controller_key, message.body)
        return Message(keys, message.header, whole)

    def _seal(self, kind: Kind, node: Identity, keys: SessionKeys, body: bytes) -> Message:
        header, sealed = seal_request(keys, kind, node.public, self.epoch, NETWORK, body)
        return Message(keys, header, sealed)
