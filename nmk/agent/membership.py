"""What a machine knows of one network that it is in, or about to join: the content of its file."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from nmk.core.check_in_health import UNKNOWN, CheckInHealth, health_json, parse_health
from nmk.core.nesting import read_json
from nmk.core.parse import (
    parse_address,
    parse_endpoint,
    parse_interface,
    parse_key,
    parse_label,
    parse_pinned,
    parse_port,
    quote,
)
from nmk.core.peers import Json, Reply, View, merge_view, parse_ranges, parse_view, view_json
from nmk.core.problems import Problem, parse_problems, problems_json
from nmk.core.records import Facts, node_id
from nmk.core.route_table import NO_ORDER, is_order
from nmk.core.settings import parse_local
from nmk.errors import BadInput, BadView, NmkError, RangesChanged, StateDamaged, StateNewer
from nmk.system.keys import parse_private_key, public_key
from nmk.wire.envelope import EPOCH_BYTES, Identity
from nmk.wire.messages import facts_json, parse_facts
from nmk.wire.token import parse_url

VERSION = 1
_HIGHEST = 2**53
MOST_FORGOTTEN = 10_000_000  # reports that a disk put back can lack: one a minute for 19 years
_SYSCTL = re.compile(r"net/ipv[46]/(?:conf/(?!\.\.?/)[^/]{1,15}/)?[a-z_]+", re.ASCII)

_FIELD = re.compile(rb'"([^"\\]{1,64})"\s*:')
_LIST = re.compile(rb'\s*\[\s*["{]')
_FIRST_FIELDS = {b"version", b"network"}  # of a state, and of other things
_SINCE_0_2_0 = {"settings", "preshared", "laid", "found"}  # all of them, or none
_OWN_FIELDS = (b'"remote_name"', b'"controller_key"', b'"listen_port"', b'"wishes"')

Phase = Literal["joining", "joined", "deleted"]
Kind = Literal["filter", "routes", "docker"]  # of what lies beside the interface


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the machine's owner asked for at join: a name, an address, a pinned endpoint, a port.

    `settings`: what `nmk set` has noted since.
    """

    name: str | None = None
    address: str | None = None
    endpoint: str | None = None
    listen_port: int | None = None
    settings: Mapping[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Known:
    """What the controller told last: a point in the network's history, and the view there."""

    epoch: bytes
    revision: int
    commit_id: str
    view: View


@dataclass(frozen=True, slots=True)
class Membership:
    """One machine in one network.

    `urls`: the controller's, the one that answered last first. `seq`: the number of the last
    report that the controller took in, `reported` its facts. `endpoints`: the ones last given to
    WireGuard, by peers' keys. `down`: the owner wants the interface gone until `nmk up`.

    `ranges`: those of the network, as they were agreed on when the machine joined; a view with
    others is refused. Empty before the first view.

    `network` is its name on this machine, `remote_name` the one that its controller calls it by.
    Where two networks of this machine overlap, the one with the lower `order` joined earlier and
    keeps its addresses.

    `preshared`: keys shared with ext clients of a hub that was taken over, by their public keys.
    `laid`: what may be there beside the interface; `found`: kernel settings, by their paths, as
    they were before nmk changed them, in the order of the changes.
    `problems`: what of the view could not be applied; `health`: how check-ins went when that was
    written down last. `as_read`: what the owner's files of settings, and the environment, held
    when each could be read last, by their names; None where that was never noted. `copies`:
    addresses of machines with this identity, if there are several. `successor`: the new node that
    the machine is about to be in its place; it stays what it is until that one is in.
    """

    network: str
    remote_name: str
    urls: tuple[str, ...]
    controller_key: bytes
    identity: Identity
    private_key: str = field(repr=False)
    interface: str
    listen_port: int
    wishes: Wishes = Wishes()
    phase: Phase = "joining"
    down: bool = False
    seq: int = 0
    reported: Facts | None = None
    known: Known | None = None
    ranges: tuple[str, ...] = ()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    order: int = NO_ORDER
    preshared: Mapping[str, str] = field(default_factory=dict, repr=False)
    laid: frozenset[Kind] = frozenset()
    found: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    health: CheckInHealth = UNKNOWN
    copies: tuple[str, ...] = ()
    as_read: Mapping[str, Mapping[str, int | str]] | None = None
    successor: Membership | None = None

    @property
    def id(self) -> str:
        """The id of this machine's node."""
        return node_id(base64.b64encode(self.identity.public).decode())


def take_in(me: Membership, reply: Reply) -> Membership:
    """The membership with a view, a delta or an "unchanged" taken in.

    Raises BadView when the reply is none of these, or tells what must not be done.
    """
    head = reply.head
    if "full" not in head:
        known = me.known
        if known is None or head.get("at") != [known.revision, known.commit_id]:
            raise BadView("the controller says that nothing changed since a view we do not have")
        return me
    view = merge_view(me.known.view if me.known else None, reply, me.remote_name)
    if me.ranges and view.cidrs != me.ranges:
        raise RangesChanged(
            f"the controller says that {me.network} has {', '.join(view.cidrs)}, and this machine "
            f"has joined it with {', '.join(me.ranges)}",
            f"if that is to be so: nmk leave -n {me.network}, then join again",
        )
    known = _known(head.get("epoch"), head.get("at"), view, me)
    own_key = public_key(me.private_key)
    if any(other.key == own_key for other in known.view.others):
        raise BadView("the controller gives this node's own key to another one as well")
    return replace(
        me, known=known, ranges=view.cidrs, seq=parse_seq(head["self"].get("seq"), me.seq)
    )


def parse_seq(value: object, ours: int) -> int:
    """The last report that the controller took in; `ours`: the last that we know of.

    A number far beyond ours is none that we gave and forgot. Taking it up would use up the numbers
    that are left, and no controller would ever take in a report of this machine again. Raises
    BadView.
    """
    seq = _count(value, "seq")
    if seq > ours + MOST_FORGOTTEN:
        raise BadView(f"no report of this machine can have had the number {seq}")
    return seq


def encode(me: Membership) -> bytes:
    """The membership as its file holds it."""
    return json.dumps(_state_json(me), separators=(",", ":")).encode()


def _state_json(me: Membership) -> Json:
    known = me.known
    return {
        "version": VERSION,
        "network": me.network,
        "remote_name": me.remote_name,
        "order": me.order,
        "phase": me.phase,
        "down": me.down,
        "urls": me.urls,
        "controller_key": _b64(me.controller_key),
        "identity": _b64(me.identity.secret),
        "private_key": me.private_key,
        "interface": me.interface,
        "listen_port": me.listen_port,
        "wishes": {
            "name": me.wishes.name,
            "address": me.wishes.address,
            "endpoint": me.wishes.endpoint,
            "listen_port": me.wishes.listen_port,
            "settings": dict(me.wishes.settings),
        },
        "ranges": me.ranges,
        "as_read": me.as_read,
        "laid": sorted(me.laid),
        "found": dict(me.found),
        "seq": me.seq,
        "reported": facts_json(me.reported) if me.reported else None,
        "endpoints": dict(me.endpoints),
        "preshared": dict(me.preshared),
        "problems": problems_json(me.problems),
        "health": health_json(me.health),
        "copies": me.copies,
        "known": known
        and {
            "epoch": known.epoch.hex(),
            "at": [known.revision, known.commit_id],
            "view": view_json(known.view, me.remote_name),
        },
        "successor": me.successor and _state_json(me.successor),
    }


def is_foreign(head: bytes) -> bool:
    """Whether a file's beginning shows that another program's JSON is in it, or a person's.

    It has text, or fields of which none is a state's. What is empty, cut short or overwritten may
    have been a state.
    """
    if b"\0" in head or any(field in head for field in _OWN_FIELDS):
        return False
    return bool(set(_FIELD.findall(head)) - _FIRST_FIELDS or _LIST.match(head))


def decode(raw: bytes, network: str, where: str) -> Membership:
    """The membership in a file's content. Raises StateDamaged, StateNewer; both quote `where`."""
    try:
        data = read_json(raw)
        version = data["version"]
        if isinstance(version, int) and version > VERSION:
            raise StateNewer(
                f"{where} was written by a newer nmk (format {version}, not {VERSION})"
            )
        return _parse(data, network)
    except StateDamaged:
        raise
    except NmkError as error:
        raise StateDamaged(f"{where} is damaged: {error.message}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise StateDamaged(f"{where} is damaged: {_reason(error)}") from None


def _parse(data: Json, network: str) -> Membership:
    if data["version"] != VERSION or data["network"] != network:
        raise BadInput(f"it is of {quote(data['network'])}, format {quote(data['version'])}")
    if data["phase"] not in get_args(Phase):
        raise BadInput(f"{quote(data['phase'])} is no phase")
    missing = _SINCE_0_2_0 - {*data, *data["wishes"]}
    if missing and missing != _SINCE_0_2_0:
        raise KeyError(min(missing))
    me = Membership(
        network=parse_label(network, "network name"),
        remote_name=parse_label(data["remote_name"], "network name"),
        order=_order(data["order"]),
        urls=tuple(parse_url(url) for url in data["urls"]),
        controller_key=_key(data["controller_key"]),
        identity=Identity.from_secret(_key(data["identity"])),
        private_key=parse_private_key(data["private_key"]),
        interface=parse_interface(data["interface"]),
        listen_port=parse_port(data["listen_port"]),
        wishes=_parse_wishes(data["wishes"]),
        phase=data["phase"],
        down=_flag(data["down"]),
        seq=_count(data["seq"], "seq"),
        reported=parse_facts(data["reported"]) if data["reported"] is not None else None,
        endpoints=_parse_endpoints(data["endpoints"]),
        # What follows is not in files of nmk 0.1.0.
        preshared={parse_key(k): parse_key(p) for k, p in data.get("preshared", {}).items()},
        laid=frozenset(kind for kind in get_args(Kind) if kind in data.get("laid", ())),
        found={str(k): parse_found(k, v) for k, v in data.get("found", {}).items()},
        # What follows is not in files of nmk 0.2.0.
        problems=parse_problems(data.get("problems", [])),
        health=parse_health(data["health"]) if "health" in data else UNKNOWN,
        copies=tuple(str(parse_address(a)) for a in data.get("copies", ())),
        as_read=_parse_as_read(data.get("as_read")),
        successor=_parse(data["successor"], network) if data.get("successor") else None,
    )
    if not me.urls:
        raise BadInput("it names no controller")
    known = data["known"]
    if known is None:
        if me.phase == "joined":
            raise BadInput("it has no view")
        return me
    view = _parse_known(known, me)
    # Files of nmk before 0.3.0 have no ranges beside the view: those that it holds are agreed on.
    ranges = parse_ranges(data["ranges"]) if "ranges" in data else view.view.cidrs
    if ranges != view.view.cidrs:
        raise BadInput(f"its view has other ranges than {', '.join(ranges)}")
    return replace(me, known=view, ranges=ranges)


def _parse_wishes(data: Json) -> Wishes:
    name, address, endpoint, port = (
        data[k] for k in ("name", "address", "endpoint", "listen_port")
    )
    return Wishes(
        name=None if name is None else parse_label(name, "node name"),
        address=None if address is None else str(parse_address(address)),
        endpoint=None if endpoint is None else parse_pinned(endpoint),
        listen_port=None if port is None else parse_port(port),
        settings=_parse_locals(data.get("settings", {})),
    )


def _parse_endpoints(data: Json) -> dict[str, str]:
    """Those that make sense: one that is forgotten is given to WireGuard once more."""
    found = {}
    for key, endpoint in data.items():
        with suppress(BadInput):
            found[parse_key(key)] = parse_endpoint(endpoint)
    return found


def _parse_as_read(data: Json | None) -> dict[str, dict[str, int | str]] | None:
    return data and {str(file): _parse_locals(held) for file, held in data.items()}


def _parse_locals(data: Json) -> dict[str, int | str]:
    return {name: parse_local(name, value) for name, value in data.items()}


def _parse_known(data: Json, me: Membership) -> Known:
    """A point in history and its view, as a file holds them. Raises BadView."""
    known = _known(data["epoch"], data["at"], parse_view(data["view"], me.remote_name), me)
    if "clients" not in data["view"]:
        # Of nmk 0.1.0, which left them out: a full view has to come.
        known = replace(known, revision=0, commit_id="")
    return known


def _known(epoch_text: Any, at: Any, view: View, me: Membership) -> Known:  # noqa: ANN401  # JSON
    """A view and the point in history where it stands. Raises BadView."""
    try:
        epoch = bytes.fromhex(epoch_text)
        number, commit_id = at
        revision = _count(number, "revision")
    except (TypeError, ValueError) as error:
        raise BadView(f"the view does not say where it stands: {_reason(error)}") from None
    if len(epoch) != EPOCH_BYTES or not isinstance(commit_id, str) or len(commit_id) > 255:
        raise BadView("the view does not say where it stands")
    if view.id != me.id:
        raise BadView(f"the view is another node's, {quote(view.id)}")
    return Known(epoch, revision, commit_id, replace(view, network=me.network))


def _order(value: object) -> int:
    if value != NO_ORDER and not is_order(value):
        raise BadView(f"{quote(value)} cannot be the order")
    return _count(value, "order")


def _count(value: object, what: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _HIGHEST:
        raise BadView(f"{quote(value)} cannot be the {what}")
    return value


def parse_found(path: str, value: str) -> str:
    """A kernel setting's value: one of networks, and a number."""
    if not _SYSCTL.fullmatch(path) or not (value.isascii() and value.isdecimal()):
        raise BadInput(f"{quote(path)} is no kernel setting that nmk changes")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadInput(f"{quote(value)} is neither true nor false")
    return value


def _key(text: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != 32:
        raise BadInput("a key is damaged")
    return raw


def _b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _reason(error: Exception) -> str:
    return f"{quote(error.args[0])} is missing" if isinstance(error, KeyError) else str(error)
