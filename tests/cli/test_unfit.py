"""What the machine lacks is said in one line, wherever it is found out."""

from __future__ import annotations

import time

import pytest

from nmk.cli import main

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
