"""Which interface is ours is noted, for one life of the machine and until it is gone."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import own_link
from nmk.agent.membership import Membership
from nmk.agent.places import runtime_directory
from nmk.system.runner import DryRunner, Runner
from tests.agent.memberships import joined


@pytest.fixture
def me() -> Membership:
    return replace(joined(), interface="lo")


def test_it_is_known_until_it_is_gone(me: Membership) -> None:
    assert own_link.noted(me) is None
    own_link.note(me, DryRunner())
    assert own_link.noted(me) is None
    own_link.note(me, Runner())
    assert own_link.noted(me) == socket.if_nametoindex("lo")
    own_link.forget(me, DryRunner())
    assert own_link.noted(me)
    own_link.forget(me, Runner())
    assert own_link.noted(me) is None
    own_link.note(replace(me, interface="nmk-none"), Runner())
    assert own_link.noted(me) is None


@pytest.mark.parametrize("text", ["", "1", "x {}", "0 {}", "2147483648 {}", "1 {}x", "1 {} "])
def test_a_note_of_another_life_or_of_nothing_is_none(me: Membership, text: str) -> None:
    own_link.note(me, Runner())
    [file] = (f for f in Path(runtime_directory()).iterdir() if f.name.endswith(".link"))
    instance = file.read_text().split()[1]
    file.write_text(text.format(instance))
    assert own_link.noted(me) is None
    own_link.note(me, Runner())
    assert own_link.noted(me)
