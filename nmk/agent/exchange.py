"""What a check-in and the controller say to one another; nothing of the machine is touched."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace

from nmk.agent.api import Answer, NodeApi
from nmk.agent.membership import Membership, take_in
from nmk.core.parse import parse_address
from nmk.core.peers import Reply
from nmk.core.records import Facts
from nmk.errors import BadInput, BadView, RateLimited, StaleSequence
from nmk.wire.envelope import NO_EPOCH
from nmk.wire.messages import CheckIn

MOST_COPIES = 8


@dataclass(frozen=True, slots=True)
class Told:
    """What a check-in tells besides facts, as in `wire.messages`."""

    traffic: str = ""
    callers: str = ""
    serves: str = ""
    health: str = ""


NOTHING_TOLD = Told()


def check_in(
    me: Membership, api: NodeApi, facts: Facts, told: Told = NOTHING_TOLD, *, dry: bool = False
) -> Membership:
    """The membership after one check-in, which reports the facts where they are news.

    The controller may have taken in other reports than we know of, because its disk or ours was
    rolled back; then ours is repeated, with the number after its last. One that it takes in no more
    for the moment is left for the next check-in. `dry` reports nothing.
    """
    if dry:
        facts, told = me.reported or facts, NOTHING_TOLD
    news = facts != me.reported and not dry
    answer = _ask(me, api, facts if news else None, told)
    if isinstance(answer.error, StaleSequence):
        me = replace(me, seq=answer.stored_seq(me.seq))
        answer = _ask(me, api, facts, told)
    held_back = news and isinstance(answer.error, RateLimited)
    if held_back:
        answer = _ask(me, api, None, told)
    after = _take_in(me, api, answer, told)
    asked = answer.reply.head.get("report") is True
    if (asked or after.seq != me.seq) and not news and not dry:
        answer = _ask(after, api, facts, told)
        held_back = isinstance(answer.error, RateLimited)
        if not held_back:
            after = _take_in(after, api, answer, told)
    reported = None if held_back else facts
    return replace(after, reported=reported, urls=api.urls, copies=_copies(answer.reply))


def _copies(reply: Reply) -> tuple[str, ...]:
    """Where machines with this identity are, if there are several."""
    told = reply.head.get("copies")
    with suppress(BadInput, TypeError):
        return tuple(str(parse_address(str(a))) for a in told or ())[:MOST_COPIES]
    return ()


def _ask(me: Membership, api: NodeApi, facts: Facts | None, told: Told) -> Answer:
    known = me.known
    return api.check_in(
        known.epoch if known else NO_EPOCH,
        CheckIn(
            revision=known.revision if known else 0,
            commit_id=known.commit_id if known else "",
            seq=me.seq + 1,
            facts=facts,
            traffic=told.traffic,
            callers=told.callers,
            serves=told.serves,
            health=told.health,
        ),
    )


def _take_in(me: Membership, api: NodeApi, answer: Answer, told: Told) -> Membership:
    """The membership with the answer; a delta that does not fit is replaced by a full view."""
    reply = answer.result()
    try:
        return take_in(me, reply)
    except BadView:
        if reply.head.get("full") is True:
            raise
        return take_in(me, _ask(replace(me, known=None), api, None, told).result())
