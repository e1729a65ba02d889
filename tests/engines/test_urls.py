from __future__ import annotations

import pytest

from nmk.errors import BadInput
from nmk.store.engine import open_engine
from nmk.store.rqlite import RqliteEngine


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nmk:secret@db",
        "mysql://nmk:secret@db/nmk",
        "sqlite://secret",
        "postgresql://",
        "postgresql://nmk:secret@db:port%/nmk",
        "rqlite://",
        "rqlite://nmk:secret@",
        "rqlite://nmk:secret@db/secret",
        "rqlite://nmk:secret@db:4001,",
        "rqlite://nmk:secret@db:99999",
    ],
)
def test_a_url_that_is_none_is_refused_without_its_secrets(url: str) -> None:
    with pytest.raises(BadInput) as caught:
        open_engine(url)
    assert "secret" not in caught.value.message + str(caught.value.hint)


def test_a_parameter_that_libpq_does_not_know_is_named() -> None:
    with pytest.raises(BadInput, match="knows no parameter 'sslmod'"):
        open_engine("postgresql://nmk:pw@db/nmk?connect_timeout=3&sslmod=require")


def test_what_an_rqlite_url_holds() -> None:
    engine = RqliteEngine("a%40b:p%3Aw@db1,db2:5001,[::1],[fd00::1]:5001")
    assert engine._members == [("db1", 4001), ("db2", 5001), ("::1", 4001), ("fd00::1", 5001)]
    assert engine._headers["Authorization"] == "Basic YUBiOnA6dw=="
