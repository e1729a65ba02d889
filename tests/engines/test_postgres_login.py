"""A login at PostgreSQL that lacks something: said in one line, with what mends it."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from urllib.parse import quote

import pytest

from nmk.errors import BadInput, StoreUnavailable
from nmk.store.engine import open_engine
from nmk.store.postgres_hints import hint_for
from tests.engines.changes import Opener, begin, use_key
from tests.engines.starters import PASSWORD, Postgres
from tests.lab.polling import patient
from tests.server.process import Controller, clean_environment

LOGIN = f"CREATE ROLE {{0}} LOGIN PASSWORD '{PASSWORD}'"
SCHEMA = "CREATE SCHEMA AUTHORIZATION {0}"
LACKS = {  # how a login comes to lack something, and what is said of that
    "tables": ([LOGIN], "permission denied for schema public"),
    "login": ([LOGIN, SCHEMA, "ALTER ROLE {0} NOLOGIN"], "is not permitted to log in"),
    "connection": (
        [LOGIN, SCHEMA, "ALTER ROLE {0} CONNECTION LIMIT 0"],
        "too many connections for role",
    ),
    "schema": (
        [LOGIN, """ALTER ROLE {0} SET search_path = "$user" """],
        "no schema has been selected",
    ),
}


def url_of(server: Postgres, role: str, database: str = "postgres", secret: str = PASSWORD) -> str:
    return f"postgresql://{role}:{quote(secret)}@127.0.0.1:{server.port}/{database}"


def do_as_said(server: Postgres, hint: str | None) -> None:
    """What the hint says is to be done on the server's host."""
    assert hint
    assert hint.startswith("on its host: psql -d ")
    [_, _, database, _, statement] = shlex.split(hint.removeprefix("on its host: "))
    server.sql(statement, database)


@pytest.mark.parametrize(("before", "said"), LACKS.values(), ids=LACKS)
def test_what_a_login_lacks_is_said_with_the_command_that_gives_it(
    postgres: Postgres, opened: Opener, before: list[str], said: str
) -> None:
    role = f"lacks{list(LACKS.values()).index((before, said))}"
    for statement in before:
        postgres.sql(statement.format(role))
    url = url_of(postgres, role)
    with pytest.raises(StoreUnavailable, match=said) as caught:
        opened(url)
    assert "\n" not in caught.value.message
    do_as_said(postgres, caught.value.hint)
    begin(opened(url))
    postgres.sql(f"DROP OWNED BY {role}")
    postgres.sql(f"DROP ROLE {role}")


def test_a_database_that_is_shut_to_a_login(postgres: Postgres, opened: Opener) -> None:
    for statement in (
        LOGIN.format("outside"),
        "CREATE DATABASE shut CONNECTION LIMIT 0 OWNER outside",
        "REVOKE CONNECT ON DATABASE shut FROM PUBLIC, outside",
    ):
        postgres.sql(statement)
    url = url_of(postgres, "outside", "shut")
    said = []
    for _ in range(2):
        with pytest.raises(StoreUnavailable) as caught:
            opened(url)
        said.append(caught.value.message.rpartition("FATAL:  ")[2])
        do_as_said(postgres, caught.value.hint)
    assert sorted(said) == [
        'permission denied for database "shut"',
        'too many connections for database "shut"',
    ]
    begin(opened(url))


def test_rights_that_are_taken_away_in_service(postgres: Postgres, opened: Opener) -> None:
    """Nothing is lost or damaged: all goes on once they are given back."""
    url = postgres.new_database()
    role = url.split("//")[1].partition(":")[0]
    store = opened(url)
    begin(store)
    tables = f"ALL TABLES IN SCHEMA {role}"
    postgres.sql(f"ALTER TABLE {role}.changes OWNER TO admin")
    for rights in ("ALL", "INSERT"):
        postgres.sql(f"GRANT ALL ON {tables} TO {role}")
        use_key(store)
        postgres.sql(f"REVOKE {rights} ON {role}.changes FROM {role}")
        with pytest.raises(StoreUnavailable, match="permission denied for table changes") as caught:
            use_key(store)
        do_as_said(postgres, caught.value.hint)
        use_key(store)


@pytest.mark.parametrize(
    ("role", "secret", "hint"),
    [
        ("nobody", PASSWORD, "on its host: createuser --pwprompt nobody"),
        ("admin", "wrong", "put the right password into --db, PGPASSWORD or ~/.pgpass"),
        ("admin", "", "put the password into --db, PGPASSWORD or ~/.pgpass"),
    ],
    ids=["no such role", "wrong password", "no password"],
)
def test_a_controller_that_may_not_log_in_says_so_in_two_lines(
    postgres: Postgres, tmp_path: Path, role: str, secret: str, hint: str
) -> None:
    """The server does not tell which of them it is, so that nobody finds out its roles."""
    controller = Controller(tmp_path / "data", url_of(postgres, role, secret=secret))
    done = subprocess.run(
        controller.command(),
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(20),
    )
    assert done.returncode == 75
    said = [line for line in done.stderr.splitlines() if not line.startswith("made a new key")]
    assert len(said) == 2, done.stderr
    assert said[0].startswith("nmk: the PostgreSQL database 127.0.0.1/postgres: ")
    assert said[1].startswith("  try: ")
    assert hint in said[1]


@pytest.mark.parametrize(
    ("reason", "hint"),
    [
        ("FATAL:  sorry, too many clients already", "raise max_connections"),
        ("remaining connection slots are reserved for superusers", "raise max_connections"),
        ("cannot execute INSERT in a read-only transaction", "target_session_attrs=read-write"),
        ("failed: session is read-only", "target_session_attrs=read-write"),
        ("failed: server is in hot standby mode", "target_session_attrs=read-write"),
        ('no pg_hba.conf entry for host "::1", user "x", no encryption', "pg_hba.conf, then:"),
        ('FATAL:  Peer authentication failed for user "nmk"', "name a host in --db"),
        ("server does not support SSL, but SSL was required", "sslmode"),
        ('FATAL:  unrecognized configuration parameter "x"', "options"),
        ('database "it\'s" does not exist', "createdb --owner=nmk 'it'\"'\"'s'"),
        ("must be owner of table nodes", "'ALTER TABLE public.nodes OWNER TO nmk'"),
        ('permission denied for schema A"; DROP', 'SCHEMA "A""; DROP" TO nmk'),
        ("server closed the connection unexpectedly", None),
        ("the database system is starting up", None),
    ],
)
def test_what_postgresql_says_has_a_hint(reason: str, hint: str | None) -> None:
    found = hint_for(reason, "nmk", "nmk", "public")
    assert found == hint if hint is None or found is None else hint in found


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://nmk:secret@127.0.0.1/nmk?connect_timeout=secret", "its connect_timeout is"),
        ("postgresql://nmk:secret@127.0.0.1/nmk?sslmode=secret", "its sslmode is"),
        ("postgresql://nmk@127.0.0.1:secret/nmk", "its port is"),
        ("postgresql://nmk:se/secret@127.0.0.1/nmk", "cannot read the URL"),
        ("postgresql://nmk:secret%ff@127.0.0.1/nmk", "cannot read the URL"),
    ],
)
def test_a_url_that_libpq_cannot_use_is_told_without_its_words(url: str, said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        open_engine(url).tables()
    assert "secret" not in f"{caught.value.message} {caught.value.hint}"
