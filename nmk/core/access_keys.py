"""Access keys: whom they let in, and what a request changes of them; decided as in `core.nodes`."""

from __future__ import annotations

from dataclasses import replace
from hmac import compare_digest

from nmk.core.mesh import Mesh, check_fresh
from nmk.core.parse import quote
from nmk.core.records import AccessKey, JoinRequest, hash_secret
from nmk.errors import KeyExpired, KeyRefused, KeyRevoked, KeyUsedUp, NotFound

MOST_GONE = 16_384  # machines that one key let in, each of which is remembered for ever


def find_key(mesh: Mesh, key_id: str, *, revoked: bool = False) -> AccessKey:
    """An access key by its id; one that was revoked only if asked for. Raises NotFound."""
    key = mesh.keys.get(key_id)
    if key is None or (key.deleted_at is not None and not revoked):
        raise NotFound(
            f"there is no access key {quote(key_id)}", f"nmk key list -n {mesh.name} --all"
        )
    return key


def admit(mesh: Mesh, request: JoinRequest, now: int) -> AccessKey:
    """The access key of the request: its secret right, not revoked, expired or used up.

    A machine that is a node already comes in again whatever has become of its key since.
    """
    key = mesh.keys.get(request.key_id)
    if key is None or not opens(mesh, request):
        raise KeyRefused("the access key is not one of this network's")
    if request.identity in mesh.nodes:
        return key
    if key.deleted_at is not None:
        raise KeyRevoked("the access key was revoked")
    if key.expires_at is not None and key.expires_at <= now:
        raise KeyExpired("the access key has expired")
    if key.uses_max is not None and key.uses >= key.uses_max:
        raise KeyUsedUp(f"the access key has been used {key.uses} of {key.uses_max} times")
    if _gone_of(mesh, key) >= MOST_GONE:
        raise KeyUsedUp(f"of the machines that the access key let in, {MOST_GONE} are gone")
    return key


def _gone_of(mesh: Mesh, key: AccessKey) -> int:
    """Machines that it let in and that are no nodes any more; 0 where they cannot be too many."""
    if key.uses < MOST_GONE:
        return 0
    return key.uses - sum(node.key_id == key.id for node in mesh.nodes.values())


def opens(mesh: Mesh, request: JoinRequest) -> bool:
    """Whether the request has the id and the secret of a key, whatever has become of that."""
    key = mesh.keys.get(request.key_id)
    return key is not None and compare_digest(key.secret_hash, hash_secret(request.secret))


def delete_key(mesh: Mesh, key_id: str, revision: int | None, now: int) -> AccessKey:
    """The key's tombstone. Nodes that it let in stay."""
    key = find_key(mesh, key_id)
    check_fresh(key.revision, revision, f"access key {quote(key_id)}")
    return replace(key, deleted_at=now)
