"""Views with gateways and ext clients: a delta leads to where a full view is, from anywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from nmk.core import ext_clients, networks, nodes
from nmk.core.ext_clients import NewClient
from nmk.core.gateways import parse_role
from nmk.core.hubs import HubPeer, take_over_hub
from nmk.core.mesh import Mesh
from nmk.core.peers import View
from nmk.core.records import Network, Node, Record, key_of
from nmk.core.roles import RoleWish, add_role, remove_role
from nmk.errors import NmkError
from tests.core.made import (
    EPOCH,
    INGRESS,
    NOW,
    At,
    commit,
    commit_id,
    here,
    identity,
    key32,
    made_client,
    made_egress,
    made_facts,
    made_key,
    made_mesh,
    made_node,
    made_request,
    merged,
    view_of,
)

LANS = ("192.168.7.0/24", "10.9.0.0/16", "fd00:7::/48")
KINDS = (
    *("join", "leave", "report", "rename node", "role", "no role", "settings"),
    *("create", "create", "disable", "enable", "delete", "rename", "move", "expires", "expire"),
    *("rotate", "other gateway", "take over"),
)
steps_ = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 30), st.integers(0, 30)), max_size=50
)
Step = tuple[str, int, int]


class Recorded(Mesh):
    """A mesh that remembers its commits, as the database would."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.log: list[tuple[int, str, int, list[Record]]] = []

    def apply(
        self,
        revision: int,
        commit_id: str,
        at: int,
        records: Iterable[Record],
        *,
        several: bool = False,
    ) -> None:
        stored = list(records)
        self.log.append((revision, commit_id, at, stored))
        super().apply(revision, commit_id, at, stored, several=several)


def started() -> Recorded:
    """n90, which is nothing but a viewer, and n91, an ingress gateway."""
    mesh = Recorded("home")
    commit(
        mesh,
        Network("home", "10.20.0.0/24", "fd20::/64"),
        made_key(uses_max=None),
        made_node(90),
        made_node(91, gateway=INGRESS, endpoint="192.0.2.1:1"),
    )
    return mesh


def change(mesh: Mesh, number: int, step: Step) -> None:
    """One commit of this kind; nothing where it makes no sense."""
    with suppress(NmkError):
        records = decide(mesh, number, step)
        if records:
            commit(mesh, *records, at=NOW + number)


def decide(mesh: Mesh, number: int, step: Step) -> list[Record]:
    """What a step writes, at the time of its number. Raises NmkError where it makes no sense."""
    kind, one, other = step
    live = [n for n in mesh.by_name if n != "n90"]
    node = live[one % len(live)] if live else "none"
    now = NOW + number
    role = parse_role(("ingress", "egress", "exit")[other % 3])
    ranges = LANS[: 1 + one % 3] if role == "egress" else ()
    peer = HubPeer(f"{number:016x}", f"x{other}", key32(number, 9), (f"10.20.0.{one + 99}",))

    def report() -> list[Record]:
        found = nodes.find_node(mesh, node)
        facts = made_facts(number, port=51000 + other)
        return nodes.report(mesh, found.identity, found.seq + 1, facts, ())

    deeds: dict[str, Callable[[], list[Record]]] = {
        "join": lambda: nodes.join(mesh, made_request(number), (), now),
        "leave": lambda: [nodes.delete_node(mesh, node, None, now)],
        "report": report,
        "rename node": lambda: [nodes.set_node(mesh, node, {"name": f"x{other}"}, None)],
        "role": lambda: [add_role(mesh, RoleWish(node, role, ranges))],
        "no role": lambda: [remove_role(mesh, node, role, ranges[:1])],
        "settings": lambda: [networks.set_network(mesh, {"mtu": 1300 + other}, None)],
        "take over": lambda: take_over_hub(mesh, node, key32(number, kind=8), [], [peer], now),
    }
    return deeds[kind]() if kind in deeds else decide_client(mesh, number, step)


def decide_client(mesh: Mesh, number: int, step: Step) -> list[Record]:
    """The same of steps that are of ext clients."""
    kind, one, other = step
    clients = list(mesh.client_by_name)
    name = clients[one % len(clients)] if clients else "none"
    gateways = [n.name for n in mesh.gateways.values()] or ["none"]
    now = NOW + number
    expires = now + other if other % 2 else None
    new = NewClient(f"{number:016x}", f"x{other}", key32(number, 9), expires_at=expires)

    def wish(expires_at: int | None = None, **changes: str) -> list[Record]:
        return [ext_clients.set_client(mesh, name, changes, expires_at, None)]

    def switch(enabled: bool) -> list[Record]:
        return [ext_clients.switch_client(mesh, name, now, None, enabled=enabled)]

    deeds: dict[str, Callable[[], list[Record]]] = {
        "create": lambda: [ext_clients.create_client(mesh, new, now)],
        "disable": lambda: switch(False),
        "enable": lambda: switch(True),
        "delete": lambda: [ext_clients.delete_client(mesh, name, None, now)],
        "rename": lambda: wish(name=f"x{other}"),
        "move": lambda: wish(address=f"10.20.0.{99 + other}"),
        "expires": lambda: wish(now + other, expires="1s"),
        "expire": lambda: ext_clients.expire_clients(mesh, now),
        "rotate": lambda: [ext_clients.rotate_client(mesh, name, key32(number, 9), None)],
        "other gateway": lambda: wish(gateway=gateways[other % len(gateways)]),
    }
    return deeds[kind]()


class Agent:
    """What an agent keeps of what it is told."""

    def __init__(self) -> None:
        self.view: View | None = None
        self.at: At = ("", 0, "")
        self.told: list[str] = []

    def check_in(self, mesh: Mesh) -> None:
        reply = view_of(mesh, mesh.by_name["n90"], self.at)
        if "full" in reply:
            self.view, self.at = merged(self.view, reply), here(mesh)
        assert self.at == here(mesh)


def full(mesh: Mesh) -> View:
    return merged(None, view_of(mesh, mesh.by_name["n90"]))


@given(steps_, st.data())
def test_agents_that_take_deltas_end_where_one_is_that_takes_all(
    steps: list[Step], data: st.DataObject
) -> None:
    mesh, keen, lazy = started(), Agent(), Agent()
    for number, step in enumerate(steps, start=100):
        change(mesh, number, step)
        keen.check_in(mesh)
        assert keen.view == full(mesh)
        if data.draw(st.booleans(), label="the lazy one looks"):
            lazy.check_in(mesh)
            assert lazy.view == full(mesh)
    for agent in (keen, lazy):
        agent.check_in(mesh)
        assert agent.view == full(mesh)
    view = full(mesh)
    assert {c.name for c in view.clients.values()} == {
        c.name for c in mesh.clients.values() if c.state == "enabled"
    }
    assert {(p.name, p.gateway) for p in view.peers.values()} == {
        (n.name, n.gateway) for n in mesh.nodes.values() if n.name != "n90"
    }


def replica_of(mesh: Recorded, ends: list[int]) -> Mesh:
    """A controller that looked at the database at these places in the log.

    As `server.controller` reads it: each row once, as it was then.
    """
    replica, start = Mesh("home"), 0
    for end in ends:
        rows: dict[tuple[type, str], Record] = {}
        for _, _, _, records in mesh.log[start:end]:
            rows |= {(type(r), key_of(r)): r for r in records}
        *before, last = mesh.log[start:end]
        for revision, commit_id_, at, _ in before:
            replica.apply(revision, commit_id_, at, ())
        replica.apply(*last[:3], rows.values(), several=True)
        start = end
    return replica


def state_of(mesh: Mesh) -> dict[str, object]:
    """What decisions are made from."""
    return {
        "nodes": mesh.nodes,
        "names": mesh.by_name,
        "keys": mesh.by_wg_key,
        "gateways": mesh.gateways,
        "clients": mesh.clients,
        "client names": mesh.client_by_name,
        "client keys": mesh.client_by_key,
        "deleted": mesh.deleted,
        "expiry": mesh.next_expiry,
        "taken": {family: pool._taken for family, pool in mesh.pools.items()},
        "gone": sorted(mesh.gone_since(0)),
        "commits": mesh.commits,
    }


@given(steps_, st.data())
def test_many_commits_taken_in_at_once_are_as_good_as_one_by_one(
    steps: list[Step], data: st.DataObject
) -> None:
    mesh = started()
    for number, step in enumerate(steps, start=100):
        change(mesh, number, step)
    count = len(mesh.log)
    cuts = data.draw(st.sets(st.integers(1, count)), label="the replica looks after so many")
    for replica in (replica_of(mesh, sorted({*cuts, count})), replica_of(mesh, [count])):
        assert state_of(replica) == state_of(mesh)
        assert full(replica) == full(mesh)
        for family, pool in replica.pools.items():  # what was left by a move is in no row
            assert pool._freed.keys() <= mesh.pools[family]._freed.keys()
        for revision in range(count + 1):
            assert sorted(replica.gone_since(revision)) == sorted(mesh.gone_since(revision))


@given(steps_, st.data())
def test_an_agent_may_ask_another_controller_from_wherever_it_stands(
    steps: list[Step], data: st.DataObject
) -> None:
    mesh, agents = started(), [Agent()]
    agents[0].check_in(mesh)
    for number, step in enumerate(steps, start=100):
        change(mesh, number, step)
        agent = Agent()
        agent.check_in(mesh)
        agents.append(agent)
    count = len(mesh.log)
    cuts = data.draw(st.sets(st.integers(1, count)), label="the other one looks after so many")
    replica = replica_of(mesh, sorted({*cuts, count}))
    for agent in agents:
        agent.check_in(replica)
        assert agent.view == full(mesh)


def there_and_back(mesh: Recorded, there: Record, back: Record) -> None:
    """An agent sees a change, and another controller only that all is as it was."""
    before = len(mesh.log)
    commit(mesh, there)
    agent = Agent()
    agent.check_in(mesh)
    commit(mesh, back)
    agent.check_in(replica_of(mesh, [before, len(mesh.log)]))
    assert agent.view == full(mesh)


def test_a_node_that_was_another_between_two_looks_is_told_to_who_has_seen_that() -> None:
    mesh = started()
    node = mesh.by_name["n91"]
    there_and_back(mesh, replace(node, facts=made_facts(91, port=7)), node)


def test_a_client_that_was_kept_out_between_two_looks_is_told_to_who_has_seen_that() -> None:
    mesh = started()
    commit(mesh, made_client(1, gateway=identity(91)))
    client = mesh.client_by_name["c1"]
    there_and_back(mesh, replace(client, state="disabled"), client)


def names(entries: list[bytes]) -> list[str]:
    return [json.loads(entry)["name"] for entry in entries]


def test_a_delta_holds_the_clients_that_changed_and_no_more() -> None:
    mesh = made_mesh(made_node(1, gateway=INGRESS), *(made_client(n) for n in range(1, 9)))
    at = here(mesh)
    commit(mesh, made_client(2, name="phone"))
    commit(mesh, made_client(3, state="disabled"))
    commit(mesh, made_client(4, deleted_at=NOW))
    commit(mesh, made_client(5, expires_at=NOW + 60))  # nothing that a node can see
    reply = view_of(mesh, mesh.by_name["n1"], at)
    assert [e["name"] for block in reply["clients"] for e in block] == ["phone"]
    assert reply["gone"] == [made_client(4).id, made_client(3).id]
    assert reply["peers"] == [[]]
    ids = [e["id"] for block in view_of(mesh, mesh.by_name["n1"])["clients"] for e in block]
    assert sorted(ids) == [made_client(n).id for n in (1, 2, 5, 6, 7, 8)]


def test_who_is_let_in_again_is_nobody_that_is_gone() -> None:
    mesh = made_mesh(made_node(1, gateway=INGRESS), made_client(1))
    at = here(mesh)
    commit(mesh, made_client(1, state="disabled"))
    between = here(mesh)
    commit(mesh, made_client(1))
    for before in (at, between):
        assert mesh.gone_since(before[1]) == []
        assert names(mesh.client_entries.since(before[1])) == ["c1"]


def test_who_is_changed_while_kept_out_stays_out() -> None:
    mesh = made_mesh(
        made_node(1, gateway=INGRESS), made_client(1, state="disabled"), made_client(2)
    )
    commit(mesh, made_client(1, state="disabled", name="phone"))
    commit(mesh, made_client(2, state="expired"))
    assert mesh.client_entries.since(0) == []
    assert mesh.gone_since(1) == [made_client(2).id, made_client(1).id]
    assert sorted(mesh.client_by_name) == ["c2", "phone"]
    assert mesh.pools[4]._taken == {1, 201, 202}


def test_who_is_gone_is_told_in_the_order_of_revisions() -> None:
    clients = [made_client(n, state="disabled") for n in (1, 2, 3)]
    mesh = made_mesh(made_node(1, gateway=INGRESS), clients[0])
    commit(mesh, clients[1])
    commit(mesh, replace(clients[0], name="phone"))
    commit(mesh, clients[2])
    gone = [mesh.gone_since(revision) for revision in range(5)]
    three, one, two = (clients[n].id for n in (2, 0, 1))
    assert gone == [[three, one, two], [three, one, two], [three, one], [three], []]


def test_the_address_of_a_deleted_client_rests_after_a_restart_too() -> None:
    gone = made_client(1, address4="10.20.0.1", deleted_at=NOW)
    assert made_mesh(gone).pools[4].next() == "10.20.0.2"


def test_an_entry_says_all_that_a_node_needs_of_a_client_and_nothing_else() -> None:
    client = made_client(1, address6="fd20::c1", full_tunnel=True, expires_at=NOW + 9)
    mesh = made_mesh(made_node(1, gateway=INGRESS), client, cidr6="fd20::/64")
    [entry] = mesh.client_entries.since(0)
    assert json.loads(entry) == {
        "id": client.id,
        "name": "c1",
        "key": client.public_key,
        "addresses": ["10.20.0.201", "fd20::c1"],
        "via": made_node(1).id,
    }


def test_roles_are_told_to_others_and_to_the_gateway_itself() -> None:
    mesh = made_mesh(made_node(1, gateway=made_egress(LANS[0])), made_node(2))
    told = view_of(mesh, mesh.by_name["n1"])
    role = {"ranges": [LANS[0]], "nat": "auto", "interface": None, "metric": 100}
    assert told["self"]["gateway"] == {"egress": role}
    assert "gateway" not in json.loads(mesh.entries.since(0)[0])  # as 0.1.0 had it
    at = here(mesh)
    commit(mesh, replace(mesh.by_name["n1"], gateway=INGRESS))
    [[entry]] = view_of(mesh, mesh.by_name["n2"], at)["peers"]
    assert entry["gateway"] == {"ingress": {"endpoint": None}}
    assert list(mesh.gateways) == [identity(1)]
    commit(mesh, made_node(1, deleted_at=NOW))
    assert mesh.gateways == {}


def test_names_keys_and_addresses_that_pass_from_a_client_to_a_node_within_one_refresh() -> None:
    mesh = made_mesh(made_node(1, gateway=INGRESS), made_client(1), made_client(2))
    gone = made_client(1, deleted_at=NOW, revision=2)
    node = made_node(5, name="c1", address4="10.20.0.201", revision=3)
    moved = made_client(2, address4="10.20.0.9", revision=5)
    heir = made_node(6, address4="10.20.0.202", revision=6)
    mesh.apply(6, commit_id(6), NOW, [heir, moved, node, gone])
    assert isinstance(mesh.by_name["c1"], Node)
    assert list(mesh.client_by_name) == ["c2"]
    assert mesh.pools[4]._taken == {1, 9, 201, 202}
    assert mesh.gone_since(1) == [gone.id]
    assert view_of(mesh, mesh.by_name["n1"], (EPOCH, 1, commit_id(1)))["gone"] == [gone.id]
