"""What to do about what PostgreSQL and libpq say, in English; they say it in words, seldom by code.

A login that lacks something is a matter for whoever administers the server, so the commands are
for its host.
"""

from __future__ import annotations

import re
from shlex import quote as quote_word

_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_SECRET = "--db, PGPASSWORD or ~/.pgpass"  # noqa: S105  # where one is
_DATABASE_LIMIT = "ALTER DATABASE {name} CONNECTION LIMIT -1"
_CONNECT = "GRANT CONNECT ON DATABASE {name} TO {role}"
_OWN = "ALTER TABLE {schema}.{name} OWNER TO {role}"
_GRANT = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"

_BY_SQL = {  # what it says, and the statement that mends it
    r'role "(?P<name>.+)" is not permitted to log in': "ALTER ROLE {name} LOGIN",
    r'too many connections for role "(?P<name>.+)"': "ALTER ROLE {name} CONNECTION LIMIT -1",
    r'too many connections for database "(?P<name>.+)"': _DATABASE_LIMIT,
    r'permission denied for database "?(?P<name>[^"]+)"?': _CONNECT,
    r"permission denied for schema (?P<name>.+)": "GRANT USAGE, CREATE ON SCHEMA {name} TO {role}",
    r"no schema has been selected": "CREATE SCHEMA AUTHORIZATION {role}",
    r"permission denied for table": _GRANT,
    r"must be owner of table (?P<name>.+)": _OWN,
}
_IN_WORDS = {
    r'role "(?P<name>.+)" does not exist': "on its host: createuser {name}",
    r'database "(?P<name>.+)" does not exist': "on its host: createdb --owner={role} {name}",
    r'password authentication failed for user "(?P<name>.+)"': (
        f"put the right password into {_SECRET}; where there is no such role, on its host: "
        "createuser --pwprompt {name}"
    ),
    r"no password supplied": f"put the password into {_SECRET}",
    r"(Peer|Ident) authentication failed": "name a host in --db: postgresql://USER@HOST/DATABASE",
    r"no pg_hba.conf entry": (
        "on its host: let it in by pg_hba.conf, then: psql -c 'SELECT pg_reload_conf()'"
    ),
    r"too many clients already|remaining connection slots": (
        "on its host: raise max_connections, or see who else is connected: "
        "psql -c 'SELECT usename, count(*) FROM pg_stat_activity GROUP BY 1'"
    ),
    r"read-only|hot standby|recovery is in progress": (
        "name all of its hosts in --db, with target_session_attrs=read-write"
    ),
    r"does not support SSL": "on its host: switch ssl on; or another sslmode in --db",
    r"unrecognized configuration parameter": "correct what --db has as options",
}


def hint_for(reason: str, role: str, database: str, schema: str) -> str | None:
    """What to do about it; None where only a look at the server tells.

    `role`, `database` and `schema`: those of the login, as far as they are known.
    """
    for pattern, statement in _BY_SQL.items():
        if match := re.search(pattern, reason):
            names = {"role": role, "schema": schema, **match.groupdict()}
            sql = statement.format(**{key: _identifier(name) for key, name in names.items()})
            return f"on its host: psql -d {quote_word(database)} -c {quote_word(sql)}"
    for pattern, words in _IN_WORDS.items():
        if match := re.search(pattern, reason):
            names = {"role": role, **match.groupdict()}
            return words.format(**{key: quote_word(name or "") for key, name in names.items()})
    return None


def _identifier(name: str) -> str:
    """A name as SQL has it."""
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'
