"""All nodes of a network as their peers see them, ready to travel.

An entry is the same bytes for every viewer, encoded when the node changes. Entries stand in the
order of the revisions that wrote them, so that a delta is a walk from the newest back, and in
blocks that are deflated once and kept, so that a full view costs a join of byte strings and one
more node in ten thousand costs deflating one block.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

BLOCK = 256  # entries; larger blocks deflate a little better, smaller ones change more cheaply


@dataclass(slots=True)
class _Block:
    entries: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    deflated: bytes | None = None


class Entries:
    """Encoded nodes by their ids, in the order in which they changed."""

    def __init__(self) -> None:
        self._blocks: list[_Block] = [_Block()]
        self._home: dict[str, _Block] = {}

    def put(self, node_id: str, revision: int, entry: bytes, *, anew: bool = False) -> None:
        """The entry of a node from this revision on; nothing when the bytes are the same.

        `anew`: they may have been others in between, so they are told again all the same.
        """
        home = self._home.get(node_id)
        if home is not None:
            if home.entries[node_id][1] == entry and not anew:
                return
            self.remove(node_id)
        last = self._blocks[-1]
        if len(last.entries) >= BLOCK:
            last = _Block()
            self._blocks.append(last)
        last.entries[node_id] = (revision, entry)
        last.deflated = None
        self._home[node_id] = last

    def remove(self, node_id: str) -> None:
        """Forget a node, if it is there."""
        home = self._home.pop(node_id, None)
        if home is None:
            return
        del home.entries[node_id]
        home.deflated = None
        if len(home.entries) < BLOCK // 4:
            self._merge(home)

    def since(self, revision: int) -> list[bytes]:
        """Entries written after a revision, the newest first."""
        newer: list[bytes] = []
        for block in reversed(self._blocks):
            for at, entry in reversed(block.entries.values()):
                if at <= revision:
                    return newer
                newer.append(entry)
        return newer

    def deflated(self) -> Iterator[bytes]:
        """Each block as `,[ENTRY,...]`, deflated by `deflate`."""
        for block in self._blocks:
            if block.deflated is None:
                joined = b",".join(entry for _, entry in block.entries.values())
                block.deflated = deflate(b",[" + joined + b"]")
            yield block.deflated

    def _merge(self, block: _Block) -> None:
        """Move what is left of a block to the front of the next one, if that has the room."""
        place = next(i for i, b in enumerate(self._blocks) if b is block)
        if place + 1 == len(self._blocks):
            return
        after = self._blocks[place + 1]
        if len(block.entries) + len(after.entries) > BLOCK:
            return
        self._home.update(dict.fromkeys(block.entries, after))
        after.entries = {**block.entries, **after.entries}
        after.deflated = None
        del self._blocks[place]


def deflate(data: bytes, *, last: bool = False) -> bytes:
    """A piece of a raw deflate stream (RFC 1951) that refers to nothing before it.

    Pieces may be joined in any order, one made with `last` at the end.
    """
    deflater = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflater.compress(data) + deflater.flush(zlib.Z_FINISH if last else zlib.Z_SYNC_FLUSH)
