"""A machine that is invited is not one's own yet: what it says, and how long, has bounds."""

from __future__ import annotations

import resource
import time

import pytest

from nmk.errors import CommandFailed
from nmk.system import ssh
from tests.lab.polling import patient

HERE = ["sh", "-c"]  # instead of ssh
FOREVER = 120  # seconds


def run(script: str, seconds: float = patient(20)) -> tuple[int, str, list[str]]:
    heard: list[str] = []
    return *ssh.run_there(HERE, script, b"given", heard.append, seconds), heard


def test_what_an_honest_one_says_comes_whole() -> None:
    script = "cat; printf 'one\\r\\ntwo\\nlast' >&2; exit 3"
    assert run(script) == (3, "given", ["one", "two", "last"])
    code, output, _ = run("head -c 1000000 /dev/zero | tr '\\0' x")
    assert (code, len(output)) == (0, 1_000_000)


@pytest.mark.parametrize("stream", ["", "| tr '\\0' x >&2", "| tr '\\0' '\\n' >&2"])
def test_one_that_says_too_much_is_cut_off(stream: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CommandFailed, match="says more"):
        run(f"head -c 300000000 /dev/zero {stream}")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024  # KiB


def test_a_line_without_an_end_is_cut() -> None:
    [line] = run("head -c 200000 /dev/zero | tr '\\0' x >&2")[2]
    assert line == "x" * 1000


@pytest.mark.parametrize(
    "script",
    [
        f"exec sleep {FOREVER}",
        f"exec sleep {FOREVER} >&- 2>&-",
        "while :; do echo x; echo x >&2; sleep 0.1; done",
        f"(sleep {FOREVER}) & exit 0",
    ],
)
def test_one_that_does_not_end_has_a_deadline(script: str) -> None:
    began = time.monotonic()
    with pytest.raises(CommandFailed, match="not ended after 1 seconds"):
        run(script, 1.0)
    assert time.monotonic() - began < FOREVER
