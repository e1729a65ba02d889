"""What the store relies on, on every engine, with a real database behind it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from nmk.core.gateways import Egress, Exit, Gateway, Ingress
from nmk.core.mesh import Mesh
from nmk.core.records import AccessKey, ExtClient, Facts, Issue, Network, Node, Record
from nmk.errors import StoreUnavailable, StoreUnusable
from nmk.server.controller import Controller
from nmk.store import store as store_module
from nmk.store.engine import Collision, Engine, Statement, compile_query, open_engine
from nmk.store.migrations import MIGRATIONS
from nmk.store.sqlite import SqliteEngine
from nmk.store.store import Commit, Store
from nmk.store.tables import TABLES, ChangeRow, MetaRow, PresenceRow
from nmk.wire.envelope import Identity
from tests.core.made import made_client
from tests.engines.changes import (
    HOME,
    KEY,
    Opener,
    begin,
    change,
    make_client,
    make_node,
    stored,
    use_key,
)
from tests.engines.faulty import Faulty
from tests.engines.plugin import ENGINES, maker
from tests.lab.polling import patient

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    made = open_engine(url)
    yield made
    made.close()


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine)


def meta(engine: Engine, name: str) -> Statement:
    return compile_query(engine, MetaRow.insert(name=name, value="x"))


def names(engine: Engine) -> set[str]:
    rows = engine.read(compile_query(engine, MetaRow.select(MetaRow.name)))
    return {name for (name,) in rows}


def head(store: Store) -> int:
    return store.heads()["home"].revision


def test_a_database_gets_its_schema_once(url: str, store: Store, opened: Opener) -> None:
    assert opened(url).epoch == store.epoch


def test_many_who_start_at_once_share_one_schema(url: str, opened: Opener) -> None:
    with ThreadPoolExecutor(4) as pool:
        assert len({store.epoch for store in pool.map(opened, [url] * 4)}) == 1


def fill(engine: Engine, version: str, schema: int) -> Engine:
    """A database that this version left: a network, keys, nodes, and how they came."""
    engine.write([(sql, ()) for sql in chain.from_iterable(MIGRATIONS[:schema])])
    dump = (GOLDEN / f"nmk-{version}.sql").read_text()
    rows = [line for line in dump.splitlines() if line.startswith("INSERT INTO ")]
    engine.write([(sql.rstrip(";"), ()) for sql in sorted(rows, key=comes_after)])
    return engine


@pytest.fixture
def old(engine: Engine) -> Engine:
    """A database of nmk 0.1.0."""
    return fill(engine, "0.1.0", 1)


@pytest.fixture
def newer(engine: Engine) -> Engine:
    """A database of nmk 0.2.0."""
    return fill(engine, "0.2.0", 2)


def comes_after(sql: str) -> int:
    """Nodes need the network first, and ext clients their gateway."""
    table = sql.split()[2]
    return {"networks": 0, "ext_clients": 2}.get(table, 1)


def test_a_database_of_schema_1_is_brought_up(old: Engine, url: str, opened: Opener) -> None:
    store = Store(old)
    assert store.epoch == opened(url).epoch == "1b4f2c802a3f75c0"
    assert dict(old.read(compile_query(old, MetaRow.select())))["schema"] == str(len(MIGRATIONS))
    nodes = stored(store, Node)
    assert sorted(n.name for n in nodes) == ["db", "gone", "site", "web"]
    assert {n.gateway for n in nodes} == {Gateway()}
    assert len(store.log_since("home", 0, 100)) == head(store) == 12
    web = next(n for n in nodes if n.name == "web")
    gate = replace(web, gateway=Gateway(Ingress()))
    change(store, 13, gate)
    phone = make_client(1, gate)
    change(store, 14, phone)
    assert store.records_since("home", 12) == [
        replace(gate, revision=13),
        replace(phone, revision=14),
    ]


def test_a_database_of_schema_2_is_brought_up(newer: Engine, url: str, opened: Opener) -> None:
    store = Store(newer)
    assert store.epoch == opened(url).epoch == "d1fdcfd4c92ececb"
    assert dict(newer.read(compile_query(newer, MetaRow.select())))["schema"] == str(
        len(MIGRATIONS)
    )
    roles = {node.name: node.gateway.roles for node in stored(store, Node)}
    assert roles == {
        "gone": (),
        "web": (),
        "db": (),
        "site": ("ingress", "egress"),
        "border": ("ingress", "exit"),
    }
    clients = stored(store, ExtClient)
    assert sorted(c.name for c in clients) == ["lost", "phone", "tablet"]
    assert {c.routes for c in clients} == {()}
    assert len(store.log_since("home", 0, 100)) == head(store) == 23
    router = replace(
        next(c for c in clients if c.name == "phone"), routes=("192.168.9.0/24",), revision=24
    )
    change(store, 24, router)
    assert store.records_since("home", 23) == [router]


def test_many_who_bring_it_up_at_once_bring_it_up_once(
    old: Engine, url: str, opened: Opener
) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(opened, [url] * 4))
    assert {len(stored(store, Node)) for store in stores} == {4}
    assert dict(old.read(compile_query(old, MetaRow.select())))["schema"] == str(len(MIGRATIONS))


def test_a_schema_that_is_in_the_way_is_told(engine: Engine) -> None:
    engine.write([("CREATE TABLE nodes (name TEXT)", ())])
    with pytest.raises(StoreUnusable, match="already exists"):
        Store(engine)
    assert engine.tables() == {"nodes"}


def test_a_batch_that_collides_leaves_nothing(engine: Engine) -> None:
    Store(engine)
    before = names(engine)
    with pytest.raises(Collision):
        engine.write([meta(engine, "a"), meta(engine, "b"), meta(engine, "a")])
    assert names(engine) == before
    engine.write([meta(engine, "a"), meta(engine, "b")])
    assert names(engine) == before | {"a", "b"}


def test_a_batch_that_is_no_sql_leaves_nothing(engine: Engine) -> None:
    Store(engine)
    before = names(engine)
    with pytest.raises(StoreUnusable):
        engine.write([meta(engine, "a"), ("INSERT INTO nowhere VALUES (1)", ())])
    assert names(engine) == before


def test_values_come_back_as_they_were(store: Store) -> None:
    text = "a'b\"c\\d%s%%?$1:x\u20ac\U0001f600\n{}"
    facts = Facts(text, 2**62, ("10.0.0.1/8", "fd00::1/64"), 2**53 + 1, text)
    node = Node(text, "home", text, "10.1.0.1", None, facts, seq=2**63 - 1, created_at=-1)
    change(store, 1, replace(HOME, settings={text: 2**60}))
    change(store, 2, node)
    assert stored(store, Node) == [replace(node, revision=2)]
    assert stored(store, Network)[0].settings == {text: 2**60}


NODE = make_node(1)
OTHER = make_node(2)
PHONE = make_client(1, NODE)
TABLET = make_client(2, NODE)
EGRESS = Egress(("192.168.50.0/24", "2001:db8:50::/64"), "off", "eth0", 7)


@pytest.mark.parametrize("ingress", [None, Ingress(), Ingress("vpn.example.org:51820")])
@pytest.mark.parametrize("egress", [None, Egress(("192.168.50.0/24",)), EGRESS])
@pytest.mark.parametrize("leave", [None, Exit(), Exit("on", "wan")])
def test_roles_come_back_as_they_were(
    shared: Store, ingress: Ingress | None, egress: Egress | None, leave: Exit | None
) -> None:
    node = replace(NODE, gateway=Gateway(ingress, egress, leave))
    change(shared, head(shared) + 1, node)
    assert stored(shared, Node) == [replace(node, revision=head(shared))]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"address4": None},
        {"address6": None},
        {"full_tunnel": True},
        {"state": "disabled"},
        {"state": "expired", "expires_at": 2**53},
        {"deleted_at": 7},
        {"issue": Issue((), "")},
        {"issue": Issue(("10.1.1.1", "fd00::1"), "key", "[2001:db8::7]:51820", ())},
        {"issue": Issue(("10.1.1.1",), "key", None, ("0.0.0.0/0", "::/0"))},
        {"name": "a'b\"c\\d%s%%?$1:x\u20ac\U0001f600\n{}"},
    ],
    ids=str,
)
def test_clients_come_back_as_they_were(shared: Store, changes: dict[str, Any]) -> None:
    change(shared, head(shared) + 1, replace(NODE, gateway=Gateway(Ingress())))
    client = replace(PHONE, **changes)
    change(shared, head(shared) + 1, client)
    assert stored(shared, ExtClient) == [replace(client, revision=head(shared))]
    change(shared, head(shared) + 1, PHONE)


@pytest.fixture(scope="module", params=ENGINES)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store for those who leave nothing behind that is in another's way."""
    url = maker(request, request.param)(tmp_path_factory.mktemp("shared") / "nmk.db")
    engine = open_engine(url)
    store = Store(engine)
    begin(store)
    yield store
    engine.close()


@pytest.mark.parametrize(
    "wrong",
    [
        replace(TABLET, name=PHONE.name),
        replace(TABLET, public_key=PHONE.public_key),
        replace(TABLET, address4=PHONE.address4),
        replace(TABLET, address6=PHONE.address6),
        replace(TABLET, address4=None, address6=None),
        replace(TABLET, state="open"),  # type: ignore[arg-type]  # what nmk never writes
        replace(TABLET, full_tunnel=2),  # type: ignore[arg-type]  # the same
        replace(TABLET, gateway="nobody"),
        replace(TABLET, gateway="elsewhere"),
    ],
    ids=[
        "name",
        "key",
        "address4",
        "address6",
        "no address",
        "state",
        "full_tunnel",
        "no gateway",
        "another network's gateway",
    ],
)
def test_the_database_refuses_clients_that_must_not_be(store: Store, wrong: ExtClient) -> None:
    lab = replace(HOME, name="lab", cidr4="10.2.0.0/16")
    elsewhere = replace(NODE, network="lab", identity="elsewhere")
    rows: list[Record] = [replace(lab, revision=1), replace(elsewhere, revision=1)]
    store.commit([Commit("lab", 1, "lab", 1, "test", "[]")], rows)
    change(store, 1, HOME, NODE)
    change(store, 2, PHONE)
    with pytest.raises(Collision):
        change(store, 3, wrong)
    assert head(store) == 2
    assert stored(store, ExtClient) == [replace(PHONE, revision=2)]
    change(store, 3, replace(PHONE, deleted_at=5), TABLET)


def test_a_client_needs_its_network(store: Store) -> None:
    with pytest.raises(Collision):
        change(store, 1, PHONE)
    assert store.heads() == {}


def test_what_a_deleted_client_had_is_free(store: Store) -> None:
    change(store, 1, HOME, NODE, PHONE)
    change(store, 2, replace(PHONE, deleted_at=5))
    heir = replace(PHONE, id="another")
    change(store, 3, heir)
    assert replace(heir, revision=3) in stored(store, ExtClient)


def test_a_clients_gateway_may_be_deleted(store: Store) -> None:
    change(store, 1, HOME, NODE, OTHER, PHONE)
    change(store, 2, replace(NODE, deleted_at=5))
    change(store, 3, replace(PHONE, gateway=OTHER.identity))
    assert stored(store, ExtClient)[0].gateway == OTHER.identity


def test_one_client_in_two_networks_is_two(store: Store) -> None:
    change(store, 1, HOME, NODE, PHONE)
    lab: list[Record] = [
        replace(r, revision=1)
        for r in (
            replace(HOME, name="lab"),
            replace(NODE, network="lab"),
            replace(PHONE, network="lab"),
        )
    ]
    store.commit([Commit("lab", 1, "lab", 1, "test", "[]")], lab)
    assert store.records_since("lab", 0) == lab
    assert stored(store, ExtClient) == [replace(PHONE, revision=1)]


@pytest.mark.parametrize(
    "wrong",
    [
        replace(OTHER, name=NODE.name),
        replace(OTHER, address4=NODE.address4),
        replace(OTHER, address6="fd00::1"),
        replace(OTHER, facts=NODE.facts),
        replace(OTHER, address4=None),
        replace(KEY, uses=4),
        replace(KEY, uses=-1),
        Network("bare", None, None),
    ],
    ids=["name", "address4", "address6", "wg_key", "no address", "uses", "negative", "no range"],
)
def test_the_database_refuses_what_must_not_be(store: Store, wrong: Record) -> None:
    change(store, 1, HOME, replace(KEY, uses=3, uses_max=3))
    change(store, 2, replace(NODE, address6="fd00::1"))
    if isinstance(wrong, AccessKey):
        wrong = replace(wrong, uses_max=3)
    with pytest.raises(Collision):
        change(store, 3, wrong)
    assert head(store) == 2
    assert stored(store, Node) == [replace(NODE, address6="fd00::1", revision=2)]
    change(store, 3, replace(NODE, address6="fd00::1", deleted_at=5), OTHER)


def test_what_a_deleted_node_had_is_free(store: Store) -> None:
    begin(store)
    change(store, 2, replace(NODE, deleted_at=5))
    heir = replace(NODE, identity="another")
    change(store, 3, heir)
    assert replace(heir, revision=3) in stored(store, Node)


def test_a_revision_is_taken_once(store: Store) -> None:
    begin(store)
    with pytest.raises(Collision):
        change(store, 1, replace(KEY, uses=9))
    assert stored(store, AccessKey) == [replace(KEY, revision=1)]


def test_a_commit_of_several_networks_is_one(store: Store) -> None:
    begin(store)
    two = [Commit("*", 1, "c1", 1, "test", "[]"), Commit("home", 1, "c2", 1, "test", "[]")]
    with pytest.raises(Collision):
        store.commit(two, [])
    assert head(store) == 1


def test_threads_lose_no_change(url: str, store: Store, opened: Opener) -> None:
    begin(store)

    def write(_: int) -> list[str]:
        own = opened(url)
        return [use_key(own) for _ in range(8)]

    with ThreadPoolExecutor(4) as pool:
        ids = {i for some in pool.map(write, range(4)) for i in some}
    assert stored(store, AccessKey)[0].uses == 32
    log = store.log_since("home", 1, 100)
    assert [point.revision for point in log] == list(range(2, 34))
    assert {point.commit_id for point in log} == ids


def test_threads_share_an_engine(store: Store) -> None:
    begin(store)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: use_key(store), range(16)))
    assert stored(store, AccessKey)[0].uses == 16


def test_processes_lose_no_change(url: str, store: Store) -> None:
    begin(store)
    command = [sys.executable, "-m", "tests.engines.writer", url, "6"]
    writers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(3)]
    ids = {i for w in writers for i in w.communicate(timeout=patient(120))[0].decode().split()}
    assert [w.returncode for w in writers] == [0, 0, 0]
    assert {point.commit_id for point in store.log_since("home", 1, 100)} == ids
    assert stored(store, AccessKey)[0].uses == len(ids) == 18


def test_controllers_lose_no_change(url: str, store: Store, opened: Opener) -> None:
    begin(store)
    controllers = [Controller(opened(url), Identity.generate()) for _ in range(3)]

    def write(controller: Controller) -> None:
        for _ in range(5):
            controller.commit("test", ("home",), lambda meshes: [one_more(meshes["home"])])

    def one_more(mesh: Mesh) -> AccessKey:
        key = mesh.keys["key"]
        return replace(key, uses=key.uses + 1)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(write, controllers))
    for controller in controllers:
        controller.refresh()
        assert controller.meshes["home"].keys["key"].uses == 15


@pytest.mark.parametrize(
    "script",
    [
        ["lost"],
        ["done"],
        ["held", "release"],
        ["lost", "lost", "done"],
        ["lost", "down", "down", "well"],
        ["done", "down", "deaf", "well"],
    ],
    ids=" ".join,
)
def test_a_lost_connection_makes_one_commit(
    engine: Engine, script: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PAUSE_SECONDS", 0)
    begin(Store(engine))
    store = Store(Faulty(engine, script))
    commit_id = use_key(store)
    assert [point.commit_id for point in store.log_since("home", 1, 9)] == [commit_id]
    assert stored(store, AccessKey)[0].uses == 1


def test_a_batch_that_arrives_late_collides(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "PAUSE_SECONDS", 0)
    begin(Store(engine))
    faulty = Faulty(engine, ["held"])
    store = Store(faulty)
    use_key(store)
    with pytest.raises(Collision):
        faulty.release()
    use_key(store)
    assert stored(store, AccessKey)[0].uses == 2


def test_a_faster_writer_is_told_from_oneself(engine: Engine) -> None:
    begin(Store(engine))
    lost = Store(Faulty(engine, ["lost"]))
    change(Store(engine), 2, replace(KEY, uses=7))
    with pytest.raises(Collision):
        change(lost, 2, replace(KEY, uses=1))
    assert stored(lost, AccessKey)[0].uses == 7


@pytest.mark.parametrize("script", [["lost"] * 3, ["done", "down", "down"]], ids=" ".join)
def test_who_cannot_know_says_so(
    engine: Engine, script: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(Store(engine))
    monkeypatch.setattr(store_module, "SETTLE_SECONDS", -1)
    with pytest.raises(StoreUnavailable, match="may have been made"):
        use_key(Store(Faulty(engine, script)))


def test_a_database_that_is_down_has_done_nothing(engine: Engine) -> None:
    begin(Store(engine))
    store = Store(Faulty(engine, ["down"]))
    with pytest.raises(StoreUnavailable, match=r"^down$"):
        use_key(store)
    assert head(store) == 1


def test_what_changed_since_a_revision(store: Store) -> None:
    begin(store)
    ids = [change(store, number, make_node(number)) for number in range(2, 7)]
    change(store, 7, replace(make_node(2), seq=1))
    assert head(store) == 7
    assert [point.commit_id for point in store.log_since("home", 3, 3)][:2] == ids[3:]
    assert [point.revision for point in store.log_since("home", 3, 3)] == [5, 6, 7]
    assert store.log_since("home", 7, 3) == []
    assert [record.revision for record in store.records_since("home", 4)] == [5, 6, 7]
    assert store.records_since("other", 0) == []


def test_the_newest_change_is_never_forgotten(store: Store) -> None:
    begin(store)
    for number in range(2, 5):
        change(store, number, make_node(number))
    store.forget_changes(1003)
    assert [point.revision for point in store.log_since("home", 0, 9)] == [3, 4]
    store.forget_changes(9999)
    assert head(store) == 4


def test_ext_clients_that_were_deleted_long_ago_are_forgotten_and_nodes_never(
    store: Store,
) -> None:
    begin(store)
    gateway = make_node(2)
    change(store, 2, gateway)
    made = [made_client(number, gateway=gateway.identity) for number in range(1, 4)]
    ends = (1002, 1004, None)
    change(store, 3, *(replace(c, deleted_at=at) for c, at in zip(made, ends, strict=True)))
    change(store, 4, replace(gateway, deleted_at=1001))
    store.forget_changes(1003)
    left = {r.id for r in store.records_since("home", 0) if isinstance(r, ExtClient)}
    assert left == {made[1].id, made[2].id}
    [node] = store.records_since("home", 3)
    assert isinstance(node, Node)
    assert node.deleted_at == 1001


def test_presence_never_goes_back(store: Store) -> None:
    store.save_presence({})
    store.save_presence({f"identity{number}": 10 for number in range(1200)})
    store.save_presence({"identity1": 20, "identity2": 5})
    seen = store.presence()
    assert len(seen) == 1200
    assert (seen["identity1"], seen["identity2"]) == (20, 10)


def test_a_copy_that_went_its_own_way_is_told(store: Store, tmp_path: Path) -> None:
    begin(store)
    copy = copy_database(store, tmp_path / "copy.db")
    mine, theirs = use_key(store), use_key(copy)
    assert copy.epoch == store.epoch
    assert head(copy) == head(store) == 2
    assert [point.commit_id for point in store.log_since("home", 1, 1)] == [mine]
    assert [point.commit_id for point in copy.log_since("home", 1, 1)] == [theirs]
    with pytest.raises(Collision):
        change(copy, 2, replace(KEY, uses=5), commit_id=mine)


def copy_database(store: Store, path: Path) -> Store:
    """All rows in a database file, as a dump and its restoration would make it."""
    made = SqliteEngine(str(path))
    Store(made)
    made.write([compile_query(made, MetaRow.delete())])
    for table in (MetaRow, *TABLES.values(), ChangeRow, PresenceRow):
        rows = store._engine.read(compile_query(store._engine, table.select()))
        columns = table._meta.sorted_field_names
        for row in rows:
            insert = table.insert(**dict(zip(columns, row, strict=True)))
            made.write([compile_query(made, insert)])
    return Store(made)
