"""The database: peewee models, the atomic commit, engines and migrations."""

import sys

# peewee imports every driver for PostgreSQL that it finds, and psycopg loads the system's libpq.
# We take its SQL only; `nmk.store.postgres` imports the driver itself, when it is wanted.
_DRIVERS = [n for n in ("psycopg", "psycopg2", "psycopg2cffi") if n not in sys.modules]
for _name in _DRIVERS:
    sys.modules[_name] = None  # type: ignore[assignment]  # how import is told: there is none
import peewee as _peewee  # noqa: E402, F401  # now, while they are hidden

for _name in _DRIVERS:
    del sys.modules[_name]
