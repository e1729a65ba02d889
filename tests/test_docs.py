"""The documents say what is: commands, errors, links and the protocol's bytes are checked here."""

from __future__ import annotations

import base64
import contextlib
import importlib
import pkgutil
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import click
import pytest

import nmk
from nmk.agent.peer_status import NEXT
from nmk.agent.status import TROUBLES
from nmk.cli import extclient, machine_status, output
from nmk.cli import main as cli
from nmk.cli.machine_status import CONDITIONS
from nmk.core.health import State
from nmk.core.records import node_id
from nmk.core.view import pack
from nmk.errors import NmkError, all_errors
from nmk.server.presence import NodeState
from nmk.wire import envelope
from nmk.wire.token import Token, parse_token

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
GENERATED = ROOT / "docs" / "cli.md"
ENDS_A_COMMAND = {"|", "||", "&", "&&", ";", "<", ">", "#"}
NOT_VARIABLES = {"NMK_FILE", "NMK_SHA256"}


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


each_page = pytest.mark.parametrize("page", PAGES, ids=names)


def code_blocks(text: str, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def code_spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", prose(text))


def test_the_commands_page_is_current() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_environment_variable_is_on_some_page() -> None:
    sources = [*(ROOT / "nmk").rglob("*.py"), ROOT / "install.sh"]
    used = {v for s in sources for v in re.findall(r"\bNMK_[A-Z_]*[A-Z]\b", s.read_text())}
    assert used
    pages = "".join(page.read_text() for page in PAGES)
    assert used - NOT_VARIABLES <= set(re.findall(r"\bNMK_[A-Z_]*[A-Z]\b", pages))


def error_rows() -> Iterator[list[str]]:
    """Code, exit code, and HTTP status where there is one, cause, cure."""
    for line in (ROOT / "docs" / "errors.md").read_text().splitlines():
        cells = [c.strip() for c in line.strip("|").split("|")]
        if re.fullmatch(r"`[a-z-]+`", cells[0]):
            yield [cells[0].strip("`"), *cells[1:]]


def own_errors() -> dict[str, type[NmkError]]:
    for module in pkgutil.walk_packages(nmk.__path__, "nmk."):
        with contextlib.suppress(ImportError):  # a database's driver is not there
            importlib.import_module(module.name)
    return {c: e for c, e in all_errors().items() if e.__module__.startswith("nmk.")}


def test_every_error_has_one_entry_with_its_exit_code_and_status() -> None:
    rows = [row for row in error_rows() if len(row) == 5]
    entries = {code: (int(exit_code), int(status)) for code, exit_code, status, _, _ in rows}
    assert len(entries) == len(rows)
    assert entries == {c: (e.exit_code, e.status) for c, e in own_errors().items()}
    assert all(cause and cure for *_, cause, cure in rows)


@pytest.mark.parametrize(
    "raised",
    [click.UsageError("no such option"), KeyboardInterrupt()],
    ids=lambda raised: type(raised).__name__,
)
def test_the_command_lines_own_codes_have_an_entry(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException
) -> None:
    said: list[str] = []

    def fail(code: str, _message: str, _hint: str) -> None:
        said.append(code)

    def stop(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.delenv("NMK_DEBUG", raising=False)
    monkeypatch.setattr(output, "fail", fail)
    monkeypatch.setattr(cli.nmk, "main", stop)
    exit_code = cli.run([])
    entries = {code: int(e) for code, e, *rest in error_rows() if len(rest) == 2}
    assert entries[said[0]] == exit_code
    assert len(entries) == 2


def first_cells(page: str) -> set[str]:
    """What the tables of a page are about: the codes in their first cells."""
    text = (ROOT / "docs" / page).read_text()
    rows = re.findall(r"^\| ((?:`[a-z-]+`(?:, )?)+) \|", text, re.MULTILINE)
    return {code for row in rows for code in re.findall(r"`([a-z-]+)`", row)}


def sources(pattern: str) -> set[str]:
    """What a pattern finds in the source."""
    texts = [path.read_text() for path in (ROOT / "nmk").rglob("*.py")]
    return {found for text in texts for found in re.findall(pattern, text)}


def test_every_problem_and_state_is_explained() -> None:
    problems = sources(r"\bProblem\(\s*\"([a-z-]+)\"")
    assert "led-elsewhere" in problems
    interfaces = {"up", *TROUBLES, *CONDITIONS}
    assert {*problems, *get_args(NodeState), *interfaces} <= first_cells("errors.md")


def test_every_state_of_a_peer_and_every_check_is_explained() -> None:
    checks = sources(r"\bFinding\(\s*\"([a-z-]+)\"")
    assert len(checks) > 15
    assert {*checks, *get_args(State), *NEXT, "off"} <= first_cells("seeing.md")


@pytest.mark.parametrize(
    ("page", "columns"),
    [
        ("phones.md", extclient.COLUMNS),
        ("seeing.md", machine_status.COLUMNS),
        ("seeing.md", machine_status.CLIENT_COLUMNS),
    ],
    ids=["extclient list", "peers", "clients"],
)
def test_a_table_in_a_document_has_the_columns_of_the_command(
    page: str, columns: Sequence[str]
) -> None:
    shown = code_blocks((ROOT / "docs" / page).read_text())
    heads = [line for block in shown for line in block.splitlines() if line == line.upper()]
    assert tuple(columns) in {tuple(re.split("  +", head)) for head in heads}


def headings(page: Path) -> set[str]:
    """The anchors that a page has, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def links(page: Path) -> list[str]:
    text = re.sub(r"`[^`]*`", "", prose(page.read_text()))
    return [to for to in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in to]


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@each_page
def test_every_page_is_linked(page: Path) -> None:
    linked = {(p.parent / to.partition("#")[0]).resolve() for p in PAGES for to in links(p)}
    assert page.name == "README.md" or page in linked


@each_page
def test_no_recipe_leaves_a_private_key_for_all_to_read(page: Path) -> None:
    for line in page.read_text().splitlines():
        if re.search(r"showconf\b[^|]*>|genkey \| tee", line):
            assert "umask 077" in line


@each_page
def test_every_path_of_the_repository_exists(page: Path) -> None:
    for span in code_spans(page.read_text()):
        if re.fullmatch(r"(sudo )?(scripts|docs|nmk|tests)/[\w./-]+", span):
            assert (ROOT / span.removeprefix("sudo ")).exists(), span


def commands(text: str) -> Iterator[list[str]]:
    """The words after `nmk` wherever a page shows a command."""
    lines = [line for block in code_blocks(text) for line in block.splitlines()]
    for line in lines + code_spans(text):
        words = re.sub(r"([;|]+)", r" \1 ", re.sub(r"[\"')}]", " ", line.split(" # ")[0])).split()
        for place, word in enumerate(words):
            if word.rpartition("/")[2] == "nmk":
                rest = words[place + 1 :]
                end = next((i for i, w in enumerate(rest) if w in ENDS_A_COMMAND), len(rest))
                if rest[:end] and re.fullmatch(r"[a-z-]+", rest[0]):
                    yield rest[:end]


def check_command(words: list[str]) -> None:
    command: click.Command = cli.nmk
    context = click.Context(command, info_name="nmk")
    rest = list(words)
    while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
        found = command.get_command(context, rest[0])
        assert found, f"there is no command nmk {' '.join(words)}"
        command, rest = found, rest[1:]
    known = {option for param in command.params for option in param.opts} | {"-h", "--help"}
    options = {word.partition("=")[0] for word in rest if word.startswith("-") and word != "-"}
    assert options <= known, f"nmk {' '.join(words)}: {options - known}"


@each_page
def test_every_command_and_option_that_is_shown_exists(page: Path) -> None:
    if page != GENERATED:
        for words in commands(page.read_text()):
            check_command(words)


def test_commands_are_found() -> None:
    shown = [words for page in PAGES for words in commands(page.read_text())]
    assert len(shown) > 50
    assert ["join", "-", "--dry-run"] in shown
    with pytest.raises(AssertionError):
        check_command(["network", "create", "home", "--nothing"])
    with pytest.raises(AssertionError):
        check_command(["network", "nothing"])


def vector() -> dict[str, str]:
    """The protocol's test vector; a line that begins with a space goes on with the one before."""
    [block] = code_blocks((ROOT / "docs" / "protocol.md").read_text(), "vector")
    lines = re.sub(r"\n +", "", block).splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def test_the_protocols_vector_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    told = vector()
    raw = {k: bytes.fromhex(v) for k, v in told.items() if re.fullmatch(r"([0-9a-f]{2})+", v)}
    agent = envelope.Identity.from_secret(raw["agent_secret"])
    controller = envelope.Identity.from_secret(raw["controller_secret"])
    assert (agent.public, controller.public) == (raw["agent_public"], raw["controller_public"])

    here = envelope.agent_keys(agent, controller.public)
    there = envelope.controller_keys(controller, agent.public)
    assert (here.send, here.receive) == (raw["to_controller"], raw["to_agent"])
    assert (there.receive, there.send) == (raw["to_controller"], raw["to_agent"])

    nonces = iter([raw["request_nonce"], raw["reply_nonce"]])
    monkeypatch.setattr(secrets, "token_bytes", lambda _: next(nonces))
    header, request = envelope.seal_request(
        here,
        envelope.Kind.CHECK_IN,
        agent.public,
        raw["epoch"],
        told["network"],
        told["request_json"].encode(),
    )
    assert request == raw["request"]
    received, sealed = envelope.parse_request(request, envelope.Kind.CHECK_IN)
    assert envelope.open_request(there, received, sealed) == told["request_json"].encode()

    packed = pack(told["reply_json"].encode())
    reply = envelope.seal_reply(there, envelope.Kind.VIEW, received, packed)
    assert reply == raw["reply"]
    opened = envelope.open_reply(here, header, reply)
    assert opened == (envelope.Kind.VIEW, told["reply_json"].encode())


def test_the_protocols_node_id_holds() -> None:
    identity = base64.b64encode(bytes.fromhex(vector()["agent_public"])).decode()
    assert node_id(identity) == vector()["node_id"]


def test_the_protocols_token_holds() -> None:
    [text] = code_blocks((ROOT / "docs" / "protocol.md").read_text(), "token")
    assert parse_token(text) == Token(
        urls=("http://198.51.100.7:50051",),
        controller_key=bytes.fromhex(vector()["controller_public"]),
        network="home",
        key_id="4f2a91c3",
        secret=bytes(range(0x80, 0xA0)),
    )


@each_page
def test_no_page_has_a_path_of_the_machine_it_was_written_on(page: Path) -> None:
    assert not re.findall(r"/work/|/root/|/tmp/", page.read_text())


def test_a_phone_is_made_once_all_is_there_that_its_config_leads_to() -> None:
    """Else who follows the README from top to bottom scans what is outdated a line later."""
    words = (ROOT / "README.md").read_text()
    assert words.index("gateway add office egress") < words.index("extclient create phone")


def bounds() -> Iterator[list[str]]:
    """The cells of each row of the table of bounds, its titles first."""
    section = (ROOT / "docs" / "reliability.md").read_text().partition("\n## Bounds\n")[2]
    for line in section.partition("\n## ")[0].splitlines():
        if line.startswith("|"):
            yield [cell.strip() for cell in line.strip("|").split("|")]


def test_every_bound_is_held_by_a_test_that_is_there() -> None:
    titles, _, *rows = bounds()
    assert titles[-1] == "held by"
    assert len(rows) > 60
    files = [*(ROOT / "tests").rglob("test_*.py")]
    tests = {t for f in files for t in re.findall(r"(?m)^ *def (test_\w+)", f.read_text())}
    tests |= {name for file in files for name in (file.name, names(file))}
    for what, *_, held_by in rows:
        named = {span.split()[0] for span in re.findall(r"`([^`]+)`", held_by)}
        assert named & tests, f"no test: {what}"
        assert not [n for n in named - tests if not (ROOT / n).is_file()], what
