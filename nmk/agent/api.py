"""The node API as an agent uses it: sealed requests out, sealed replies in.

Only what came under seal is given back as an answer. Whatever else happens is raised as one of
Unreachable, BadReply, RateLimited and Unreadable, none of which may cost the machine anything.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from http import HTTPStatus

from nmk.agent.http import EXCHANGE_TIMEOUT, Response, post
from nmk.agent.membership import parse_seq
from nmk.core.nesting import read_json
from nmk.core.parse import quote
from nmk.core.peers import Reply
from nmk.core.records import JoinRequest
from nmk.errors import BadReply, BadView, NmkError, RateLimited, TooLarge, Unreachable, Unreadable
from nmk.wire.envelope import (
    MAGIC,
    MAX_REPLY,
    NO_EPOCH,
    Header,
    Identity,
    Kind,
    agent_keys,
    open_reply,
    seal_request,
    seal_to,
)
from nmk.wire.messages import (
    CheckIn,
    encode_check_in,
    encode_join,
    encode_leave,
    parse_error,
    parse_reply,
)

MOST_SECONDS = 60.0  # that a machine waits for its controller, whatever it has to ask
_LONGEST_COOKIE = 64  # characters
PATHS = {Kind.JOIN: "/v1/join", Kind.CHECK_IN: "/v1/checkin", Kind.LEAVE: "/v1/leave"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the controller said under seal: a reply, or an error with its object as the head."""

    reply: Reply
    error: NmkError | None = None

    def result(self) -> Reply:
        """The reply; raises the error if it is one."""
        if self.error is not None:
            raise self.error
        return self.reply

    @property
    def cookie(self) -> str:
        """Of a RateLimited: what shows, in the same request again, that it is made just now."""
        cookie = self.reply.head.get("cookie")
        return cookie if isinstance(cookie, str) and len(cookie) <= _LONGEST_COOKIE else ""

    def stored_seq(self, ours: int) -> int:
        """Of a StaleSequence: the last number that the controller took in. Raises BadReply.

        `ours`: the last number that we know of.
        """
        try:
            return parse_seq(self.reply.head.get("seq"), ours)
        except BadView as error:
            raise BadReply(error.message) from None


class NodeApi:
    """A controller, as one identity talks to it about one network.

    `urls` are tried in order; one that answered comes first from then on. `source` says, in
    errors, where the controller's key is from, and `when_unknown` what to do where another
    controller answers. `seconds` are for all that is ever asked here: each
    URL that is left gets its share of what is left, so that none keeps the others from answering.
    """

    def __init__(
        self,
        urls: tuple[str, ...],
        controller_key: bytes,
        identity: Identity,
        network: str,
        source: str,
        seconds: float = MOST_SECONDS,
        when_unknown: str | None = None,
    ) -> None:
        self.urls = urls
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds
        self._controller_key = controller_key
        self._identity = identity
        self._network = network
        self._source, self._when_unknown = source, when_unknown
        self._keys = agent_keys(identity, controller_key)

    def join(self, request: JoinRequest) -> Answer:
        """Ask to be let in; the node, without peers yet, when it was granted."""
        return self._exchange(Kind.JOIN, NO_EPOCH, encode_join(request))

    def check_in(self, epoch: bytes, message: CheckIn) -> Answer:
        """Say where we stand; what changed since, or a full view."""
        answer = self._exchange(Kind.CHECK_IN, epoch, encode_check_in(message))
        if isinstance(answer.error, RateLimited) and (cookie := answer.cookie):
            message = replace(message, cookie=cookie)
            answer = self._exchange(Kind.CHECK_IN, epoch, encode_check_in(message))
        return answer

    def leave(self, epoch: bytes, seq: int) -> Answer:
        """Say that this node is no more."""
        return self._exchange(Kind.LEAVE, epoch, encode_leave(seq))

    def _seal(self, kind: Kind, epoch: bytes, body: bytes) -> tuple[Header, bytes]:
        header, message = seal_request(
            self._keys, kind, self._identity.public, epoch, self._network, body
        )
        if kind is Kind.JOIN:
            message = seal_to(self._controller_key, message)
        return header, message

    def _exchange(self, kind: Kind, epoch: bytes, body: bytes) -> Answer:
        """The first sealed answer at any of the URLs; else the most telling failure.

        Sealed for each of them: a controller answers one message once.
        """
        failures: list[NmkError] = []
        for tried, url in enumerate(self.urls):
            left = self._deadline - time.monotonic()
            share = min(left / (len(self.urls) - tried), EXCHANGE_TIMEOUT)
            if share <= 0:
                failures.append(Unreachable(f"cannot reach {url}: {self._seconds:g} s are over"))
                break
            header, message = self._seal(kind, epoch, body)
            try:
                response = post(url, PATHS[kind], message, MAX_REPLY, MAGIC, share)
                answer = self._open(header, url, response)
            except NmkError as error:
                failures.append(error)
                continue
            self.urls = (url, *(u for u in self.urls if u != url))
            return answer
        raise most_telling(failures)

    def _open(self, header: Header, url: str, response: Response) -> Answer:
        if response.status != HTTPStatus.OK:
            raise self._refusal(url, response)
        try:
            kind, body = open_reply(self._keys, header, response.body)
        except (Unreadable, TooLarge) as error:
            raise BadReply(f"{url} sent no reply to us: {error.message}") from None
        if kind is Kind.ERROR:
            reported, data = parse_error(body)
            return Answer(Reply(data), reported)
        return Answer(parse_reply(body))

    def _refusal(self, url: str, response: Response) -> NmkError:
        """What an answer in clear means. Anybody can send one, so it never means much."""
        code, detail = parse_problem(response.body)
        if response.status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimited(f"{url} has too many requests from here")
        if response.status == HTTPStatus.BAD_REQUEST and code == Unreadable.code:
            return Unreadable(
                f"the controller at {url} does not know the key in {self._source}: "
                "another controller answers there",
                self._when_unknown,
            )
        if response.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return Unreachable(f"{url} cannot answer now{detail}")
        return BadReply(f"{url} answers with HTTP status {response.status}{detail}")


def most_telling(failures: list[NmkError]) -> NmkError:
    """The failure to report of those at several URLs: one that was answered, before silence."""
    answered = [f for f in failures if not isinstance(f, Unreachable)]
    if answered or len(failures) == 1:
        return (answered or failures)[0]
    return Unreachable("; ".join(f.message for f in failures))


def parse_problem(body: bytes) -> tuple[str, str]:
    """The code of an `application/problem+json`, and its detail as the end of a sentence."""
    try:
        data = read_json(body)
        return str(data["code"]), f": {quote(data['detail'])}"
    except (ValueError, TypeError, KeyError):
        return "", ""
