"""The JSON bodies inside the envelope, both ways; whatever comes in is checked here.

The controller's replies are cut in `core.view` and taken apart in `core.peers`.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass, replace
from typing import Any

from nmk.core import traffic as traffic_text
from nmk.core.check_in_health import LONGEST_TOLD
from nmk.core.endpoints import parse_lan
from nmk.core.parse import (
    parse_endpoint,
    parse_int,
    parse_key,
    parse_port,
    quote,
)
from nmk.core.peers import Reply, read_reply
from nmk.core.records import Facts, JoinRequest
from nmk.core.settings import NETWORK_SETTINGS
from nmk.core.text import parse_json, parse_plain, plain
from nmk.errors import (
    AddressTaken,
    BadInput,
    BadReply,
    KeyExpired,
    KeyRefused,
    KeyRevoked,
    KeyUsedUp,
    NameTaken,
    NmkError,
    NodeDeleted,
    NodeUnknown,
    RangeFull,
    RateLimited,
    StaleSequence,
    StoreUnavailable,
    StoreUnusable,
    TooLarge,
)

_MOST_ADDRESSES = 64
_LONGEST_TEXT = 255  # characters
_LONGEST_ERROR = 16 * 1024  # bytes
_HIGHEST_SEQ = 2**53
_OTHER_VALUE = "give another value for what the message quotes"
SEALED_ERRORS: dict[str, tuple[type[NmkError], str]] = {
    cls.code: (cls, hint or cls.default_hint)
    for cls, hint in {
        AddressTaken: "",
        BadInput: _OTHER_VALUE,
        KeyExpired: "",
        KeyRefused: "",
        KeyRevoked: "",
        KeyUsedUp: "",
        NameTaken: "choose another with --name, or: nmk node delete on the controller",
        NodeDeleted: "",
        NodeUnknown: "",
        RangeFull: "",
        RateLimited: "",
        StaleSequence: "",
        StoreUnavailable: "",
        StoreUnusable: "look at the controller's log",
        TooLarge: _OTHER_VALUE,
    }.items()
}
"""What a controller may report under seal, by its code, with this machine's hint for it.

All other errors are about a machine itself, and steer how its agent goes on.
"""


@dataclass(frozen=True, slots=True)
class CheckIn:
    """Where the agent stands, and with `facts` a numbered report of what changed with it.

    `traffic`, `callers`: what `core.traffic` made; `serves`: a gateway's word, as in
    `core.gateways`; `cookie`: from the answer before; `health`: what `core.check_in_health` made.
    "" where there is nothing to say.
    """

    revision: int
    commit_id: str
    seq: int = 0
    facts: Facts | None = None
    traffic: str = ""
    callers: str = ""
    serves: str = ""
    cookie: str = ""
    health: str = ""


def encode_join(request: JoinRequest) -> bytes:
    """The body of a JOIN."""
    return _json(
        {
            "key": request.key_id,
            "secret": base64.b64encode(request.secret).decode(),
            "name": request.name,
            "host": request.host_name,
            "address": request.address,
            "facts": facts_json(request.facts),
        }
    )


def parse_join(body: bytes, identity: bytes) -> JoinRequest:
    """A JOIN's body. Raises BadInput."""
    data = _object(body)
    try:
        secret = base64.b64decode(_text(data, "secret"), validate=True)
    except (binascii.Error, ValueError):
        raise BadInput("the access key's secret is not base64") from None
    return JoinRequest(
        identity=base64.b64encode(identity).decode(),
        key_id=_text(data, "key"),
        secret=secret,
        name=_optional(data, "name"),
        host_name=_printable(data, "host"),
        address=_optional(data, "address"),
        facts=parse_facts(data.get("facts")),
    )


def encode_check_in(message: CheckIn) -> bytes:
    """The body of a CHECK_IN."""
    body: dict[str, Any] = {"at": [message.revision, message.commit_id]}
    if message.facts is not None:
        body |= {"seq": message.seq, "facts": facts_json(message.facts)}
    if message.traffic:
        body["traffic"] = message.traffic
    if message.callers:
        body["callers"] = message.callers
    if message.serves:
        body["serves"] = message.serves
    if message.cookie:
        body["cookie"] = message.cookie
    if message.health:
        body["health"] = message.health
    return _json(body)


def parse_check_in(body: bytes) -> CheckIn:
    """A CHECK_IN's body. Raises BadInput."""
    data = _object(body)
    at = data.get("at")
    if not isinstance(at, list) or len(at) != 2 or not isinstance(at[1], str):
        raise BadInput("a check-in does not say where it stands")
    revision = _number(at[0], "revision")
    traffic = _summary(data, "traffic", traffic_text.LONGEST)
    callers = _summary(data, "callers", traffic_text.LONGEST_OF_CLIENTS)
    serves = _optional(data, "serves") or ""
    cookie = _optional(data, "cookie") or ""
    health = _summary(data, "health", LONGEST_TOLD)
    said = CheckIn(revision, at[1], 0, None, traffic, callers, serves, cookie, health)
    if "facts" not in data:
        return said
    return replace(said, seq=_number(data.get("seq"), "seq"), facts=parse_facts(data["facts"]))


def encode_leave(seq: int) -> bytes:
    """The body of a LEAVE, numbered like a report."""
    return _json({"seq": seq})


def parse_leave(body: bytes) -> int | None:
    """A LEAVE's number; None of an agent up to nmk 0.2.0. Raises BadInput."""
    data = _object(body)
    return _number(data["seq"], "seq") if "seq" in data else None


def _summary(data: dict[str, Any], name: str, longest: int) -> str:
    """A text of so many bytes that is taken apart when somebody looks."""
    text = data.get(name, "")
    if not isinstance(text, str) or len(text.encode(errors="replace")) > longest:
        raise BadInput(f"{quote(text)} cannot be the {name} of a message")
    return text


def facts_json(facts: Facts) -> dict[str, Any]:
    """Facts as they travel and as they are stored."""
    return {
        "wg_key": facts.wg_key,
        "listen_port": facts.listen_port,
        "lan": list(facts.lan),
        "interval": facts.interval,
        "endpoint": facts.endpoint,
        "instance": facts.instance,
        "protocol": facts.protocol,
    }


def parse_facts(data: object) -> Facts:
    """What an agent says of its machine. Raises BadInput that quotes the culprit."""
    if not isinstance(data, dict):
        raise BadInput(f"{quote(data)} are no facts")
    lan = data.get("lan")
    if not isinstance(lan, list) or len(lan) > _MOST_ADDRESSES:
        raise BadInput(f"{quote(lan)} is no list of addresses")
    pinned = _optional(data, "endpoint")
    return Facts(
        wg_key=parse_key(_text(data, "wg_key")),
        listen_port=parse_port(_number(data.get("listen_port"), "port")),
        lan=parse_lan(lan),
        interval=NETWORK_SETTINGS["interval"].parse(_number(data.get("interval"), "interval")),
        endpoint=parse_endpoint(pinned) if pinned else None,
        instance=_ascii(data, "instance"),
        protocol=parse_int(_number(data.get("protocol", 1), "protocol"), 1, 1000, "protocol"),
    )


def encode_error(error: NmkError, **more: object) -> bytes:
    """The body of an ERROR; `more` holds what a particular error tells besides."""
    return _json({"error": error.code, "message": error.message, "hint": error.hint, **more})


def parse_error(body: bytes) -> tuple[NmkError, dict[str, Any]]:
    """The error that the controller reported under seal, and the whole object.

    The hint is ours: people run what a hint says. Raises BadReply for what is no error, or one
    that is not among `SEALED_ERRORS`.
    """
    if len(body) > _LONGEST_ERROR:
        raise BadReply(f"the controller's error has {len(body)} bytes")
    try:
        data = _object(body)
        code = _text(data, "error")
    except BadInput as error:
        raise BadReply(f"the controller's error makes no sense: {error.message}") from None
    message = _printable(data, "message")
    if code not in SEALED_ERRORS:
        raise BadReply(
            f"the controller reports {quote(code)}, which is no error of a controller: {message}",
            "look at the controller's log; is its nmk newer than this machine's?",
        )
    cls, hint = SEALED_ERRORS[code]
    return cls(message, hint), data


def parse_reply(body: bytes) -> Reply:
    """A reply's JSON object. Raises BadReply, BadView."""
    try:
        return read_reply(body)
    except ValueError as error:
        raise BadReply(f"the controller's reply makes no sense: {quote(error)}") from None


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _object(body: bytes) -> dict[str, Any]:
    data = parse_json(body, "a message")
    if not isinstance(data, dict):
        raise BadInput("a message is no JSON object")
    return data


def _text(data: dict[str, Any], name: str) -> str:
    return parse_plain(data.get(name), _LONGEST_TEXT, f"{name} of a message")


def _ascii(data: dict[str, Any], name: str) -> str:
    """A text that is kept of each node: others take four times the memory."""
    text = _text(data, name)
    if not text.isascii():
        raise BadInput(f"{quote(text)} cannot be the {name} of a message")
    return text


def _optional(data: dict[str, Any], name: str) -> str | None:
    return None if data.get(name) is None else _text(data, name)


def _printable(data: dict[str, Any], name: str) -> str:
    """A text that is only read by people, whatever it is."""
    return plain(str(data.get(name, ""))[:_LONGEST_TEXT])


def _number(value: object, what: str) -> int:
    if not isinstance(value, int):
        raise BadInput(f"{quote(value)} cannot be the {what} of a message")
    return parse_int(value, 0, _HIGHEST_SEQ, what)
