"""Manners of the admin's commands: what is implied, what is asked, how errors leave."""

from __future__ import annotations

import json
import pty
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from nmk.cli.main import COMMANDS, nmk
from tests.engines.nest import free_ports
from tests.lab.polling import patient
from tests.server.net import Net
from tests.server.process import NMK, Controller, clean_environment


@pytest.fixture
def network(controller: Controller) -> Iterator[str]:
    """The only network there is."""
    assert controller.nmk("network", "create", "home").returncode == 0
    yield "home"
    assert controller.nmk("network", "delete", "home", "--yes").returncode == 0


def test_the_only_network_is_implied(controller: Controller, network: str) -> None:
    made = controller.nmk("key", "create")
    assert made.returncode == 0
    assert f"join {network}" in made.stderr


def test_of_several_networks_one_must_be_named(controller: Controller, network: str) -> None:
    controller.nmk("network", "create", "lab")
    try:
        for noun in ("key", "node", "gateway", "extclient"):
            refused = controller.nmk(noun, "list", "-o", "json")
            assert refused.returncode == 2
            error = json.loads(refused.stderr)
            assert error["error"] == "ambiguous"
            assert "home, lab" in error["message"]
            assert "-n" in error["hint"]
            assert controller.nmk(noun, "list", "-n", network).returncode == 0
            assert controller.nmk(noun, "list", NMK_NETWORK=network).returncode == 0
    finally:
        controller.nmk("network", "delete", "lab", "--yes")


def test_without_a_network_the_way_to_one_is_shown(controller: Controller) -> None:
    refused = controller.nmk("key", "create")
    assert refused.returncode == 1
    assert "nmk network create" in refused.stderr


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["network", "show", "nowhere", "-o", "json"], 1, "not-found"),
        (["network", "create", "No", "-o", "json"], 2, "bad-input"),
        (["network", "list", "--server", "unix:///nowhere", "-o", "json"], 75, "unreachable"),
        (["network", "list", "--server", "nonsense", "-o", "json"], 2, "bad-input"),
        (["network", "list", "--server", "http://a..b:1", "-o", "json"], 75, "unreachable"),
        (["network", "list", "--server", "http://[::1", "-o", "json"], 2, "bad-input"),
        (["network", "list", "--server", "http://a:99999", "-o", "json"], 2, "bad-input"),
        (["extclient", "list", "-n", "\udcff", "-o", "json"], 2, "bad-input"),
        (["extclient", "show", "-n", "home", "\udcff", "-o", "json"], 2, "bad-input"),
        (["extclient", "show", "-n", "home", "a/b", "-o", "json"], 2, "bad-input"),
        (["node", "list", "-n", "", "-o", "json"], 2, "bad-input"),
        (["network", "list", "-o", "json", "--bogus"], 2, "usage"),
        (["network", "frobnicate"], 2, None),
        (["network", "list", "-o", "xml"], 2, None),
        (["frobnicate"], 2, None),
    ],
)
def test_errors_leave_as_they_should(
    controller: Controller, args: list[str], code: int, error: str | None
) -> None:
    ended = controller.nmk(*args)
    assert ended.returncode == code
    assert ended.stdout == ""
    if error:
        told = json.loads(ended.stderr)
        assert told["error"] == error
        assert told.keys() == {"error", "message", "hint"}
    else:
        assert re.fullmatch(r"nmk: .+\n  try: nmk .*--help\n", ended.stderr)


@pytest.mark.parametrize(
    "args",
    [
        ("network", "show", ""),
        ("node", "list", "-n", ""),
        ("node", "show", "-n", "home", ""),
        ("key", "show", "-n", "home", ""),
        ("extclient", "show", "-n", "home", ""),
        ("gateway", "remove", "-n", "home", "", "exit", "--yes"),
    ],
)
@pytest.mark.usefixtures("network")
def test_an_empty_name_is_told_so(controller: Controller, args: tuple[str, ...]) -> None:
    """As of `"$NAME"` with NAME not set."""
    refused = controller.nmk(*args)
    assert refused.returncode == 2
    assert refused.stderr.startswith("nmk: '' cannot be a name")


def test_the_agents_port_names_the_admins(controller: Controller) -> None:
    refused = controller.nmk("network", "list", "--server", f"http://127.0.0.1:{controller.port}")
    assert refused.returncode == 1
    assert "admin API" in refused.stderr
    assert "8081" in refused.stderr


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("data-dir = 5", "data-dir"),
        ('data-dir = "/srv/\\u0000"', "data-dir"),
        ("listen = true", "listen"),
        ("db = {}", "db"),
        ('public-url = ["http://a:1", 5]', "public-url"),
        ("public-url = 5", "public-url"),
    ],
)
def test_a_value_that_is_no_text_names_file_and_key(
    controller: Controller, tmp_path: Path, line: str, key: str
) -> None:
    (tmp_path / "server.toml").write_text(line)
    refused = controller.nmk("server", "status", NMK_CONFIG_DIR=str(tmp_path))
    assert refused.returncode == 2
    assert re.fullmatch(
        rf"nmk: {tmp_path}/server.toml: .+ cannot be {key}\n  try: .+\n", refused.stderr
    )


def test_choices_are_told_in_a_line(controller: Controller) -> None:
    refused = controller.nmk("gateway", "add", "web")
    assert refused.returncode == 2
    assert re.fullmatch(r"nmk: .+ingress.+\n  try: nmk gateway add --help\n", refused.stderr)


def test_who_loses_a_gateway_is_told_before(controller: Controller, network: str) -> None:
    net = Net(controller, network)
    net.ingress("office", endpoint="vpn.example.org:51820")
    for name in ("phone", "tablet"):
        net.add_client(name)
    for more in ((), ("--dry-run",)):
        told = controller.nmk("node", "delete", "office", *more).stderr
        assert "elete node office, the gateway of 2 ext clients" in told
        told = controller.nmk("node", "delete", "witness", *more).stderr
        assert "ext clients" not in told
        told = controller.nmk("network", "delete", network, *more).stderr
        assert "its 2 nodes and 2 ext clients" in told


@pytest.mark.parametrize("args", [(), ("network",), ("key",)])
def test_a_command_without_a_verb_shows_the_verbs(
    controller: Controller, args: tuple[str, ...]
) -> None:
    ended = controller.nmk(*args)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("Usage: nmk")
    assert "create" in ended.stderr or "network" in ended.stderr


@pytest.mark.parametrize("key", ["", "wrong", "two\nlines", "\u20ac"])
def test_a_wrong_key_over_tcp_is_told_where_the_right_one_is(
    controller: Controller, key: str
) -> None:
    server = f"http://127.0.0.1:{controller.admin_port}"
    refused = controller.nmk("network", "list", "--server", server, NMK_API_KEY=key)
    assert refused.returncode in {1, 2}
    assert "admin.key" in refused.stderr


def test_with_the_key_all_works_over_tcp(controller: Controller) -> None:
    server = f"http://127.0.0.1:{controller.admin_port}"
    done = controller.nmk("network", "list", "--server", server, NMK_API_KEY=controller.key + "\n")
    assert done.returncode == 0, done.stderr


def test_nobody_is_waited_for_in_vain(controller: Controller) -> None:
    server = f"http://127.0.0.1:{free_ports(1)[0]}"
    waited = controller.nmk("server", "wait", "--timeout", "0.1", "--server", server)
    assert waited.returncode == 75
    assert server in waited.stderr


@pytest.mark.parametrize(("answer", "left"), [("y\n", ""), ("n\n", "lab\n")])
def test_what_cannot_be_undone_is_asked_at_a_terminal(
    controller: Controller, answer: str, left: str
) -> None:
    controller.nmk("network", "create", "lab")
    ours, theirs = pty.openpty()
    try:
        with open(ours, "r+b", buffering=0) as terminal:  # noqa: PTH123  # a file descriptor
            terminal.write(answer.encode())
            done = subprocess.run(
                [*NMK, "network", "delete", "lab"],
                env=clean_environment(NMK_SERVER=f"unix://{controller.socket}"),
                stdin=theirs,
                capture_output=True,
                text=True,
                check=False,
                timeout=patient(30),
            )
        assert "Delete network lab" in done.stderr
        assert done.stdout == ""
        assert (done.returncode == 0) == (left == "")
        assert controller.nmk("network", "list", "-o", "name").stdout == left
    finally:
        controller.nmk("network", "delete", "lab", "--yes")


def test_without_a_terminal_yes_is_needed(controller: Controller, network: str) -> None:
    refused = controller.nmk("network", "delete", network)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr


def commands(group: click.Group, path: str = "nmk") -> Iterator[tuple[str, click.Command]]:
    """Every command with its path."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command, name
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


ALL = dict(commands(nmk))


@pytest.mark.parametrize("path", [p for p, c in ALL.items() if not isinstance(c, click.Group)])
def test_the_help_of_every_command_ends_with_an_example(path: str) -> None:
    epilog = ALL[path].epilog
    assert epilog, f"{path} has no example"
    assert epilog.startswith("Example: ")
    assert path in epilog


def test_the_overview_shows_every_command() -> None:
    assert {path.split()[1] for path in ALL} == set(COMMANDS)


def test_help_is_no_error(controller: Controller) -> None:
    for args in (["--help"], ["-h"], ["network", "--help"], ["key", "create", "-h"]):
        told = controller.nmk(*args)
        assert (told.returncode, told.stderr) == (0, "")
        assert "Usage: nmk" in told.stdout
