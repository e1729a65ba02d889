"""What machines say while they are let in, and what is told of it."""

from __future__ import annotations

import json
import subprocess

import pytest

from nmk.core.invitation import (
    ANSWER,
    SSH_FAILED,
    Outcome,
    Talk,
    parse_answer,
    parse_machine,
    render_script,
)
from nmk.errors import BadInput

REFUSED = "ssh: connect to host 192.0.2.7 port 22: Connection refused"
ANSWERED = [
    [{"role": "agent", "manager": "systemd", "installed": True, "active": True}],
    [{"network": "home", "name": "web", "addresses": ["10.1.0.2"]}],
]


def failure(exit_code: int, *lines: str) -> tuple[str, str]:
    talk = Talk()
    for line in lines:
        talk.hear(line + "\n")
    return talk.failure("root@web", exit_code)


def test_steps_are_told_and_what_join_proposes_is_not() -> None:
    talk = Talk()
    lines = [
        "invite: installing",
        "nmk: installed x",
        "  try: mine",
        "",
        "Done: it is in",
        "  nmk status",
    ]
    lines += ["invite: starting", "cron: /etc/cron.d/nmk", "a \x1b[31mred\x07 line"]
    assert [step for line in lines if (step := talk.hear(line))] == [
        "installing",
        "nmk: installed x",
        "starting",
        "cron: /etc/cron.d/nmk",
        "a [31mred line",
    ]


def test_what_ssh_says_by_itself_is_told_once_by_the_outcome() -> None:
    talk = Talk()
    for line in ("Warning: Permanently added it", REFUSED):
        assert talk.hear(line) is None
    assert talk.failure("root@web", SSH_FAILED)[0] == REFUSED


@pytest.mark.parametrize(
    ("exit_code", "lines", "problem", "hint"),
    [
        (
            1,
            ["nmk: no WireGuard", "  try: apt-get"],
            "no WireGuard",
            "see more there: ssh root@web",
        ),
        (1, ["nmk: a", "  try: b", "nmk: c", "  try: d"], "c", "see more there: ssh root@web"),
        (1, ["sudo: a password is required"], "sudo: a password is required", "let this user"),
        (2, [], "it ended with 2 and does not say why", "ssh root@web"),
        (SSH_FAILED, [REFUSED], REFUSED, "ssh root@web"),
        (SSH_FAILED, [], "ssh does not say why it failed", "ssh root@web"),
        (
            SSH_FAILED,
            ["Host key verification failed."],
            "its host key is not known",
            "ssh root@web",
        ),
        (SSH_FAILED, ["root@web: Permission denied (publickey)."], "root@web: Perm", "ssh-copy-id"),
        (
            SSH_FAILED,
            [
                "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @",
                "Host key verification failed.",
            ],
            "its host key is not the one",
            "find out why",
        ),
    ],
)
def test_why_it_failed_and_what_to_do(
    exit_code: int, lines: list[str], problem: str, hint: str
) -> None:
    told = failure(exit_code, *lines)
    assert told[0].startswith(problem)
    assert told[1].startswith(hint)


def test_the_answer_is_two_lists_one_after_the_other() -> None:
    text = "\n".join(json.dumps(part, indent=2) for part in ANSWERED) + "\n"
    assert parse_answer("root@web", text) == Outcome("root@web", "web", ("10.1.0.2",), "systemd")


@pytest.mark.parametrize("noise", ["Welcome!\n", "[1]\n", "no newline ", "[{}] [{}]\n", "{\n"])
def test_what_a_shell_says_first_is_no_answer(noise: str) -> None:
    """As a .bashrc does that prints whatever it likes."""
    script = render_script("home")
    [line] = [x for x in script.splitlines() if ANSWER in x]
    said = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True).stdout
    text = noise + said + "\n".join(json.dumps(part) for part in ANSWERED) + "\nlogout\n"
    found = parse_answer("root@web", text)
    assert found == Outcome("root@web", "web", ("10.1.0.2",), "systemd")


@pytest.mark.parametrize(
    "text", ["", "[]", "[1] [2]", "[{}]", "[{}] [{}]", "hello", "[[]] [[]]", "[" * 99999]
)
def test_another_answer_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="root@web"):
        parse_answer("root@web", text)


@pytest.mark.parametrize("text", ["", "-oProxyCommand=x", "root@web; reboot", "a\nb", "a\x00"])
def test_what_is_no_machine(text: str) -> None:
    with pytest.raises(BadInput):
        parse_machine(text)


@pytest.mark.parametrize("text", ["web", "root@web", "root@2001:db8::1", "ssh://ada@nas:2222"])
def test_what_is_a_machine(text: str) -> None:
    assert parse_machine(text) == text
