"""What the machine lacks is said in one line, wherever it is found out."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from nmk.cli import main
from tests.cli.inprocess import nmk

LACKS = {
    "no memory is left": MemoryError(),
    "no more threads can be started": RuntimeError("can't start new thread"),
    "the clock is beyond the year 2262": OverflowError("timestamp too large"),
}


@pytest.mark.parametrize("said", LACKS)
def test_what_the_machine_lacks_is_said(
    said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LACKS[said]

    monkeypatch.setattr(main.nmk, "main", fail)
    if "clock" in said:
        monkeypatch.setattr(time, "time", fail)
    assert main.run(["checkin"]) == 75
    told = capsys.readouterr().err
    assert told.startswith(f"nmk: {said}\n  try: ")
    assert told.count("\n") == 2


@pytest.mark.parametrize("error", [OverflowError("else"), RuntimeError("else")])
def test_what_is_nobodys_fault_but_ours_is_an_internal_error(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(main.nmk, "main", fail)
    assert main.run(["checkin"]) == 1
    assert "internal error" in capsys.readouterr().err


def test_a_closed_input_holds_no_token(state_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    done = nmk("join", "-")
    assert done.code == 2
    assert "internal error" not in done.err
    assert not list(state_dir.iterdir())
