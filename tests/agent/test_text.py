"""Text of a hostile controller, at every place of a view: refused, or harmless in a hook."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nmk.core.hooks import Event, environment_of
from nmk.core.tunnel import TunnelPeer
from nmk.errors import NmkError
from tests.agent.memberships import full_view, joining, peer, told
from tests.core.test_text import ANY_TEXT, HOSTILE

ME = joining()
PEER = {**peer(2), "static": "192.0.2.2:51821"}
VIEW = full_view(ME, PEER)
VIEW["self"]["observed"] = ["198.51.100.1"]
some_text = st.sampled_from([*HOSTILE, "\ud800", "$(reboot)", "a\nb", "-rf"]) | ANY_TEXT


def places(value: object, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value there is a text."""
    if isinstance(value, str):
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[key], (*path, key))


@settings(max_examples=300, deadline=None)
@given(place=st.sampled_from(list(places(VIEW))), text=some_text, is_part=st.booleans())
def test_what_a_hook_is_told_is_plain(place: tuple[Any, ...], text: str, is_part: bool) -> None:
    view = copy.deepcopy(VIEW)
    inner: Any = view
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = inner[place[-1]] + text if is_part else text
    assert json.dumps(view)
    try:
        me = told(ME, view)
    except NmkError as error:
        said = f"{error.message} {error.hint}"
    else:
        assert me.known
        said = ""
        for member in me.known.view.peers.values():
            event = Event("peer-added", TunnelPeer(member.key, member.addresses))
            names = {member.key: member.name}
            found = environment_of(event, me.network, me.interface, me.known.view, names)
            assert all(v.isascii() and v.isprintable() for v in found.values()), found
            assert not any(c in "".join(found.values()) for c in "$`;&|<>(){}\\'\"*?~!#")
    assert said.isprintable()
