"""Which interface is ours is noted, for one life of the machine and until it is gone."""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nmk.agent import own_link
from nmk.agent.checks import network as checks
from nmk.agent.membership import Membership
from nmk.agent.places import runtime_directory
from nmk.errors import CommandFailed
from nmk.system.dump import Dump
from nmk.system.runner import DryRunner, Runner
from tests.agent.memberships import joined
from tests.core.made import key32


@pytest.fixture
def me(state_dir: Path) -> Membership:
    assert not list(state_dir.iterdir())
    return replace(joined(), interface="lo")


def test_it_is_known_until_it_is_gone(me: Membership) -> None:
    assert own_link.noted(me.network) is None
    own_link.note(me, DryRunner())
    assert own_link.noted(me.network) is None
    own_link.note(me, Runner())
    assert own_link.noted(me.network) == socket.if_nametoindex("lo")
    own_link.forget(me, DryRunner())
    assert own_link.noted(me.network)
    own_link.forget(me, Runner())
    assert own_link.noted(me.network) is None
    own_link.note(replace(me, interface="nmk-none"), Runner())
    assert own_link.noted(me.network) is None


@pytest.mark.parametrize("text", ["", "1", "x {}", "0 {}", "2147483648 {}", "1 {}x", "1 {} "])
def test_a_note_of_another_life_or_of_nothing_is_none(me: Membership, text: str) -> None:
    own_link.note(me, Runner())
    [file] = (f for f in Path(runtime_directory()).iterdir() if f.name.endswith(".link"))
    instance = file.read_text().split()[1]
    file.write_text(text.format(instance))
    assert own_link.noted(me.network) is None
    own_link.note(me, Runner())
    assert own_link.noted(me.network)


class Doubled(Runner):
    """A machine that has these WireGuard interfaces, all with the network's key but `other`."""

    def __init__(self, me: Membership, *names: str) -> None:
        super().__init__()
        self.names, self.key = names, me.private_key

    def read(self, argv: Sequence[str]) -> str:
        match argv:
            case ["wg", "show", "interfaces"]:
                return " ".join(self.names)
            case ["wg", "show", name, "dump"]:
                key = key32(9) if name == "other" else self.key
                return f"{key}\t{key32(8)}\t51821\toff\n"
            case _:
                raise CommandFailed("no such command")


@pytest.mark.usefixtures("state_dir")
def test_another_interface_with_our_key_is_named_and_not_touched(
    me: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's, renamed where no note is left: it may be of what showconf printed as well."""
    there = {"nmk-home", "theirs", "other"}
    monkeypatch.setattr("nmk.system.wireguard.exists", lambda name: name in there)
    me = replace(me, interface="nmk-home")
    assert own_link.find_doubles(me, Doubled(me, "nmk-home", "other")) == []
    run = Doubled(me, "nmk-home", "theirs", "other")
    [found] = own_link.find_doubles(me, run)
    assert "theirs has the key of home, as nmk-home has" in found.message
    first = "where it is nmk-home from before it was renamed: "
    assert found.hint == f"{first}ip link delete dev theirs"
    there.remove("nmk-home")
    run = Doubled(me, "theirs", "other")
    [found] = own_link.find_doubles(me, run)
    assert found.message == "the interface theirs has the key of home"
    first = "where it is that, renamed: "
    assert found.hint.startswith(f"{first}ip link set dev theirs name nmk-home; ")
    monkeypatch.setattr(checks, "live", lambda *_: ("missing", None))
    assert [f.reason for f in checks.check_interface(me, run, {})] == [found.message]


class Held(Doubled):
    """The same, on which a WireGuard interface has the network's range."""

    def read(self, argv: Sequence[str]) -> str:
        if argv[0] == "wg":
            return super().read(argv)
        if argv[-3:] == ["show", "table", "all"] and "-4" in argv:
            return json.dumps([{"dst": "10.77.0.0/24", "dev": self.names[0]}])
        if "get" in argv:  # the interface's own address is local
            raise CommandFailed("no such route")
        return "[]"


@pytest.mark.usefixtures("state_dir")
@pytest.mark.parametrize(
    ("owner", "mend"),
    [
        (
            "other",
            "to take that hub over: nmk extclient import /etc/wireguard/other.conf -n home; ",
        ),
        ("mine", "end what `nmk showconf` printed, where its file is: wg-quick down ./mine.conf; "),
        ("eth1", "give that LAN or the network another range, if those nodes are needed here"),
    ],
)
def test_who_has_the_range_of_a_network_of_one_is_named_with_what_comes_next(
    monkeypatch: pytest.MonkeyPatch, owner: str, mend: str
) -> None:
    """A hub between the join and the import, a file of showconf, a LAN."""
    me = joined()
    monkeypatch.setattr("nmk.agent.claims.own_subnets", lambda **_: [(owner, "10.77.0.0/24")])
    monkeypatch.setattr("nmk.system.wireguard.exists", lambda _: True)
    monkeypatch.setattr(checks, "live", lambda *_: ("up", Dump("", "", 1, {})))
    [found] = checks.check_overlap(me, Held(me, *({owner} - {"eth1"} or {"nmk-home"})), {})
    assert found.reason == f"left out, as {owner} has 10.77.0.0/24: 10.77.0.1 (web)"
    assert found.level == "warn"
    assert found.mend is not None
    assert found.mend.startswith(mend)


@pytest.mark.parametrize("is_there", [True, False])
def test_no_name_of_another_interface_becomes_a_command(
    me: Membership, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr("nmk.agent.own_link.wireguard.renamed", lambda *_: None)
    monkeypatch.setattr("nmk.agent.own_link.wireguard.exists", lambda _: is_there)
    monkeypatch.setattr("nmk.agent.own_link.wireguard.of_key", lambda *_: {"x;id>hacked"})
    [problem] = own_link.find_doubles(me, Runner())
    assert "ip link delete dev 'x;id>hacked'" in problem.hint
    assert "x;id" not in problem.hint.replace("'x;id>hacked'", "")
