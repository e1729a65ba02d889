"""A process that uses the key so many times: python -m tests.engines.writer URL TIMES."""

from __future__ import annotations

import sys

from nmk.store.engine import open_engine
from nmk.store.store import Store
from tests.engines.changes import use_key

if __name__ == "__main__":
    store = Store(open_engine(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        print(use_key(store))  # noqa: T201  # what it is for
    store.close()
