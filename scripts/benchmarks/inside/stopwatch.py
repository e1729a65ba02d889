"""Runs commands, each to its end, and prints what each took as JSON.

Standard input: a JSON list of `{"command": [...], "env": {...}}`. Standard output: a list of
`{"wall": SECONDS, "cpu": SECONDS, "peak": BYTES}`; `cpu` with that of the programs it ran. Imports
little: a child counts its parent's memory as its own until it has become another program.
"""

import json
import os
import sys
import time


def measure(command: list[str], env: dict[str, str]) -> dict[str, float]:
    """What a command takes. Fails where it does."""
    silent = os.open(os.devnull, os.O_RDWR)
    actions = [(os.POSIX_SPAWN_DUP2, silent, fd) for fd in (0, 1)]
    start = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, {**os.environ, **env}, file_actions=actions)
    _, status, used = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    os.close(silent)
    if status:
        sys.exit(f"{command} ended with {os.waitstatus_to_exitcode(status)}")
    cpu = used.ru_utime + used.ru_stime
    return {"wall": wall, "cpu": cpu, "peak": used.ru_maxrss * 1024}


if __name__ == "__main__":
    print(json.dumps([measure(**entry) for entry in json.load(sys.stdin)]))
