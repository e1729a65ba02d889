from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.engines.starters import wait_until

ROOT = Path(__file__).parents[2]

SERVE = """
import sys
from tests.engines.nest import nest
with nest("test") as home:
    home.start("sleep", ["sleep", "1000"])
    print(home.directory, flush=True)
    sys.stdin.read()
"""


def test_servers_and_files_end_with_a_killed_test() -> None:
    test = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with test:
        assert test.stdout
        directory = test.stdout.readline().strip()
        assert Path(directory).is_dir()
        test.kill()
    # The files go when the last server has ended.
    wait_until(lambda: not Path(directory).exists(), "end of the servers and files", str)
