"""What is made is handed over, or not made, or undone: a key that nobody has is of no use."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nmk.cli.api import AdminApi
from nmk.cli.invite import access_key
from nmk.cli.main import run
from nmk.errors import OutputFailed
from tests.server.inside import Inside
from tests.server.net import Net

Stream = Callable[[], "io.TextIOWrapper | None"]


@pytest.fixture(scope="module")
def net(inner: Inside) -> Net:
    net = Net.made(inner, "home", "10.77.0.0/16", "fd77::/64")
    net.ingress("web", endpoint="vpn.example.org:51820")
    return net


@pytest.fixture
def ranges(net: Net) -> Iterator[None]:
    """Ranges that make a config longer than any QR code."""
    many = [f"2001:db8:{n:x}:1111:2222:3333:4444:5550/124" for n in range(0x1111, 0x1151)]
    net.add_gateway("web", "egress", ranges=many)
    yield
    net.call("DELETE", "/gateways/web/egress")


@pytest.fixture(autouse=True)
def server(inner: Inside, net: Net, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NMK_SERVER", inner.admin_url)
    monkeypatch.setenv("NMK_NETWORK", "home")
    yield
    for client in net.get("/extclients"):
        net.call("DELETE", f"/extclients/{client['name']}")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def closed() -> None:
    return None


def full() -> io.TextIOWrapper:
    return Path("/dev/full").open("w")


def broken() -> io.TextIOWrapper:
    """A pipe whose reader has gone, as of `| head -0`."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


LOST: list[Stream] = [closed, full, broken]


def run_into(stream: object, args: list[str]) -> tuple[int, str]:
    """The exit code, and what is said."""
    told = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        patch.setattr(sys, "stderr", told)
        code = run(args)
    if isinstance(stream, io.TextIOWrapper):
        stream.close()
    return code, told.getvalue()


@pytest.mark.parametrize("stream", LOST)
@pytest.mark.parametrize("output", ["table", "json"])
def test_a_client_whose_config_is_lost_is_not_there(net: Net, stream: Stream, output: str) -> None:
    args = ["extclient", "create", "phone", "-o", output]
    code, told = run_into(stream(), args)
    assert code == 1
    assert "standard output" in told
    assert stream is closed or "phone was deleted again" in told
    assert net.get("/extclients") == []


@pytest.mark.parametrize("stream", LOST)
def test_a_key_that_is_lost_is_said_where_it_cannot_be_undone(net: Net, stream: Stream) -> None:
    before = net.add_client("phone")["public_key"]
    code, told = run_into(stream(), ["extclient", "rotate", "phone"])
    assert code == 1
    is_same = net.client("phone")["public_key"] == before
    assert is_same == (stream is closed)
    assert is_same or "nmk extclient rotate again" in told


@pytest.mark.parametrize("stream", LOST)
@pytest.mark.parametrize("output", ["table", "json"])
def test_an_access_key_whose_token_is_lost_is_revoked(
    net: Net, stream: Stream, output: str
) -> None:
    before = [k for k in net.get("/keys") if k["state"] != "revoked"]
    code, told = run_into(stream(), ["key", "create", "-o", output])
    assert code == 1
    assert stream is closed or "revoked again" in told
    assert [k for k in net.get("/keys") if k["state"] != "revoked"] == before


@pytest.mark.parametrize("stream", LOST)
def test_a_network_is_told_of_though_it_cannot_be_shown(inner: Inside, stream: Stream) -> None:
    name = f"net-{stream.__name__}"
    _, told = run_into(stream(), ["network", "create", name])
    status = inner.admin_call("GET", f"/v1/networks/{name}").status
    assert status == (404 if stream is closed else 200)
    assert (f"created network {name}" in told) == (status == 200)


def test_no_key_is_made_for_an_invitation_that_cannot_report(inner: Inside, net: Net) -> None:
    before = net.get("/keys")
    api = AdminApi(inner.admin_url, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        with pytest.raises(OutputFailed), access_key(api, "home", 1, dry_run=False):
            pass
    assert net.get("/keys") == before


@pytest.mark.usefixtures("ranges")
def test_a_code_that_cannot_hold_the_config_is_refused_before_anything_is_made(
    net: Net, tmp_path: Path
) -> None:
    file = tmp_path / "phone.png"
    args = ["extclient", "create", "phone", "--qr-file", str(file)]
    code, told = run_into(io.StringIO(), args)
    assert code == 2
    assert "too long for a QR code" in told
    assert net.get("/extclients") == []
    assert not list(tmp_path.iterdir())
    key = net.add_client("tablet")["public_key"]
    code, _ = run_into(io.StringIO(), ["extclient", "rotate", "tablet", "--qr-file", str(file)])
    assert code == 2
    assert net.client("tablet")["public_key"] == key


@pytest.mark.usefixtures("ranges")
def test_a_terminal_that_no_code_could_fill_shows_the_config() -> None:
    screen = Terminal()
    code, told = run_into(screen, ["extclient", "create", "phone"])
    assert code == 0
    assert "PrivateKey" in screen.getvalue()
    assert "\x1b" not in screen.getvalue()
    assert "no QR code: a text of" in told


@pytest.mark.parametrize(("columns", "has_code"), [(80, True), (60, False)])
def test_a_code_is_shown_where_the_terminal_is_wide_enough(
    columns: int, has_code: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setenv("COLUMNS", str(columns))
    code, told = run_into(screen, ["extclient", "create", "phone"])
    assert code == 0
    assert "PrivateKey" in screen.getvalue()
    assert ("\x1b" in screen.getvalue()) == has_code
    assert has_code != ("columns, and this terminal has 60" in told)
    assert has_code or "--qr-file phone.png" in told


def test_a_terminal_without_utf_8_gets_no_code() -> None:
    screen = Terminal()
    screen.encoding = "ascii"
    code, told = run_into(screen, ["extclient", "create", "phone"])
    assert code == 0
    assert screen.getvalue().isascii()
    assert "PrivateKey" in screen.getvalue()
    assert "no UTF-8" in told
