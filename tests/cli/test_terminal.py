"""What is printed, whatever it says and wherever it goes: text, and nothing else."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nmk.cli import output
from nmk.cli.machine_seeing import entry_lines, finding_lines
from nmk.cli.main import run
from nmk.cli.progress import Progress
from nmk.core.findings import Finding
from nmk.server.log import _Formatter
from tests.cli.answering import answering
from tests.cli.test_replies import EVIL, evil_client
from tests.core.test_text import ANY_TEXT, HOSTILE

CLI = Path(output.__file__).parent
PRINTS = re.compile(r"\bprint\(|click\.echo|json\.dumps|\b(stdout|stderr)\.(write|buffer)")
some_text = st.sampled_from([*HOSTILE, "\ud800", EVIL]) | ANY_TEXT
many = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def test_everything_is_printed_by_one_module() -> None:
    found = {p.name for p in CLI.rglob("*.py") if PRINTS.search(p.read_text())}
    assert found <= {"output.py", "api.py"}
    assert "json.dumps(body)" in (CLI / "api.py").read_text()  # what it sends


@many
@given(text=some_text)
def test_every_printer(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = {"name": text, "more": [text], "inner": {text: text}}
    for form in output.FORMATS:
        output.show(dict(value), form, {"NAME": "name", "MORE": "more"}, "name")
        output.show([dict(value)], form, {"NAME": "name", "MORE": "more"}, "name")
    output.put(text)
    output.put(*finding_lines(Finding("check", "warn", text, text, text)))
    output.say(text)
    for args in ([], ["-o", "json"]):
        output.expect_json(args)
        output.fail("failed", text, text)
    output.expect_json([])
    Progress([text], live=False).show(text, text)
    told = capsys.readouterr()
    for printed in told:
        assert printed.replace("\n", "").isprintable()
        printed.encode()


@many
@given(text=some_text)
def test_the_controllers_log_has_a_line_an_event(text: str) -> None:
    record = logging.LogRecord("nmk", logging.INFO, "", 0, "%s", (text,), None)
    record.fields = {"remote": text}
    for as_json in (False, True):
        line = _Formatter(as_json=as_json).format(record)
        assert line.isprintable()
        if as_json:
            assert json.loads(line)["remote"] == text


def entries() -> list[str]:
    from nmk.agent.history import Entry

    return entry_lines(Entry(1, EVIL, 1, (EVIL,), 0, EVIL), EVIL)


@pytest.mark.parametrize("encoding", ["ascii", "iso-8859-1", "utf-8"])
def test_a_terminal_of_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it lacks is escaped, and JSON stays the same value."""
    client = {**evil_client(), "name": "büro-😀-ш"}
    streams = {}
    for name in ("stdout", "stderr"):
        streams[name] = io.TextIOWrapper(io.BytesIO(), encoding)
        monkeypatch.setattr(sys, name, streams[name])
    with answering(200, json.dumps([client]).encode()) as server:
        for form in output.FORMATS:
            args = ["extclient", "list", "-n", "home", "--server", server, "-o", form]
            assert run(args) == 0
    assert run(["nowhere-ш"]) == 2
    output.put(*entries())
    raw = streams["stdout"].buffer.getvalue().decode(encoding)
    start = raw.index("[\n")
    assert json.JSONDecoder().raw_decode(raw[start:])[0] == [client]
    told = streams["stderr"].buffer.getvalue().decode(encoding)
    assert "internal-error" not in told
    for text in (raw, told):
        assert text.replace("\n", "").isprintable()
