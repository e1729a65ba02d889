"""What was asked for cannot be, or whoever was asked says no, nothing, or nonsense."""

from __future__ import annotations

from nmk.errors.base import EXIT_TEMPORARY, EXIT_USAGE, NmkError


class BadInput(NmkError):
    """A value that does not parse or is out of its range."""

    code, status, exit_code = "bad-input", 400, EXIT_USAGE


class NotFound(NmkError):
    """No such network, node or key."""

    code, status = "not-found", 404


class NameTaken(NmkError):
    """A live object of this kind has the name already."""

    code, status = "name-taken", 409
    default_hint = "choose another name"


class Ambiguous(NmkError):
    """More than one fits, and none was named."""

    code, status, exit_code = "ambiguous", 400, EXIT_USAGE
    default_hint = "name one with -n"


class RangeOverlaps(NmkError):
    """The range shares addresses with another network of this controller."""

    code, status = "range-overlaps", 409
    default_hint = "leave the range out and a free one is picked"


class RangeFull(NmkError):
    """Every address of the range is in use."""

    code, status = "range-full", 409
    default_hint = "nmk node delete NODE, for a machine that is gone"


class AddressTaken(NmkError):
    """The address asked for belongs to another node."""

    code, status = "address-taken", 409
    default_hint = "leave --address out and a free one is given"


class Stale(NmkError):
    """If-Match names a revision that is no longer current (RFC 9110, 13.1.1)."""

    code, status = "stale", 412
    default_hint = "look at it again, then repeat the change"


class StaleSequence(NmkError):
    """A report whose number has been used: a replay, a rolled-back disk or a copied identity."""

    code, status = "stale-sequence", 409
    default_hint = "nmk checkin"
    stored = 0  # the last number that was taken in


class TokenMalformed(NmkError):
    """The text is no join token, or only a part of one."""

    code, status, exit_code = "token-malformed", 400, EXIT_USAGE
    default_hint = "paste the whole token that `nmk key create` printed on the controller"


class KeyRefused(NmkError):
    """The access key is not one of this controller's, or its secret is wrong."""

    code, status = "key-refused", 403
    default_hint = "on the controller: nmk key create"


class KeyExpired(KeyRefused):
    """The access key's time is over."""

    code = "key-expired"


class KeyUsedUp(KeyRefused):
    """The access key has let in as many machines as it may."""

    code = "key-used-up"


class KeyRevoked(KeyRefused):
    """The access key was deleted."""

    code = "key-revoked"


class NodeDeleted(NmkError):
    """This identity's node was deleted on the controller. Final."""

    code, status = "node-deleted", 410
    default_hint = "nmk join -, with a new token; or nmk leave"


class NodeUnknown(NmkError):
    """The controller has no memory of this identity."""

    code, status = "node-unknown", 404
    default_hint = "join again with a new token: nmk join -"


class Unauthorized(NmkError):
    """The admin API wants a key that it did not get."""

    code, status = "unauthorized", 401
    default_hint = "set NMK_API_KEY to the content of admin.key in the controller's data directory"


class Unreadable(NmkError):
    """A sealed message that does not open: not ours, not for us, or changed on the way."""

    code, status = "unreadable", 400
    default_hint = "join with a token of the controller that now answers there"


class TooLarge(NmkError):
    """A message over the size limit."""

    code, status = "too-large", 413
    default_hint = "send less at once"


class RateLimited(NmkError):
    """Too many requests of strangers from one address."""

    code, status, exit_code = "rate-limited", 429, EXIT_TEMPORARY
    default_hint = "try again in a minute"


class Unreachable(NmkError):
    """Nothing answered at any of the URLs."""

    code, status, exit_code = "unreachable", 503, EXIT_TEMPORARY
    default_hint = "is `nmk server` running there, and its port open?"


class BadReply(NmkError):
    """What answered is no controller, or a broken one."""

    code, status, exit_code = "bad-reply", 502, EXIT_TEMPORARY
    default_hint = "is that URL nmk's node API, with no proxy page before it?"


class BadView(NmkError):
    """The controller told us something that we must not do."""

    code, status = "bad-view", 502
    default_hint = "the mesh stays as it was; look at the controller's network settings"


class RangesChanged(BadView):
    """The controller gives the network other ranges than those that this machine joined with."""

    code = "ranges-changed"
    default_hint = "nmk leave, then join again"


class RangesRefused(NmkError):
    """A network's ranges that this machine must not lead into a tunnel unless its owner says so."""

    code = "ranges-refused"
    default_hint = "where that is wanted: nmk join - --range CIDR"


class StoreUnavailable(NmkError):
    """The database cannot be read or written at the moment."""

    code, status, exit_code = "store-unavailable", 503, EXIT_TEMPORARY
    default_hint = "look at the controller's log, its disk and its database"


class StoreUnusable(NmkError):
    """The database is damaged, or from a newer nmk."""

    code = "store-unusable"
    default_hint = "start the nmk that wrote it, or restore a backup"
