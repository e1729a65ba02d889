"""What the admin's commands say, and what they make of what people type."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from nmk.store.engine import open_engine
from tests.cli.inprocess import nmk
from tests.server.inside import Inside, Time, inside
from tests.server.net import Net


@pytest.fixture(scope="module")
def controller(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    engine = open_engine(f"sqlite://{tmp_path_factory.mktemp('commands')}/nmk.db")
    with inside(engine, Time()) as made:
        yield made
    engine.close()


@pytest.fixture(scope="module")
def net(controller: Inside) -> Net:
    return Net.made(controller, "home", "10.77.0.0/16", "fd77::/64")


@pytest.fixture(autouse=True)
def server(controller: Inside, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMK_SERVER", f"http://127.0.0.1:{controller._admin_port}")
    monkeypatch.setenv("NMK_NETWORK", net.name)


def test_a_revoked_key_can_be_looked_at_with_who_used_it(net: Net) -> None:
    key = net._token.key_id
    assert nmk("key", "delete", key).code == 0
    assert key not in nmk("key", "list").out
    [row] = json.loads(nmk("key", "list", "--all", "-o", "json").out)
    assert (row["id"], row["state"], row["nodes"]) == (key, "revoked", ["witness"])
    assert row["revoked_at"]
    assert "revoked" in nmk("key", "show", key).out
    assert json.loads(nmk("node", "show", "witness", "-o", "json").out)["key"] == key
    assert key in nmk("node", "show", "witness").out
    again = nmk("key", "delete", key)
    assert (again.code, "there is no access key" in again.err) == (1, True)
