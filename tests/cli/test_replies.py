"""What answers the admin's commands may be no controller, or one that means harm."""

from __future__ import annotations

import json
import shlex

import pytest

from nmk.cli.main import run
from tests.cli.answering import answering
from tests.core.made import key32
from tests.server.net import Json
from tests.server.process import Controller

COMMANDS = f"""
network create home
network list
network show home
network set home mtu=1400
network delete home --yes
key create
key list
key show 4f2a91c3
key delete 4f2a91c3
node list
node show web
node set web name=www
node delete web --yes
gateway list
gateway add web exit
gateway remove web exit --yes
extclient create phone --public-key {key32(1)}
extclient rotate phone --public-key {key32(1)}
extclient create phone --public-key {key32(1)} --dry-run
extclient list
extclient show phone
extclient set phone expires=7d
extclient enable phone
extclient disable phone
extclient delete phone --yes
server status
""".strip().splitlines()
BAD = {
    "empty object": (200, b"{}"),
    "list of null": (200, b"[null]"),
    "list of empty": (200, b"[{}]"),
    "null": (200, b"null"),
    "number": (200, b"1"),
    "text": (200, b'"home"'),
    "nothing": (200, b""),
    "deep": (200, b'{"name":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "rather deep": (200, b'{"name":' + b"[" * 400 + b"]" * 400 + b"}"),
    "no Unicode": (200, b'{"name": "\\ud800"}'),
    "moved": (301, b""),
    "moved with JSON": (301, b'{"name": "home"}'),
    "problem of somebody else": (404, b'{"detail": "no"}'),
    "problem in a list": (404, b"[]"),
    "code that is none": (500, b'{"code": [], "detail": "no", "hint": "no"}'),
}
EVIL = "a\x1b[2Jb\nnmk: all is well\r\u202ec\x9b1m\u2028"
SHOWN = "a\\x1b[2Jb\\nnmk: all is well\\r\\u202ec\\x9b1m\\u2028"


@pytest.mark.parametrize("output", ["table", "json", "name"])
@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_answer_of_ours_is_a_bad_reply(
    kind: str, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(*BAD[kind]) as server:
        for command in COMMANDS:
            args = shlex.split(command)
            if args[0] not in {"network", "server"}:
                args += ["-n", "home"]
            if "delete" not in args and "remove" not in args:
                form = "json" if command == "server status" else output  # which has no name
                args += ["-o", form]
            code = run([*args, "--server", server])
            told = capsys.readouterr()
            assert code == 75, (command, told)
            assert told.out == "", command
            assert server in told.err, (command, told)


@pytest.mark.parametrize("kind", BAD)
def test_the_only_network_is_asked_for_with_the_same_care(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with answering(*BAD[kind]) as server:
        assert run(["node", "list", "--server", server]) == 75
        assert server in capsys.readouterr().err


def evil_client() -> Json:
    client: Json = dict.fromkeys(("handshake", "received", "sent", "expires_at"))
    return client | {
        "name": EVIL,
        "network": EVIL,
        "gateway": EVIL,
        "addresses": [EVIL],
        "state": EVIL,
        "endpoint": EVIL,
        "routes": [EVIL],
        "stale": [EVIL, EVIL],
        "revision": 1,
        EVIL: {EVIL: EVIL},
    }


@pytest.mark.parametrize(
    ("args", "answer", "lines"),
    [
        ("extclient list", [evil_client()], (2, 2)),
        ("extclient list -o name", [evil_client()], (1, 2)),
        ("extclient show phone", evil_client(), (14, 0)),
        ("extclient set phone name=x", evil_client(), (14, 4)),
        ("extclient disable phone", evil_client(), (14, 1)),
        ("extclient delete phone", evil_client(), (0, 2)),
    ],
)
def test_a_terminal_is_shown_lines_of_ours_alone(
    args: str, answer: object, lines: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    """What a controller tells moves no cursor, and makes no line that looks like ours."""
    with answering(200, json.dumps(answer).encode()) as server:
        run([*shlex.split(args), "-n", "home", "--server", server])
    told = capsys.readouterr()
    assert (len(told.out.splitlines()), len(told.err.splitlines())) == lines, told
    for text in (told.out, told.err):
        assert text.replace("\n", "").isprintable()
    if "delete" not in args:
        assert SHOWN in told.out


def test_an_error_is_a_line_and_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    problem = json.dumps({"code": "not-found", "detail": EVIL, "hint": EVIL})
    with answering(404, problem.encode()) as server:
        assert run(["network", "list", "--server", server]) == 1
    assert capsys.readouterr().err == f"nmk: {SHOWN}\n  try: {SHOWN}\n"


def test_json_is_handed_on_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(200, json.dumps([evil_client()]).encode()) as server:
        assert run(["extclient", "list", "-n", "home", "--server", server, "-o", "json"]) == 0
    told = capsys.readouterr().out
    assert json.loads(told) == [evil_client()]
    assert told.replace("\n", "").isprintable()


@pytest.mark.parametrize("door", ["socket", "port"])
def test_what_the_controller_does_not_take_is_too_large(controller: Controller, door: str) -> None:
    """Also where it hangs up before it has heard all."""
    far = ["--server", f"http://127.0.0.1:{controller.admin_port}"] if door == "port" else []
    for parts in (11, 18):
        args = ["network", "create", "home", *["1" * 100_000] * parts, "-o", "json", *far]
        refused = controller.nmk(*args, NMK_API_KEY=controller.key)
        assert refused.returncode == 1, refused.stderr
        assert json.loads(refused.stderr)["error"] == "too-large"


def test_a_page_that_says_too_large_is_too_large(capsys: pytest.CaptureFixture[str]) -> None:
    """As of a proxy, or of the HTTP server before anything of ours."""
    with answering(413, b"<html>") as server:
        assert run(["network", "list", "--server", server, "-o", "json"]) == 1
    assert json.loads(capsys.readouterr().err)["error"] == "too-large"


@pytest.mark.parametrize("command", ["extclient list", "extclient show phone", "node list"])
def test_an_answer_without_a_field_is_no_mistake_of_ours(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As of a controller of another version; also where a table shows it in another form."""
    client = {k: v for k, v in evil_client().items() if k not in {"state", "routes"}}
    with answering(200, json.dumps([client] if "list" in command else client).encode()) as server:
        code = run([*shlex.split(command), "-n", "home", "--server", server])
    told = capsys.readouterr().err
    assert (code, "internal" in told) == (75 if "show" not in command else code, False)
