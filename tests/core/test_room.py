"""The largest network that the controller lets there be is one that agents take in."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from random import Random

import pytest

from nmk.agent.state import MOST_BYTES as STATE_FILE
from nmk.core import mesh as mesh_module
from nmk.core import room, view
from nmk.core.ext_clients import NewClient, create_client
from nmk.core.gateways import Egress, Exit, Gateway, Ingress
from nmk.core.mesh import Mesh, encode_client_entry
from nmk.core.peers import (
    MOST_CANDIDATES,
    MOST_EGRESS_RANGES,
    MOST_INFLATED,
    MOST_OTHERS,
    merge_view,
    parse_view,
    read_reply,
    view_json,
)
from nmk.core.pieces import MOST_PIECE
from nmk.core.records import PROTOCOL, ExtClient, Facts, Issue, Network, Node
from nmk.core.roles import RoleWish, add_role
from nmk.core.room import HEAD, MOST_ROLES, SHARE, dump, encode_entry, roles_size
from nmk.core.view import pack_view
from nmk.errors import BadInput
from nmk.wire.envelope import MAX_REPLY, unpack
from tests.core.made import EPOCH, NOW, NOWHERE, commit, made_facts, made_mesh, made_node, view_of

CIDRS = ("10.64.0.0/10", "fd77:7777::/32")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
LONGEST6 = "fd77:7777:ffff:ffff:ffff:ffff:ffff:%x"


class Talkative:
    """Nodes that say as much as they may, in words that hardly deflate."""

    def __init__(self) -> None:
        self.random = Random(1)
        self._lans: dict[tuple[int, int, bool], tuple[str, ...]] = {}

    def address6(self, start: str, bits: int = 96) -> str:
        return str(IPv6Address(int(ip_address(start)) | self.random.getrandbits(bits)))

    def key(self) -> str:
        return base64.b64encode(self.random.randbytes(32)).decode()

    def name(self) -> str:
        return "".join(self.random.choices(LETTERS, k=63))

    def lan(self, number: int, count: int, *, short: bool = False) -> tuple[str, ...]:
        """Of their own for more nodes than the pool has room for."""
        which = (number % 1000, count, short)
        return self._lans.get(which) or self._lans.setdefault(which, self._lan(count, short=short))

    def _lan(self, count: int, *, short: bool) -> tuple[str, ...]:
        if short:
            return tuple(f"10.{n}.1.1/8" for n in range(count))
        return tuple(f"{self.address6('2001:db8::')}/128" for _ in range(count))

    def node(self, number: int, lan: int, *, short: bool = False) -> Node:
        port = self.random.randint(10_000, 65_535)
        pinned = None if short else f"[{self.address6('2a01:db8::')}]:{port}"
        return Node(
            identity=self.key(),
            network="home",
            name=f"n{number}" if short else self.name(),
            address4=str(IPv4Address("10.64.0.1") + number),
            address6=None if short else self.address6("fd77:7777::"),
            facts=Facts(
                self.key(), port, self.lan(number, lan, short=short), 60, pinned, "", PROTOCOL
            ),
            observed=("198.51.100.7",)
            if short
            else ("198.151.100.107", self.address6("2a01:db8::")),
        )


def taken(mesh: Mesh, viewer: Node) -> tuple[int, int]:
    """What an agent makes of a full view, by the agent's own bounds: peers, LAN addresses told."""
    packed = pack_view(mesh, viewer, EPOCH, NOWHERE)
    assert len(packed) <= MAX_REPLY
    found = merge_view(None, read_reply(unpack(packed, MOST_INFLATED)), "home")
    endpoints = {peer.id: "[" + "f" * 39 + "]:65535" for peer in found.peers.values()}
    kept = dump({"endpoints": endpoints, "known": view_json(found, "home")})
    assert len(kept) < STATE_FILE * 3 // 4
    assert parse_view(json.loads(kept)["known"], "home") == found
    return len(found.others), sum(len(peer.lan) for peer in found.peers.values())


def largest(lan: int, *, short: bool = False) -> tuple[Mesh, list[Node]]:
    say = Talkative()
    mesh = Mesh("home")
    commit(mesh, Network("home", *CIDRS))
    nodes = [say.node(number, lan, short=short) for number in range(MOST_OTHERS)]
    commit(mesh, *nodes)
    return mesh, nodes


@pytest.mark.parametrize("short", [False, True])
def test_a_member_that_joins_as_often_as_it_can_and_says_all_it_may_ends_no_view(
    short: bool,
) -> None:
    mesh, nodes = largest(64, short=short)
    others, told = taken(mesh, nodes[0])
    assert others == MOST_OTHERS - 1
    assert told >= others * (room.FREE_LAN if short else 0)
    assert mesh.curtailed
    assert sum(len(mesh.told(node).facts.lan) for node in nodes) < MOST_CANDIDATES
    at = (EPOCH, mesh.revision, mesh.commit_id)
    commit(mesh, *(replace(n, facts=replace(n.facts, listen_port=7)) for n in nodes))
    packed = pack_view(mesh, nodes[0], EPOCH, at)
    assert len(packed) <= MAX_REPLY
    delta = read_reply(unpack(packed, MOST_INFLATED))
    assert (delta.head["full"], len(delta.peers)) == (False, MOST_OTHERS)


def test_what_was_left_out_is_told_once_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh_module, "MOST_LAN", 10)
    say = Talkative()
    mesh = made_mesh()
    first, second = (made_node(n, facts=replace(made_facts(n), lan=say.lan(n, 10))) for n in (1, 2))
    commit(mesh, made_node(3), first)
    commit(mesh, replace(second, created_at=NOW + 1))
    at = (EPOCH, mesh.revision, mesh.commit_id)

    def told(at: tuple[str, int, str]) -> dict[str, int]:
        found = view_of(mesh, mesh.by_name["n3"], at)["peers"]
        return {p["name"]: len(p["lan"]) for block in found for p in block}

    assert told(NOWHERE)["n1"] == 10
    assert told(NOWHERE)["n2"] <= room.FREE_LAN
    commit(mesh, replace(first, deleted_at=NOW))
    assert told(at) == {"n2": 10}
    assert not mesh.curtailed


def crowd(monkeypatch: pytest.MonkeyPatch, *counts: int) -> tuple[Mesh, list[Node]]:
    """Room for 30 LAN addresses beyond the shares, and nodes that came one after the other."""
    monkeypatch.setattr(mesh_module, "MOST_LAN", 30)
    mesh, nodes = made_mesh(), []
    for number, count in enumerate(counts, 1):
        lan = tuple(f"10.{number}.{n}.1/24" for n in range(count))
        facts = replace(made_facts(number), lan=lan)
        nodes.append(made_node(number, facts=facts, created_at=NOW + number))
        commit(mesh, nodes[-1])
    return mesh, nodes


def lan_told(mesh: Mesh, since: int = 0) -> dict[str, int]:
    """How many LAN addresses a machine at that revision is told anew, by whose they are."""
    told = [json.loads(entry) for entry in mesh.entries.since(since)]
    return {entry["name"]: len(entry["lan"]) for entry in told}


def read_anew(mesh: Mesh) -> Mesh:
    """The network as a controller has it that starts now."""
    anew = Mesh(mesh.name)
    records = [mesh.network, *mesh.nodes.values(), *mesh.deleted.values()]
    anew.apply(mesh.revision, mesh.commit_id, NOW, filter(None, records), several=True)
    return anew


def test_who_is_left_out_is_the_same_after_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, [first, *_] = crowd(monkeypatch, 30, 30)
    commit(mesh, replace(first, facts=replace(first.facts, instance="rebooted")))
    assert lan_told(mesh) == lan_told(read_anew(mesh)) == {"n1": 30, "n2": room.FREE_LAN}


@pytest.mark.parametrize(("before", "after"), [(30, 4), (4, 30)])
def test_a_machine_behind_hears_after_a_restart_who_was_left_out_or_no_longer_is(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int
) -> None:
    mesh, [first, _] = crowd(monkeypatch, before, 30)
    behind, known = mesh.revision, lan_told(mesh)
    lan = tuple(f"10.1.{n}.1/24" for n in range(after))
    commit(mesh, replace(first, facts=replace(first.facts, lan=lan)))
    for controller in (mesh, read_anew(mesh)):
        assert {**known, **lan_told(controller, behind)} == lan_told(mesh)
        assert not lan_told(controller, mesh.revision)
    assert lan_told(mesh)["n2"] != known["n2"]


def test_a_restart_tells_nobody_again_where_all_have_room() -> None:
    mesh = made_mesh(*(made_node(n, facts=made_facts(n, lan=[f"10.{i}.0.1/24" for i in range(9)]))
                       for n in (1, 2)))  # fmt: skip
    behind = mesh.revision
    commit(mesh, made_node(3))
    assert set(lan_told(read_anew(mesh), behind)) == {"n3"}


def test_one_that_does_not_fit_keeps_nobody_else_out(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh, [first, *_] = crowd(monkeypatch, 34, 64, 9)
    assert lan_told(mesh) == {"n1": 34, "n2": room.FREE_LAN, "n3": room.FREE_LAN}
    commit(mesh, replace(first, facts=replace(first.facts, lan=first.facts.lan[:14])))
    assert lan_told(mesh) == {"n1": 14, "n2": room.FREE_LAN, "n3": 9}


def test_a_share_has_room_for_all_that_is_not_dealt_out() -> None:
    node = Node(
        identity="i" * 44,
        network="home",
        name="n" * 63,
        address4="100.127.255.254",
        address6=LONGEST6 % 0xFFFF,
        facts=Facts("k" * 44, 65535, endpoint=f"[{LONGEST6 % 0xFFFF}]:65535"),
        observed=("198.151.100.107", LONGEST6 % 0xFFFE),
    )
    client = ExtClient("f" * 16, "home", "c" * 63, "i" * 44, "k" * 44, node.address4, node.address6,
                       Issue((), ""))  # fmt: skip
    assert len(encode_entry(node)) < SHARE
    assert len(encode_client_entry(client)) < SHARE


def test_an_entry_with_all_that_one_may_have_is_one_that_agents_read() -> None:
    node = Talkative().node(1, 64)
    outer, inner = ([f"fd{side}{n:02x}:ffff:ffff:ffff:ffff:ffff:ffff:fff0/124" for n in range(64)]
                    for side in "12")  # fmt: skip
    egress = Egress(tuple(outer), "auto", "i" * 15, 65535, dict(zip(outer, inner, strict=True)),
                    tuple(outer))  # fmt: skip
    full = Gateway(Ingress("h" * 253 + ":65535"), egress, Exit("auto", "i" * 15))
    assert len(encode_entry(replace(node, gateway=full))) < MOST_PIECE


def test_roles_and_ranges_fit_what_agents_take_in(monkeypatch: pytest.MonkeyPatch) -> None:
    mesh = made_mesh(made_node(1), made_node(2), cidr6="fd20::/64")
    first = add_role(mesh, RoleWish("n1", "ingress", endpoint="a" * 63 + ".example.org:7"))
    commit(mesh, first)
    monkeypatch.setattr("nmk.core.sites.MOST_ROLES", 2 * roles_size(first) - 1)
    commit(mesh, add_role(mesh, RoleWish("n1", "ingress", endpoint="b" * 63 + ".example.org:7")))
    with pytest.raises(BadInput, match="all roles and ranges of home together"):
        add_role(mesh, RoleWish("n2", "ingress", endpoint="c" * 63 + ".example.org:7"))
    phone = NewClient("f" * 16, "phone", Talkative().key(), routes=",".join(
        f"192.168.{n}.0/24" for n in range(10)))  # fmt: skip
    with pytest.raises(BadInput, match="all roles and ranges of home together"):
        create_client(mesh, phone, NOW)


def test_the_pools_and_the_shares_are_no_more_than_there_is() -> None:
    assert MOST_OTHERS * SHARE + MOST_ROLES + room.MOST_LAN_BYTES + HEAD <= MOST_INFLATED
    assert room.MOST_LAN_BYTES >= 1 << 20
    assert room.MOST_LAN >= 1 << 15
    gone = len(dump(["0" * 16] * MOST_OTHERS))
    assert gone + 2 * MOST_PIECE < HEAD
    plain4 = dump([f"172.16.{n // 256}.{n % 256}/32" for n in range(MOST_EGRESS_RANGES)])
    assert len(plain4) < MOST_ROLES


def test_more_that_are_gone_than_agents_take_at_once_make_a_full_view(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mesh = made_mesh(*map(made_node, range(1, 5)))
    at = (EPOCH, mesh.revision, mesh.commit_id)
    monkeypatch.setattr(view, "MOST_OTHERS", 2)
    for number in (2, 3):
        commit(mesh, replace(mesh.by_name[f"n{number}"], deleted_at=NOW))
    assert view_of(mesh, mesh.by_name["n1"], at)["full"] is False
    commit(mesh, replace(mesh.by_name["n4"], deleted_at=NOW))
    assert view_of(mesh, mesh.by_name["n1"], at)["full"] is True
    assert json.dumps(view_of(mesh, mesh.by_name["n1"], at))
