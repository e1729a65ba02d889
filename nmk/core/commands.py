"""Commands that people are told to run, as lines for a shell."""

from __future__ import annotations

import shlex


def command(*words: object) -> str:
    """The line that a shell takes as these very words, whatever is in them.

    Names come from outside: the kernel takes `x;id>y` as that of an interface.
    """
    return shlex.join(map(str, words))


def remove_link(interface: str) -> str:
    """What to do about an interface that is in the way of nmk's own."""
    gone = command("ip", "link", "delete", "dev", interface)
    return f"where nothing else needs it: {gone}; then: nmk checkin"
