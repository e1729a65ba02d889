"""Full views of a large network."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Iterable
from functools import partial

from nacl import bindings

from scripts.benchmarks.crowd import NOWHERE
from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series, own_cpu
from scripts.benchmarks.population import facts
from scripts.benchmarks.server import CHECK_IN, Controller
from scripts.benchmarks.stage import MANY, Stage

CHANGED = 4711
FIRST_PORT = 20_000


def measure_views(stage: Stage, rounds: Iterable[int]) -> Values:
    """A full view after a start, one after a change, and the same bytes packed here, in turns."""
    controller = stage.controller(MANY)
    cpu = Series()
    for number in rounds:
        controller.restart()
        _, cold = _full_view(controller)
        controller.look()
        controller.change(CHANGED, facts(CHANGED, FIRST_PORT + number))
        text, warm = _full_view(controller)
        cpu.add("cold", cold)
        cpu.add("warm", warm)
        cpu.add("parts", own_cpu(partial(compress_and_seal, text)))
    return {"view-cpu": cpu.ratio("warm", "parts"), "first-view-cpu": cpu.ratio("cold", "parts")}


def compress_and_seal(text: bytes) -> bytes:
    """The least that anybody must do who sends this text."""
    nonce, key = secrets.token_bytes(24), secrets.token_bytes(32)
    return bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(zlib.compress(text), b"", nonce, key)


def _full_view(controller: Controller) -> tuple[bytes, float]:
    [message] = controller.crowd.check_ins(NOWHERE, [0])
    answer, spent = controller.ask(CHECK_IN, message)
    text = message.open_text(answer)
    assert text.count(b'"key":') >= MANY
    return text, spent.cpu


VIEWS = Group(
    (
        Figure(
            "view-cpu",
            "x",
            3.0,
            "CPU of a full view of 10,000 peers, one of them changed / compressing and sealing it",
        ),
        Figure("first-view-cpu", "x", 3.0, "the same, the first one after a start"),
    ),
    rounds=5,
    measure=measure_views,
)
