"""All the attackers, driven by hypothesis; with `--full --minutes 60` for an hour.

Whatever they do: no answer of 5xx, no traceback in the log, nothing of what is not theirs changed,
and the controller's memory as it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmk.agent.membership import decode, encode
from nmk.errors import NmkError
from nmk.wire.envelope import Kind
from tests.hostile.anything import NASTY, SOME_JSON, changed, changes
from tests.hostile.door import Reply, http
from tests.hostile.liar import Json, Liar, Lie, Request
from tests.hostile.middlebox import Middlebox
from tests.hostile.stranger import Stranger, Unsealed, forged
from tests.reliability.served import Served
from tests.server.agent import PATHS, Agent, Refused

SHOWN = {"last_seen", "state", "check_in"}  # which a recording may move
MOST_GROWTH = 24 * 1024 * 1024  # bytes, of the controller's memory between two rounds far apart
KINDS = st.sampled_from(list(PATHS))
DOORS = st.sampled_from([*PATHS.values(), "/healthz", "/nmk", "/install.sh", "/", "/v1/x"])
ADDRESSES = st.integers(2, 40).map(lambda n: f"127.0.0.{n}")
driven = settings(max_examples=60, database=None, suppress_health_check=list(HealthCheck))
Go = Callable[[Callable[[], None]], None]


@pytest.fixture
def go(pytestconfig: pytest.Config) -> Go:
    """Runs it, and again with other seeds while there is time."""
    seconds = 60 * float(pytestconfig.getoption("minutes")) / 2  # two tests share it

    def repeat(run: Callable[[], None]) -> None:
        end = time.monotonic() + seconds
        run()
        while time.monotonic() < end:
            run()

    return repeat


@dataclass
class World:
    """A controller with an honest node, a hostile one, and a middlebox before the honest one."""

    served: Served
    middle: Middlebox
    honest: Agent
    hostile: Agent
    joins: int = 1
    statuses: set[int] = field(default_factory=set)

    def state(self) -> object:
        """All that is nobody's but the admin's and the honest node's."""
        nodes = self.served.nodes()
        mine = {k: v for k, v in nodes["honest"].items() if k not in SHOWN}
        pages = ("", "/home/keys", "/home/gateways", "/home/extclients")
        rest = [self.served.call_list(f"/networks{page}") for page in pages]
        for row in (*rest[0], *rest[1]):
            del row["nodes"]  # which the hostile one is free to be among or not
        return mine, rest

    def renew(self) -> None:
        """The hostile node, once more where it has left."""
        if "hostile" not in self.served.nodes():
            stranger = Stranger(self.served.url)
            self.hostile = stranger.member(self.served.token(), "hostile")


@pytest.fixture(scope="module")
def world(served: Served) -> Iterator[World]:
    with Middlebox(served.url) as middle:
        honest = Stranger(middle.url).member(served.token(), "honest")
        for _ in range(3):
            honest.check_in(report=True)
            honest.check_in()
        hostile = Stranger(served.url).member(served.token(), "hostile")
        yield World(served, middle, honest, hostile)


@dataclass(frozen=True)
class Step:
    """One attack. `what`: all that it was made of, to tell of one that succeeds."""

    what: object
    do: Callable[[World], None]

    def __repr__(self) -> str:
        return f"Step({self.what!r:.400})"


def checked(world: World, status: int) -> None:
    world.statuses.add(status)
    assert status < 500


@st.composite
def any_http(draw: st.DrawFn) -> Step:
    """A stranger: requests of any form."""
    method = draw(st.sampled_from(["GET", "POST", "HEAD", "PUT", "X"]))
    path, body = draw(DOORS), draw(st.binary(max_size=300))
    address = draw(ADDRESSES)
    head = draw(st.sampled_from(["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"]))
    raw = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{head}\r\n".encode() + body
    raw = draw(st.sampled_from([raw, body, raw[: len(raw) // 2], raw * 3]))

    def step(world: World) -> None:
        with suppress(ConnectionError):
            reply = Stranger(world.served.url, address).raw(raw)
            assert not reply.startswith((b"HTTP/1.1 5", b"HTTP/1.0 5"))

    return Step(("http", address, raw), step)


@st.composite
def any_forgery(draw: st.DrawFn) -> Step:
    """A stranger: well sealed, of an identity that is nobody's, with anything in it."""
    kind, body, address = draw(KINDS), draw(SOME_JSON | NASTY), draw(ADDRESSES)

    def step(world: World) -> None:
        data = json.dumps(body).encode()
        answer = Stranger(world.served.url, address).post(*forged(world.honest.token, kind, data))
        checked(world, answer.status)

    return Step(("forgery", address, kind, body), step)


@st.composite
def any_message(draw: st.DrawFn) -> Step:
    """A member: what its agent would say, but for some places."""
    kind, wrong = draw(KINDS), draw(changes)
    path = draw(st.none() | DOORS)

    def step(world: World) -> None:
        agent = world.hostile
        facts = {
            "wg_key": agent.facts.wg_key,
            "listen_port": 51821,
            "lan": ["192.168.1.7/24"],
            "interval": 60,
            "endpoint": None,
            "instance": "x",
            "protocol": 2,
        }
        right: dict[Kind, Any] = {
            Kind.JOIN: {
                "key": agent.token.key_id,
                "secret": "x",
                "name": "honest",
                "host": "h",
                "address": None,
                "facts": facts,
            },
            Kind.CHECK_IN: {
                "at": list(agent.at[1:]),
                "seq": agent.seq + 1,
                "facts": facts,
                "traffic": "1,2,3,4",
                "callers": "",
                "serves": "yes",
                "cookie": "x",
            },
            Kind.LEAVE: {"seq": 0},
        }
        try:
            agent.say(kind, changed(right[kind], wrong), path)
        except Unsealed as error:
            checked(world, error.status)
        except (Refused, NmkError):
            return

    return Step(("message", kind, wrong, path), step)


@st.composite
def any_replay(draw: st.DrawFn) -> Step:
    """A middlebox: what it recorded, from anywhere, to any door, a byte changed or none."""
    number, address = draw(st.integers(0, 1000)), draw(ADDRESSES)
    path = draw(st.none() | DOORS)
    flip = draw(st.none() | st.tuples(st.integers(0, 1000), st.integers(1, 255)))

    def step(world: World) -> None:
        recorded = world.middle.recorded[number % len(world.middle.recorded)]
        body = bytearray(recorded.request)
        if flip:
            body[flip[0] % len(body)] ^= flip[1]
        answer = Stranger(world.served.url, address).post(path or recorded.path, bytes(body))
        checked(world, answer.status)

    return Step(("replay", number, address, path, flip), step)


STEPS = any_http() | any_forgery() | any_message() | any_replay()


def test_nothing_moves_the_controller(world: World, go: Go) -> None:
    memory: list[int] = []

    @driven
    @given(steps=st.lists(STEPS, min_size=1, max_size=12))
    def attack(steps: list[Step]) -> None:
        before = world.state()
        for step in steps:
            step.do(world)
        assert world.state() == before

    def one_round() -> None:
        attack()
        world.renew()
        world.middle.recorded[200:] = []
        memory.append(world.served.memory())

    go(one_round)
    assert memory[-1] - memory[len(memory) // 10] < MOST_GROWTH
    assert {200, 400} <= world.statuses
    assert world.honest.check_in()["at"]


# The other way: a machine that is lied to


@st.composite
def any_lie(draw: st.DrawFn) -> Lie:
    """A controller: the honest answer but for some places, any error, any bytes, any HTTP."""
    wrong = draw(changes)
    raw = draw(st.binary(max_size=200))
    code = draw(st.sampled_from(["node-unknown", "locked", "rate-limited", "stale-sequence", ""]))
    status = draw(st.sampled_from([200, 204, 302, 400, 404, 429, 500, 503]))
    more = draw(st.dictionaries(st.sampled_from(["seq", "cookie"]), SOME_JSON | NASTY))
    lies: list[Lie] = [
        lambda request, answer: request.sealed(changed(answer, wrong)),
        lambda request, _: request.sealed(raw),
        lambda request, _: request.error(code or str(raw), "no", "go", **more),
        lambda *_: http(status, raw),
        lambda *_: raw,
        lambda *_: (raw[n : n + 7] for n in range(0, len(raw), 7)),
    ]
    return draw(st.sampled_from(lies))


def test_no_lie_breaks_a_machine(liar: Liar, go: Go) -> None:
    """It may believe what it cannot know better; what it keeps, it can read again."""
    victim = liar.victim()
    for name in ("one", "two"):
        Stranger(liar.url).member(liar.token(), name)
    victim.check_in()
    sound = victim.me

    @driven
    @given(lies=st.lists(any_lie(), min_size=1, max_size=4), full=st.booleans())
    def attack(lies: list[Lie], *, full: bool) -> None:
        victim.me = sound
        for lie in lies:
            liar.lie = _of_whole_views(lie) if full else lie
            with suppress(NmkError):
                victim.check_in()
            written = encode(victim.me)
            assert encode(decode(written, "home", "home.json")) == written
            assert victim.me.identity == sound.identity
            assert victim.me.private_key == sound.private_key
            assert len(written) < 1 << 20
        liar.asked.clear()

    go(attack)


def _of_whole_views(lie: Lie) -> Lie:
    """The same lie, told of a view that is there whole."""

    def told(request: Request, answer: Json) -> Json | Reply:
        if "full" not in answer:
            return {**answer, "at": [0, ""]}  # which makes the machine ask for it
        return lie(request, answer)

    return told
