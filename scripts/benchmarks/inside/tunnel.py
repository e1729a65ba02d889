"""Applies a view of PEERS peers to a fresh interface: as nmk does it, and by hand.

Prints seconds of both, and how many commands one more peer takes, as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from nmk.agent import interface
from nmk.agent.history import Reason
from nmk.agent.membership import Membership, take_in
from nmk.core.tunnel import Command, diff_tunnel, plan_changes
from nmk.core.view import pack_view
from nmk.system import wireguard
from nmk.system.facts import own_addresses
from nmk.system.keys import generate_private_key
from nmk.system.runner import Runner
from nmk.wire.envelope import Identity, unpack
from scripts.benchmarks.population import NETWORK, found_network, join

INTERFACE = "bench"
REASON = Reason("check-in")


class Counter(Runner):
    """Runs commands and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def read(self, argv: Sequence[str]) -> str:
        """As Runner."""
        self.count += 1
        return super().read(argv)

    def change(self, command: Command) -> None:
        """As Runner."""
        self.count += 1
        super().change(command)
