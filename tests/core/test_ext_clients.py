"""Decisions about ext clients by an admin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nmk.core import ext_clients, networks, nodes
from nmk.core.ext_clients import (
    NewClient,
    choose_ingress,
    endpoint_of,
    expire_clients,
    find_client,
    ranges_of,
    rotate_client,
    set_client,
    staleness,
    switch_client,
)
from nmk.core.gateways import Egress, Exit, Gateway, Ingress
from nmk.core.hubs import HubPeer, take_over_hub
from nmk.core.mesh import Mesh
from nmk.core.nodes import QUARANTINE
from nmk.core.parse import EVERYTHING, parse_label
from nmk.core.records import ExtClient, Issue, Node, Record
from nmk.core.tunnel import NO_KEY
from nmk.errors import (
    AddressTaken,
    Ambiguous,
    BadInput,
    NameTaken,
    NmkError,
    NotFound,
    RangeFull,
    Stale,
)
from tests.core.made import (
    INGRESS,
    NOW,
    commit,
    identity,
    key32,
    made_client,
    made_egress,
    made_facts,
    made_key,
    made_mesh,
    made_node,
    made_request,
)

CALLED = Ingress("vpn.example.org:51821")
GATE = Gateway(CALLED)
LAN = "192.168.7.0/24"
PHONE = key32(42, kind=9)


def mesh_of(*records: Record, gateway: Gateway = GATE, **ranges: Any) -> Mesh:
    """n1 is the gateway, n2 is none."""
    return made_mesh(made_node(1, gateway=gateway), made_node(2), *records, **ranges)


def create(mesh: Mesh, name: str = "phone", key: str = PHONE, **wishes: Any) -> ExtClient:
    """A client that is created and stored."""
    new = NewClient(id=f"{len(mesh.clients):08x}{mesh.revision:08x}", name=name, public_key=key)
    commit(mesh, ext_clients.create_client(mesh, replace(new, **wishes), NOW))
    return mesh.client_by_name[name]


def refused(mesh: Mesh, error: type[NmkError], act: Callable[[], object]) -> NmkError:
    """The error, when nothing at all has changed."""
    before = (dict(mesh.nodes), dict(mesh.clients), mesh.revision, _taken(mesh))
    with pytest.raises(error) as refusal:
        act()
    assert type(refusal.value) is error
    assert (dict(mesh.nodes), dict(mesh.clients), mesh.revision, _taken(mesh)) == before
    return refusal.value


def _taken(mesh: Mesh) -> list[set[int]]:
    return [set(pool._taken) for pool in mesh.pools.values()]


# --- created


def test_a_client_gets_an_address_of_each_family_and_a_config() -> None:
    mesh = mesh_of(made_node(3, gateway=made_egress(LAN)), cidr6="fd20::/64")
    client = create(mesh, expires_at=NOW + 60)
    assert client.addresses == ("10.20.0.4", "fd20::1")
    assert (client.gateway, client.state, client.expires_at) == (
        *(identity(1), "enabled", NOW + 60),
    )
    assert client.issue == Issue(
        client.addresses,
        made_facts(1).wg_key,
        "vpn.example.org:51821",
        ("10.20.0.0/24", "fd20::/64", LAN),
        mtu=1420,
        keepalive=mesh.settings["keepalive"],
    )
    assert staleness(mesh, client) == []


def test_a_client_may_ask_for_an_address() -> None:
    mesh = mesh_of(cidr6="fd20::/64")
    assert create(mesh, address="FD20:0::77").addresses == ("10.20.0.3", "fd20::77")
    assert create(mesh, "pad", key32(2, kind=9), address="10.20.0.9").address4 == "10.20.0.9"


@pytest.mark.parametrize(
    ("wishes", "error", "culprit"),
    [
        ({"name": "n2"}, NameTaken, "a node named 'n2'"),
        ({"name": "c1"}, NameTaken, "an ext client named 'c1'"),
        ({"name": "Phone"}, BadInput, "Phone"),
        ({"name": ""}, BadInput, "''"),
        ({"name": "a\nb"}, BadInput, "a\\nb"),
        ({"key": "short"}, BadInput, "short"),
        ({"key": ""}, BadInput, "''"),
        ({"key": PHONE[:-4]}, BadInput, PHONE[:-4]),
        ({"key": PHONE + "AAAA"}, BadInput, PHONE),
        ({"key": PHONE + "\n"}, BadInput, PHONE),
        ({"key": NO_KEY}, BadInput, NO_KEY),
        ({"key": made_facts(2).wg_key}, NameTaken, "the node n2"),
        ({"key": made_facts(1).wg_key}, NameTaken, "the node n1"),
        ({"key": made_client(1).public_key}, NameTaken, "the ext client c1"),
        ({"address": "10.20.0.1"}, AddressTaken, "10.20.0.1"),
        ({"address": "10.20.0.201"}, AddressTaken, "10.20.0.201"),
        ({"address": "10.20.0.255"}, BadInput, "10.20.0.255"),
        ({"address": "10.21.0.9"}, BadInput, "10.21.0.9"),
        ({"address": "fd20::9"}, BadInput, "no IPv6 range"),
        ({"gateway": "n9"}, NotFound, "n9"),
        ({"gateway": "n2"}, BadInput, "'n2' is no ingress gateway"),
        ({"gateway": "c1"}, NotFound, "c1"),
        ({"full_tunnel": True}, BadInput, "n1 lets nobody out"),
    ],
)
def test_a_client_that_cannot_be(
    wishes: dict[str, Any], error: type[NmkError], culprit: str
) -> None:
    mesh = mesh_of(made_client(1))
    assert culprit in refused(mesh, error, lambda: create(mesh, **wishes)).message


def test_names_and_keys_of_clients_are_nobody_elses_either() -> None:
    mesh = mesh_of(made_client(1), made_key())
    for act in (
        lambda: nodes.set_node(mesh, "n2", {"name": "c1"}, None),
        lambda: nodes.join(mesh, made_request(5, name="c1"), (), NOW),
    ):
        assert "an ext client named 'c1'" in refused(mesh, NameTaken, act).message
    stolen = replace(made_facts(2), wg_key=made_client(1).public_key)
    for act in (
        lambda: nodes.report(mesh, identity(2), 1, stolen, ()),
        lambda: nodes.join(mesh, made_request(5, facts=stolen), (), NOW),
    ):
        assert "an ext client's" in refused(mesh, BadInput, act).message
    [node, _] = nodes.join(mesh, made_request(5, host_name="c1"), (), NOW)
    assert isinstance(node, Node)
    assert node.name == "c1-2"


def test_a_full_tunnel_leads_everything_to_a_gateway_that_lets_it_out() -> None:
    mesh = mesh_of(gateway=Gateway(CALLED, exit=Exit()))
    client = create(mesh, full_tunnel=True)
    assert client.issue.ranges == ranges_of(mesh, client) == EVERYTHING


def test_a_range_that_is_full_lets_no_client_in() -> None:
    mesh = mesh_of(cidr4="10.20.0.0/30")
    refused(mesh, RangeFull, lambda: create(mesh))


steps = st.lists(
    st.tuples(
        st.sampled_from(["join", "create", "delete node", "delete client", "move", "disable"]),
        st.integers(0, 20),
    ),
    max_size=40,
)


@given(steps)
def test_no_two_of_nodes_and_clients_share_an_address_in_whatever_order_they_come(
    steps: list[tuple[str, int]],
) -> None:
    mesh = made_mesh(
        made_node(99, gateway=GATE, address6="fd20::63"),
        made_key(uses_max=None),
        cidr4="10.20.0.0/28",
        cidr6="fd20::/64",
    )
    for number, (what, pick) in enumerate(steps, start=100):
        live = [n for n in mesh.by_name if n != "n99"]
        clients = list(mesh.client_by_name)
        try:
            if what == "join":
                commit(mesh, *nodes.join(mesh, made_request(number), (), NOW))
            elif what == "create":
                create(mesh, f"c{number}", key32(number, kind=9))
            elif what == "delete node" and live:
                name = live[pick % len(live)]
                commit(mesh, nodes.delete_node(mesh, name, None, NOW))
            elif what == "delete client" and clients:
                name = clients[pick % len(clients)]
                commit(mesh, ext_clients.delete_client(mesh, name, None, NOW))
            elif what == "move" and clients:
                name = clients[pick % len(clients)]
                wish = {"address": f"10.20.0.{1 + pick % 14}"}
                commit(mesh, set_client(mesh, name, wish, None, None))
            elif what == "disable" and clients:
                name = clients[pick % len(clients)]
                commit(mesh, switch_client(mesh, name, NOW, None, enabled=False))
        except (RangeFull, AddressTaken):
            pass
        here = [a for node in mesh.nodes.values() for a in node.addresses]
        here += [a for client in mesh.clients.values() for a in client.addresses]
        assert len(here) == len(set(here))
        assert sum(map(len, _taken(mesh))) == len(here)


# --- gateways and where they are called


def test_the_only_ingress_gateway_is_chosen_and_one_of_several_must_be_named() -> None:
    mesh = made_mesh(made_node(1), made_node(2, gateway=made_egress(LAN)))
    assert (
        "no ingress gateway" in refused(mesh, NotFound, lambda: choose_ingress(mesh, None)).message
    )
    commit(mesh, made_node(3, gateway=INGRESS))
    assert choose_ingress(mesh, None).name == "n3"
    commit(mesh, made_node(1, gateway=INGRESS))
    assert "n1, n3" in refused(mesh, Ambiguous, lambda: choose_ingress(mesh, None)).message
    assert choose_ingress(mesh, "n3").name == "n3"
    refused(mesh, BadInput, lambda: choose_ingress(mesh, "n2"))
    refused(mesh, NotFound, lambda: choose_ingress(mesh, "n9"))


def test_what_was_given_goes_before_what_is_known_and_public_before_private() -> None:
    lan = ("192.168.1.7/24", "fd00::7/64", "8.8.4.4/24")
    facts = replace(made_facts(1, port=7, lan=lan), endpoint="198.51.100.1:1")
    node = made_node(
        1, facts=facts, endpoint="198.51.100.2:2", observed=("203.0.113.9",), gateway=GATE
    )
    assert endpoint_of(node) == "vpn.example.org:51821"
    node = replace(node, gateway=INGRESS)
    assert endpoint_of(node) == "198.51.100.2:2"
    node = replace(node, endpoint=None)
    assert endpoint_of(node) == "198.51.100.1:1"
    node = replace(node, facts=replace(facts, endpoint=None))
    assert endpoint_of(node) == "8.8.4.4:7"
    node = replace(node, facts=made_facts(1, port=7, lan=lan[:2]))
    assert endpoint_of(node) == "203.0.113.9:7"
    node = replace(node, observed=())
    assert endpoint_of(node) == "192.168.1.7:7"
    node = replace(node, facts=made_facts(1, port=7, lan=lan[1:2]))
    assert endpoint_of(node) == "[fd00::7]:7"
    node = replace(node, facts=made_facts(1, port=7))
    assert endpoint_of(node) is None


def test_a_gateway_that_nobody_can_call_lets_nobody_in() -> None:
    mesh = mesh_of(gateway=INGRESS)
    error = refused(mesh, BadInput, lambda: create(mesh))
    assert "where n1 can be called" in error.message
    assert "--endpoint" in (error.hint or "")


# --- whether the config still fits


def issued_mesh(*records: Record, **wishes: Any) -> Mesh:
    """n1 is ingress and exit gateway of the client c1, whose config was made just now."""
    mesh = mesh_of(*records, gateway=Gateway(CALLED, exit=Exit()), cidr6="fd20::/64")
    create(mesh, "c1", **wishes)
    return mesh


def stale(mesh: Mesh) -> list[str]:
    return staleness(mesh, mesh.client_by_name["c1"])


def set_roles(mesh: Mesh, name: str, gateway: Gateway) -> None:
    commit(mesh, replace(mesh.by_name[name], gateway=gateway))


@pytest.mark.parametrize("full_tunnel", [False, True])
def test_a_config_that_was_made_just_now_fits(full_tunnel: bool) -> None:
    mesh = issued_mesh(full_tunnel=full_tunnel)
    assert stale(mesh) == []
    set_roles(mesh, "n1", Gateway(Ingress("192.0.2.1:1"), exit=Exit()))
    assert stale(mesh) == ["n1 is called at 192.0.2.1:1 now"]
    commit(mesh, rotate_client(mesh, "c1", key32(5, kind=9), None))
    assert stale(mesh) == []
    assert mesh.client_by_name["c1"].public_key == key32(5, kind=9)
    assert list(mesh.client_by_key) == [key32(5, kind=9)]


Deed = Callable[[Mesh], object]
REASONS: list[tuple[str, Deed, list[str]]] = [
    (
        "another address",
        lambda m: commit(m, set_client(m, "c1", {"address": "10.20.0.9"}, None, None)),
        ["its address is 10.20.0.9, fd20::1 now"],
    ),
    (
        "another gateway",
        lambda m: commit(
            m,
            replace(m.by_name["n2"], gateway=GATE),
            replace(m.client_by_name["c1"], gateway=identity(2)),
        ),
        ["its gateway is n2 now, and was n1"],
    ),
    (
        "another key of the gateway",
        lambda m: commit(m, *nodes.report(m, identity(1), 1, made_facts(77), ())),
        ["n1 has another key now"],
    ),
    (
        "another endpoint",
        lambda m: set_roles(m, "n1", Gateway(Ingress("192.0.2.1:1"))),
        ["n1 is called at 192.0.2.1:1 now"],
    ),
    (
        "a range more",
        lambda m: set_roles(m, "n2", made_egress(LAN)),
        [f"it lacks {LAN}"],
    ),
    ("no ingress", lambda m: set_roles(m, "n1", Gateway()), ["n1 is no ingress gateway any more"]),
    (
        "no gateway",
        lambda m: commit(m, nodes.delete_node(m, "n1", None, NOW)),
        ["its gateway was deleted"],
    ),
    (
        "two things",
        lambda m: commit(
            m,
            *nodes.report(m, identity(1), 1, made_facts(77), ()),
            replace(m.by_name["n2"], gateway=made_egress(LAN)),
        ),
        ["n1 has another key now", f"it lacks {LAN}"],
    ),
    (
        "other packets",
        lambda m: commit(m, networks.set_network(m, {"mtu": 1280, "keepalive": 0}, None)),
        ["mtu of the network is 1280 now", "keepalive of the network is 0 now"],
    ),
    ("another name", lambda m: commit(m, nodes.set_node(m, "n1", {"name": "w"}, None)), []),
    ("no exit, which it never used", lambda m: set_roles(m, "n1", GATE), []),
]


@pytest.mark.parametrize(("deed", "reasons"), [r[1:] for r in REASONS], ids=[r[0] for r in REASONS])
def test_why_a_config_does_not_fit_any_more(deed: Deed, reasons: list[str]) -> None:
    mesh = issued_mesh()
    deed(mesh)
    assert stale(mesh) == reasons


def test_a_config_outlives_a_range_that_is_gone() -> None:
    mesh = issued_mesh(made_node(3, gateway=made_egress(LAN)))
    set_roles(mesh, "n3", Gateway())
    assert stale(mesh) == [f"nobody routes {LAN} any more"]
    commit(mesh, rotate_client(mesh, "c1", PHONE, None))
    assert stale(mesh) == []


def test_a_full_tunnel_depends_on_the_exit_and_on_no_range() -> None:
    mesh = issued_mesh(full_tunnel=True)
    set_roles(mesh, "n2", made_egress(LAN))
    assert stale(mesh) == []
    set_roles(mesh, "n1", GATE)
    assert stale(mesh) == ["n1 is no exit gateway"]


def test_a_gateway_that_cannot_be_called_any_more_is_said_to_be_so() -> None:
    mesh = mesh_of(gateway=INGRESS)
    commit(mesh, replace(mesh.by_name["n1"], observed=("203.0.113.9",)))
    create(mesh, "c1")
    commit(mesh, replace(mesh.by_name["n1"], observed=()))
    [reason] = stale(mesh)
    assert "None" not in reason


def test_of_what_somebody_else_made_only_what_is_known_can_cease_to_fit() -> None:
    client = made_client(1, issue=Issue(("10.20.0.201",), made_facts(1).wg_key))
    mesh = mesh_of(client, made_node(3, gateway=made_egress(LAN)))
    assert stale(mesh) == []
    commit(mesh, set_client(mesh, "c1", {"address": "10.20.0.9"}, None, None))
    assert stale(mesh) == ["its address is 10.20.0.9 now"]


@pytest.mark.parametrize("gateway", [Gateway(), made_egress(LAN)])
def test_a_client_without_an_ingress_gateway_gets_no_new_config(gateway: Gateway) -> None:
    mesh = issued_mesh()
    set_roles(mesh, "n1", gateway)
    error = refused(mesh, BadInput, lambda: rotate_client(mesh, "c1", PHONE, None))
    assert "no ingress gateway any more" in error.message


@pytest.mark.parametrize("key", ["short", NO_KEY, made_facts(2).wg_key, key32(2, kind=9)])
def test_a_key_to_rotate_to_must_be_one_and_nobodys(key: str) -> None:
    mesh = issued_mesh()
    create(mesh, "c2", key32(2, kind=9))
    with pytest.raises((BadInput, NameTaken)):
        rotate_client(mesh, "c1", key, None)


# --- changed, switched, over


def test_a_client_is_renamed_moved_and_sent_to_another_gateway_in_one_edit() -> None:
    mesh = mesh_of(made_client(1))
    set_roles(mesh, "n2", GATE)
    wishes = {"name": "phone", "address": "10.20.0.9", "gateway": "n2"}
    client = set_client(mesh, "c1", wishes, None, None)
    assert (client.name, client.address4, client.gateway) == ("phone", "10.20.0.9", identity(2))
    commit(mesh, client)
    assert list(mesh.client_by_name) == ["phone"]
    assert find_client(mesh, "phone").issue == made_client(1).issue  # what its file says


def test_a_client_may_be_given_what_it_has() -> None:
    mesh = mesh_of(made_client(1))
    same = {"name": "c1", "address": "10.20.0.201", "gateway": "n1"}
    assert set_client(mesh, "c1", same, None, None) == mesh.client_by_name["c1"]


@pytest.mark.parametrize(
    ("wish", "error", "culprit"),
    [
        ({"name": "n2"}, NameTaken, "n2"),
        ({"name": "c2"}, NameTaken, "c2"),
        ({"name": "C1"}, BadInput, "C1"),
        ({"address": "10.20.0.2"}, AddressTaken, "10.20.0.2"),
        ({"address": "10.20.0.202"}, AddressTaken, "10.20.0.202"),
        ({"address": "fd20::1"}, BadInput, "no IPv6 range"),
        ({"gateway": "n2"}, BadInput, "n2"),
        ({"gateway": "n9"}, NotFound, "n9"),
        ({"full_tunnel": "yes"}, BadInput, "full_tunnel"),
    ],
)
def test_a_wish_for_a_client_that_cannot_be(
    wish: dict[str, str], error: type[NmkError], culprit: str
) -> None:
    mesh = mesh_of(made_client(1), made_client(2))
    wishes = {"name": "phone", **wish}
    message = refused(mesh, error, lambda: set_client(mesh, "c1", wishes, None, None)).message
    assert culprit in message


def test_what_was_seen_at_an_older_revision_is_not_changed() -> None:
    mesh = mesh_of(made_client(1))
    commit(mesh, set_client(mesh, "c1", {"address": "10.20.0.9"}, None, 1))
    for act in (
        lambda: set_client(mesh, "c1", {"name": "phone"}, None, 1),
        lambda: rotate_client(mesh, "c1", PHONE, 1),
        lambda: switch_client(mesh, "c1", NOW, 1, enabled=False),
        lambda: ext_clients.delete_client(mesh, "c1", 1, NOW),
    ):
        refused(mesh, Stale, act)


def test_who_is_not_there_is_not_found() -> None:
    mesh = mesh_of(made_client(1, deleted_at=NOW))
    for name in ("c1", "n1", ""):
        with pytest.raises(NotFound):
            find_client(mesh, name)


def test_a_client_is_kept_out_and_let_in_again() -> None:
    mesh = mesh_of(made_client(1))
    commit(mesh, switch_client(mesh, "c1", NOW, None, enabled=False))
    assert find_client(mesh, "c1").state == "disabled"
    commit(mesh, switch_client(mesh, "c1", NOW, None, enabled=True))
    assert find_client(mesh, "c1") == replace(made_client(1), revision=3)


def test_a_client_expires_when_its_time_is_over_and_not_before() -> None:
    mesh = mesh_of(
        made_client(1, expires_at=NOW + 10),
        made_client(2, expires_at=NOW + 20),
        made_client(3),
        made_client(4, expires_at=NOW + 5, state="disabled"),
    )
    assert mesh.next_expiry == NOW + 10
    assert expire_clients(mesh, NOW + 9) == []
    [gone] = expire_clients(mesh, NOW + 10)
    assert gone == replace(find_client(mesh, "c1"), state="expired")
    commit(mesh, gone)
    assert mesh.next_expiry == NOW + 20
    assert expire_clients(mesh, NOW + 19) == []
    commit(mesh, *expire_clients(mesh, NOW + 100))
    assert mesh.next_expiry == float("inf")
    states = {name: c.state for name, c in sorted(mesh.client_by_name.items())}
    assert states == {"c1": "expired", "c2": "expired", "c3": "enabled", "c4": "disabled"}


@pytest.mark.parametrize("state", ["enabled", "disabled", "expired"])
def test_who_has_expired_needs_more_time_and_no_switch(state: str) -> None:
    mesh = mesh_of(made_client(1, expires_at=NOW, state=state))
    error = refused(mesh, BadInput, lambda: switch_client(mesh, "c1", NOW, None, enabled=True))
    assert "has expired" in error.message
    assert error.hint == f"nmk extclient set -n {mesh.name} c1 expires=7d"
    commit(mesh, set_client(mesh, "c1", {"expires": "7d"}, NOW + 7, None))
    client = find_client(mesh, "c1")
    assert client.expires_at == NOW + 7
    assert client.state == ("disabled" if state == "disabled" else "enabled")
    assert switch_client(mesh, "c1", NOW, None, enabled=True).state == "enabled"


def test_who_expires_never_has_no_time_that_could_be_over() -> None:
    mesh = mesh_of(made_client(1, expires_at=NOW, state="expired"))
    commit(mesh, set_client(mesh, "c1", {"expires": "never"}, None, None))
    assert (find_client(mesh, "c1").state, mesh.next_expiry) == ("enabled", float("inf"))


def test_who_was_kept_out_when_the_time_was_over_stays_so() -> None:
    mesh = mesh_of(made_client(1, expires_at=NOW, state="expired"))
    commit(mesh, switch_client(mesh, "c1", NOW, None, enabled=False))
    commit(mesh, set_client(mesh, "c1", {"expires": "7d"}, NOW + 7, None))
    assert find_client(mesh, "c1").state == "disabled"


def test_a_deleted_clients_name_and_key_are_free_at_once_and_its_address_after_a_rest() -> None:
    mesh = mesh_of(cidr4="10.20.0.0/29")
    create(mesh)
    assert find_client(mesh, "phone").address4 == "10.20.0.3"
    commit(mesh, ext_clients.delete_client(mesh, "phone", None, NOW))
    assert (mesh.clients, mesh.client_by_name, mesh.client_by_key) == ({}, {}, {})
    assert create(mesh).address4 == "10.20.0.4"  # while there are others
    later = NOW + QUARANTINE + 1
    assert nodes.free_addresses(mesh, None, later) == {4: "10.20.0.3"}


def test_a_network_takes_its_clients_with_it() -> None:
    mesh = mesh_of(made_client(1), made_client(2, state="disabled"))
    commit(mesh, *networks.delete_network(mesh, None, NOW))
    assert (mesh.clients, mesh.client_by_name, mesh.client_entries.since(0)) == ({}, {}, [])


# --- a hub is taken over

HUB_KEY = key32(50, kind=8)


def hub_peer(number: int, *addresses: str, name: str | None = None) -> HubPeer:
    return HubPeer(
        id=f"{number:016x}",
        name=name or f"p{number}",
        public_key=key32(number, kind=9),
        addresses=addresses or (f"10.20.0.{100 + number}",),
    )


def take_over(
    mesh: Mesh, *peers: HubPeer, key: str = HUB_KEY, at: str = "10.20.0.1"
) -> list[Record]:
    return take_over_hub(mesh, "n1", key, [at], peers, NOW)


def test_a_hub_is_taken_over_with_its_clients_as_they_are() -> None:
    mesh = made_mesh(made_node(1), cidr6="fd20::/64")
    records = take_over(mesh, hub_peer(1), hub_peer(2, "10.20.0.9", "fd20::9"), at="10.20.0.77")
    node, first, second = records
    assert isinstance(node, Node)
    assert (node.address4, node.gateway) == ("10.20.0.77", INGRESS)
    assert isinstance(first, ExtClient)
    assert first == made_client(
        1,
        name="p1",
        address4="10.20.0.101",
        issue=Issue(("10.20.0.101",), HUB_KEY),
        gateway=identity(1),
    )
    assert isinstance(second, ExtClient)
    assert second.addresses == second.issue.addresses == ("10.20.0.9", "fd20::9")
    commit(mesh, *records)
    [node] = nodes.report(mesh, identity(1), 1, replace(made_facts(1), wg_key=HUB_KEY), ())
    commit(mesh, node)
    assert [staleness(mesh, c) for c in mesh.clients.values()] == [[], []]


def test_an_ingress_gateway_keeps_what_was_set_of_it() -> None:
    mesh = mesh_of(gateway=replace(GATE, exit=Exit()))
    [client] = take_over(mesh, hub_peer(1))
    assert isinstance(client, ExtClient)


def test_to_take_over_once_more_changes_nothing() -> None:
    """Before and after the node has taken the hub's key, and with more clients."""
    mesh = made_mesh(made_node(1))
    peers = [hub_peer(1), hub_peer(2)]
    commit(mesh, *take_over(mesh, *peers))
    assert take_over(mesh, *peers) == []
    commit(
        mesh,
        *nodes.report(mesh, identity(1), 1, replace(made_facts(1), wg_key=HUB_KEY), ()),
        switch_client(mesh, "p1", NOW, None, enabled=False),
        set_client(mesh, "p2", {"name": "pad"}, None, None),
    )
    assert take_over(mesh, *peers) == []
    [third] = take_over(mesh, *peers, hub_peer(3))
    assert isinstance(third, ExtClient)
    assert third.name == "p3"


def test_names_that_are_taken_get_numbers() -> None:
    mesh = mesh_of(
        made_client(1, name="phone", public_key=key32(77, kind=9)), made_node(9, name="p2")
    )
    names = ["phone", "phone", "phone-2", "p2", "pad"]
    records = take_over(mesh, *(hub_peer(n, name=name) for n, name in enumerate(names, start=2)))
    found = [r.name for r in records if isinstance(r, ExtClient)]
    assert found == ["phone-2", "phone-3", "phone-2-2", "p2-2", "pad"]


@given(st.lists(st.sampled_from(["a", "a-2", "a-3", "b", "x" * 63]), max_size=12))
def test_names_of_a_hub_become_names_of_their_own(names: list[str]) -> None:
    mesh = mesh_of(made_node(9, name="a-2"))
    records = take_over(mesh, *(hub_peer(n, name=name) for n, name in enumerate(names, start=2)))
    found = [r.name for r in records if isinstance(r, ExtClient)]
    assert [parse_label(name) for name in found] == found
    assert len({*found, *mesh.by_name}) == len(names) + len(mesh.by_name)


@pytest.mark.parametrize(
    ("peers", "options", "error", "culprit"),
    [
        ((), {"key": made_facts(2).wg_key}, BadInput, "somebody else's"),
        ((), {"key": made_client(7).public_key}, BadInput, "somebody else's"),
        ((), {"key": "short"}, BadInput, "short"),
        ((), {"key": NO_KEY}, BadInput, NO_KEY),
        ((), {"at": "10.20.0.2"}, AddressTaken, "10.20.0.2"),
        ((), {"at": "10.20.0.207"}, AddressTaken, "10.20.0.207"),
        ((), {"at": "10.21.0.1"}, BadInput, "10.21.0.1"),
        ((), {"at": "x"}, BadInput, "x"),
        ((hub_peer(1, "10.20.0.2"),), {}, AddressTaken, "10.20.0.2"),
        ((hub_peer(1, "10.20.0.207"),), {}, AddressTaken, "10.20.0.207"),
        ((hub_peer(1, "10.21.0.1"),), {}, BadInput, "10.21.0.1"),
        ((hub_peer(1, "x"),), {}, BadInput, "x"),
        ((hub_peer(1, "10.20.0.8", "10.20.0.9"),), {}, BadInput, "10.20.0.9"),
        ((hub_peer(1, "10.20.0.8", "fd20::8"),), {}, BadInput, "'fd20::8' of p1 has no place"),
        ((hub_peer(1, name="P 1"),), {}, BadInput, "P 1"),
        ((hub_peer(7, "10.20.0.8"),), {}, NameTaken, "the ext client c7"),
        ((replace(hub_peer(1), public_key=made_facts(2).wg_key),), {}, NameTaken, "the node n2"),
        ((replace(hub_peer(1), public_key="short"),), {}, BadInput, "short"),
    ],
)
def test_a_hub_that_does_not_fit_is_not_taken_over_at_all(
    peers: tuple[HubPeer, ...], options: dict[str, str], error: type[NmkError], culprit: str
) -> None:
    """The client that would do comes first, so that half of it could have been done."""
    mesh = mesh_of(made_client(7))
    good = hub_peer(33)
    message = refused(mesh, error, lambda: take_over(mesh, good, *peers, **options)).message
    assert culprit in message


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (hub_peer(1, "10.20.0.9"), hub_peer(2, "10.20.0.9")),
        (hub_peer(1, "10.20.0.9"), hub_peer(1, "10.20.0.8")),
        (hub_peer(1, "10.20.0.77"), hub_peer(2)),
        (hub_peer(1, "10.20.0.9", "fd20::9"), hub_peer(2, "10.20.0.8", "FD20::9")),
        (hub_peer(1, "10.20.0.9", "FD20::9"), hub_peer(2, "10.20.0.8", "fd20::9")),
        (replace(hub_peer(1), public_key=HUB_KEY), hub_peer(2)),
        (replace(hub_peer(1), addresses=()), hub_peer(2)),
    ],
    ids=[
        *("one address", "one key", "the hub's address", "one IPv6 address", "the same the other"),
        *("the hub's key", "no address"),
    ],
)
def test_clients_of_a_hub_that_cannot_be_side_by_side_are_refused(
    one: HubPeer, other: HubPeer
) -> None:
    """Whatever an admin's program sends: what is stored would break the view of every node."""
    mesh = mesh_of(cidr6="fd20::/64")
    with pytest.raises((BadInput, AddressTaken, NameTaken)):
        take_over(mesh, one, other, at="10.20.0.77")


def test_a_hubs_address_of_a_family_that_the_network_has_not_is_passed_over() -> None:
    mesh = mesh_of()
    addresses = ["fd20::1", "10.20.0.77"]
    [node] = take_over_hub(mesh, "n1", HUB_KEY, addresses, [], NOW)
    assert isinstance(node, Node)
    assert node.addresses == ("10.20.0.77",)


def test_a_hub_of_a_node_that_there_is_not_is_not_taken_over() -> None:
    mesh = mesh_of()
    refused(mesh, NotFound, lambda: take_over_hub(mesh, "n9", HUB_KEY, [], [], NOW))


def test_clients_follow_a_hub_that_is_another_node_now() -> None:
    mesh = made_mesh(made_node(1), made_node(2))
    commit(mesh, *take_over(mesh, hub_peer(1)))
    [before] = mesh.clients.values()
    commit(mesh, *take_over_hub(mesh, "n2", key32(51, 8), [], [hub_peer(1)], NOW))
    [after] = mesh.clients.values()
    assert after.gateway == mesh.by_name["n2"].identity != before.gateway
    assert (after.name, after.addresses) == (before.name, before.addresses)
    assert after.issue.gateway_key == key32(51, 8)


def test_a_hub_that_led_its_clients_out_is_an_exit_gateway() -> None:
    mesh = made_mesh(made_node(1))
    commit(mesh, *take_over_hub(mesh, "n1", key32(51, 8), [], [hub_peer(1)], NOW, lets_out=True))
    assert mesh.by_name["n1"].gateway.roles == ("ingress", "exit")


def test_a_hub_whose_exit_was_closed_stays_closed_when_it_is_taken_over_again() -> None:
    """Before and after the node has the hub's key, and with another client."""
    mesh = made_mesh(made_node(1))
    again = partial(take_over_hub, mesh, "n1", HUB_KEY, ["10.20.0.1"], now=NOW, lets_out=True)
    commit(mesh, *again(peers=[hub_peer(1)]))
    closed = replace(mesh.by_name["n1"], gateway=INGRESS)
    commit(mesh, closed)
    assert again(peers=[hub_peer(1)]) == []
    facts = replace(made_facts(1), wg_key=HUB_KEY)
    commit(mesh, *nodes.report(mesh, identity(1), 1, facts, ()))
    assert again(peers=[]) == []
    [second] = again(peers=[hub_peer(1), hub_peer(2)])
    assert isinstance(second, ExtClient)


def test_a_hub_that_is_another_node_now_leads_its_clients_out_there() -> None:
    mesh = made_mesh(made_node(1), made_node(2))
    commit(mesh, *take_over_hub(mesh, "n1", HUB_KEY, [], [hub_peer(1)], NOW, lets_out=True))
    commit(mesh, *take_over_hub(mesh, "n2", HUB_KEY, [], [hub_peer(1)], NOW, lets_out=True))
    assert mesh.by_name["n2"].gateway.roles == ("ingress", "exit")


@pytest.mark.parametrize("addresses", [["10.20.0.81", "10.20.0.82"], ["fd20::1", "FD20::2"]])
def test_a_hub_with_two_addresses_of_a_family_is_refused(addresses: list[str]) -> None:
    """A node has one: the other would be nobody's, or a client's."""
    mesh = mesh_of(cidr6="fd20::/64")
    error = refused(mesh, BadInput, lambda: take_over_hub(mesh, "n1", HUB_KEY, addresses, [], NOW))
    assert error.message.startswith("the hub has two IPv")
    assert addresses[0] in error.message


@pytest.mark.parametrize(
    ("has", "wanted", "hint"),
    [
        ("10.20.0.5", ["10.20.0.6"], "nmk extclient set -n home phone address=10.20.0.6"),
        ("10.20.0.5", ["10.20.0.5", "fd20::5"], "nmk extclient set -n home phone address=fd20::5"),
        (
            "10.20.0.5",
            ["10.20.0.6", "fd20::6"],
            (
                "nmk extclient set -n home phone address=10.20.0.6 && "
                "nmk extclient set -n home phone address=fd20::6"
            ),
        ),
        ("10.20.0.5", ["fd20::5"], "nmk extclient delete -n home phone"),
    ],
)
def test_a_client_that_has_other_addresses_by_now_is_told_apart(
    has: str, wanted: list[str], hint: str
) -> None:
    peer = hub_peer(1, *wanted, name="pad")
    known = made_client(1, name="phone", public_key=peer.public_key, address4=has)
    mesh = made_mesh(made_node(1), known, cidr6="fd20::/64")
    error = refused(mesh, NameTaken, lambda: take_over(mesh, peer))
    assert all(address in error.message for address in (has, *wanted))
    assert error.hint == hint


def test_a_client_that_has_another_key_by_now_can_be_deleted_first() -> None:
    mesh = mesh_of(made_client(7, name="phone"))
    error = refused(mesh, AddressTaken, lambda: take_over(mesh, hub_peer(1, "10.20.0.207")))
    assert error.hint.startswith("nmk extclient delete -n home phone; or, ")


def test_a_gateway_without_an_egress_role_of_its_own_tells_of_those_of_others() -> None:
    mesh = mesh_of(
        made_node(3, gateway=Gateway(egress=Egress((LAN, "fd00:7::/48")))),
        made_node(4, gateway=made_egress("10.9.0.0/16", LAN)),
    )
    client = create(mesh)
    assert client.issue.ranges == ("10.20.0.0/24", "10.9.0.0/16", LAN, "fd00:7::/48")
