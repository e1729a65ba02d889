"""`nmk extclient`: where a new config goes, and that the private key goes nowhere else."""

from __future__ import annotations

import base64
import errno
import json
import os
import pty
import re
import stat
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nmk.store.engine import compile_query, open_engine
from nmk.store.tables import TABLES, ChangeRow, MetaRow
from tests.cli.recorder import recorded_port, recorded_socket
from tests.cli.test_qr import BLACK, WHITE, decode, decode_picture, photograph
from tests.core.made import key32
from tests.engines.plugin import MakeDatabase
from tests.lab.polling import patient
from tests.server.net import Json, Net
from tests.server.process import NMK, Controller, clean_environment, started


@pytest.fixture(scope="module")
def net(controller: Controller) -> Iterator[Net]:
    """The only network there is."""
    made = Net.made(controller, "home", "10.20.0.0/16", "fd20::/64")
    made.ingress("office", endpoint="vpn.example.org:51820")
    made.add_gateway("office", "exit")
    yield made
    assert controller.nmk("network", "delete", "home", "--yes").returncode == 0


@pytest.fixture(autouse=True)
def without_clients(net: Net) -> None:
    for client in net.get("/extclients"):
        assert net.call("DELETE", f"/extclients/{client['name']}").status == 204


def made(controller: Controller, *args: str) -> str:
    """What a command that succeeds prints on standard output."""
    done = controller.nmk("extclient", *args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def private_key(config: str) -> str:
    [key] = re.findall(r"^PrivateKey = (.*)$", config, re.MULTILINE)
    assert len(base64.b64decode(key, validate=True)) == 32
    return str(key)


def public_key(private: str) -> str:
    """By other means than ours."""
    done = subprocess.run(
        ["wg", "pubkey"], input=private, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def stripped(config: str, directory: Path) -> str:
    """What Debian's wg-quick makes of it for `wg setconf`; it must have no complaint."""
    path = directory / "strip.conf"
    path.touch(0o600)
    path.write_text(config)
    done = subprocess.run(
        ["wg-quick", "strip", str(path)], capture_output=True, text=True, check=False
    )
    path.unlink()
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout


def test_standard_output_is_a_config_and_nothing_else(
    controller: Controller, net: Net, tmp_path: Path
) -> None:
    done = controller.nmk("extclient", "create", "phone")
    assert done.returncode == 0
    config = done.stdout
    key = private_key(config)
    client = net.client("phone")
    assert client["public_key"] == public_key(key)
    assert key not in done.stderr
    four, six = client["addresses"]
    office = net.get("/nodes/office")["public_key"]
    assert config == (
        f"[Interface]\nPrivateKey = {key}\nAddress = {four}/32, {six}/128\nMTU = 1420\n\n"
        f"[Peer]\nPublicKey = {office}\nAllowedIPs = 10.20.0.0/16, fd20::/64\n"
        "Endpoint = vpn.example.org:51820\nPersistentKeepalive = 25\n"
    )
    told = stripped(config, tmp_path)
    assert [line for line in told.splitlines() if line] == [
        line for line in config.splitlines() if line and not line.startswith(("Address", "MTU"))
    ]


def test_a_full_tunnel_leads_everything_in(
    controller: Controller, net: Net, tmp_path: Path
) -> None:
    config = made(controller, "create", "phone", "--full-tunnel", "--expires", "1h")
    assert "AllowedIPs = 0.0.0.0/0, ::/0\n" in config
    assert stripped(config, tmp_path)
    assert net.client("phone")["full_tunnel"]


def test_another_key_comes_with_another_config(
    controller: Controller, net: Net, tmp_path: Path
) -> None:
    first = made(controller, "create", "phone")
    second = made(controller, "rotate", "phone")
    assert private_key(first) != private_key(second)
    assert net.client("phone")["public_key"] == public_key(private_key(second))
    assert second == first.replace(private_key(first), private_key(second))
    assert stripped(second, tmp_path)


def test_json_holds_the_config_too(controller: Controller, net: Net, tmp_path: Path) -> None:
    for verb in ("create", "rotate"):
        told: Json = json.loads(made(controller, verb, "phone", "-o", "json"))
        config = told.pop("config")
        assert told == net.client("phone")
        assert told["public_key"] == public_key(private_key(config))
        assert stripped(config, tmp_path)


def test_a_key_of_the_devices_own_leaves_a_line_to_fill_in(
    controller: Controller, tmp_path: Path
) -> None:
    own = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout
    done = controller.nmk("extclient", "create", "phone", "--public-key", public_key(own))
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[1] == "# PrivateKey = the one of the device"
    lines[1] = f"PrivateKey = {own.strip()}"
    assert stripped("\n".join(lines), tmp_path)
    assert "private key" not in done.stderr


@pytest.mark.parametrize("verb", ["create", "rotate"])
def test_files_are_for_their_owner_alone(
    controller: Controller, net: Net, tmp_path: Path, verb: str
) -> None:
    if verb == "rotate":
        made(controller, "create", "phone")
    config, code = tmp_path / "phone.conf", tmp_path / "phone.png"
    old = os.umask(0)
    try:
        args = (verb, "phone", "--config-file", str(config), "--qr-file", str(code))
        assert made(controller, *args) == ""
    finally:
        os.umask(old)
    for path in (config, code):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert decode(code) == config.read_text()
    assert net.client("phone")["public_key"] == public_key(private_key(config.read_text()))
    assert stripped(config.read_text(), tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["phone.conf", "phone.png"]


@pytest.mark.parametrize("output", ["name", "json", "table"])
def test_with_a_file_standard_output_is_what_was_asked_for(
    controller: Controller, net: Net, tmp_path: Path, output: str
) -> None:
    config = tmp_path / "phone.conf"
    told = made(controller, "create", "phone", "--config-file", str(config), "-o", output)
    if output == "json":
        assert json.loads(told) == net.client("phone")
    else:
        assert told == {"name": "phone\n", "table": ""}[output]
    assert private_key(config.read_text()) not in told


@pytest.mark.parametrize("verb", ["create", "rotate"])
@pytest.mark.parametrize("option", ["--config-file", "--qr-file"])
@pytest.mark.parametrize(
    "kind",
    [
        "file",
        "directory",
        "link",
        "missing",
        "below a file",
        "long",
        "nearly too long",
        "unwritable",
    ],
)
def test_a_file_that_cannot_be_is_told_before_anything_is_made(
    controller: Controller, net: Net, tmp_path: Path, verb: str, option: str, kind: str
) -> None:
    made(controller, "create", "tablet")
    name = "tablet" if verb == "rotate" else "phone"
    path = tmp_path / "phone.png"
    match kind:
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "link":
            (tmp_path / "precious").write_text("precious")
            path.symlink_to(tmp_path / "precious")
        case "missing":
            path = tmp_path / "gone" / "phone.png"
        case "below a file":
            (tmp_path / "file").touch()
            path = tmp_path / "file" / "phone.png"
        case "unwritable":
            path = Path("/proc/phone.png")
        case "nearly too long":
            path = tmp_path / ("x" * 248 + ".png")
        case _:
            path = tmp_path / ("x" * 300 + ".png")
    before = sorted(tmp_path.rglob("*"))
    with net.unchanged():
        refused = controller.nmk("extclient", verb, name, option, str(path))
        assert refused.returncode == 2, refused.stderr
        assert refused.stdout == ""
        assert re.fullmatch(r"nmk: .+\n  try: .+\n", refused.stderr)
    assert sorted(tmp_path.rglob("*")) == before
    assert all(p.read_text() in {"", "precious"} for p in before if p.is_file())


@pytest.mark.parametrize("other", ["phone.png", "link/phone.png", "../here/phone.png"])
def test_one_file_for_two_things_is_refused(
    controller: Controller, net: Net, tmp_path: Path, other: str
) -> None:
    """The code would be written over the config."""
    here = tmp_path / "here"
    here.mkdir()
    (here / "link").symlink_to(here)
    with net.unchanged():
        files = ("--config-file", str(here / "phone.png"), "--qr-file", str(here / other))
        refused = controller.nmk("extclient", "create", "phone", *files)
        assert refused.returncode == 2
        assert "named twice" in refused.stderr
    assert [path.name for path in here.iterdir()] == ["link"]


@pytest.mark.parametrize("name", ["", "-"])
def test_what_is_no_files_name_is_told_so(controller: Controller, net: Net, name: str) -> None:
    with net.unchanged():
        refused = controller.nmk("extclient", "create", "phone", "--config-file", name)
    assert refused.returncode == 2
    assert refused.stderr == (
        f"nmk: {name!r} is no file's name\n  try: leave it out and the config is printed\n"
    )
    assert not Path("-").exists()


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/null"])
def test_nobody_is_told_to_remove_a_device(controller: Controller, net: Net, path: str) -> None:
    with net.unchanged():
        refused = controller.nmk("extclient", "create", "phone", "--config-file", path)
    assert refused.returncode == 2
    assert "remove" not in refused.stderr


@pytest.mark.parametrize("verb", ["create", "rotate"])
def test_an_empty_key_is_no_key(controller: Controller, net: Net, verb: str) -> None:
    """As of `--public-key "$KEY"` with KEY not set: a private key here is not what was meant."""
    made(controller, "create", "tablet")
    with net.unchanged():
        name = "tablet" if verb == "rotate" else "phone"
        refused = controller.nmk("extclient", verb, name, "--public-key", "")
        assert (refused.returncode, refused.stdout) == (2, "")
        assert "'' is no WireGuard key" in refused.stderr


def test_a_config_whose_file_could_not_be_written_is_printed(
    controller: Controller, net: Net, tmp_path: Path
) -> None:
    """As on a full disk, of which nobody knows before."""
    command = [*NMK, "extclient", "create", "phone", "--config-file", str(tmp_path / "phone.conf")]
    failed = subprocess.run(
        ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command],
        env=clean_environment(NMK_SERVER=f"unix://{controller.socket}"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1
    assert net.client("phone")["public_key"] == public_key(private_key(failed.stdout))
    assert "PrivateKey" not in failed.stderr
    assert "the ext client phone is there, and its config is on standard output" in failed.stderr
    assert [c["name"] for c in net.get("/extclients")] == ["phone"]
    assert not list(tmp_path.iterdir())


def test_a_name_alone_would_lose_the_key(controller: Controller, net: Net) -> None:
    made(controller, "create", "tablet")
    with net.unchanged():
        for verb, name in (("create", "phone"), ("rotate", "tablet")):
            refused = controller.nmk("extclient", verb, name, "-o", "name")
            assert (refused.returncode, refused.stdout) == (2, "")
            assert "--config-file" in refused.stderr


@pytest.mark.parametrize("option", ["--config-file", "--qr-file"])
def test_a_file_without_a_name_is_refused(controller: Controller, net: Net, option: str) -> None:
    """As of `--config-file "$FILE"` with FILE not set: not what anybody wants on a terminal."""
    with net.unchanged():
        refused = controller.nmk("extclient", "create", "phone", option, "")
        assert (refused.returncode, refused.stdout) == (2, "")


def test_a_dry_run_makes_no_file_and_shows_no_key(
    controller: Controller, net: Net, tmp_path: Path
) -> None:
    made(controller, "create", "tablet")
    files = ("--config-file", str(tmp_path / "a.conf"), "--qr-file", str(tmp_path / "a.svg"))
    with net.unchanged():
        for verb, name in (("create", "phone"), ("rotate", "tablet")):
            for output in ("table", "json", "name"):
                done = controller.nmk("extclient", verb, name, "--dry-run", "-o", output, *files)
                assert done.returncode == 0
                assert "PrivateKey" not in done.stdout + done.stderr
                assert done.stderr == f"would {verb} ext client {name}\n"
    assert not list(tmp_path.iterdir())


def on_terminal(controller: Controller, *args: str, **environment: str) -> tuple[str, str]:
    """What a terminal is sent, and what goes to standard error."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*NMK, "extclient", *args],
        env=clean_environment(NMK_SERVER=f"unix://{controller.socket}", **environment),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(theirs)
    seen = b""
    try:
        while chunk := os.read(ours, 65536):
            seen += chunk
    except OSError as error:
        if error.errno != errno.EIO:  # the other end was closed
            raise
    finally:
        os.close(ours)
    _, told = process.communicate(timeout=patient(30))
    assert process.returncode == 0, told
    return seen.decode().replace("\r\n", "\n"), told


def codes_of(seen: str) -> str:
    return "\n".join(line for line in seen.split("\n") if "\x1b" in line)


@pytest.mark.parametrize("verb", ["create", "rotate"])
@pytest.mark.parametrize("environment", [{}, {"NO_COLOR": "1"}], ids=["plain", "NO_COLOR"])
def test_a_terminal_shows_the_code_as_well(
    controller: Controller, net: Net, tmp_path: Path, verb: str, environment: dict[str, str]
) -> None:
    """With NO_COLOR too: its two colours are no decoration, without them no phone reads it."""
    if verb == "rotate":
        made(controller, "create", "phone")
    seen, told = on_terminal(controller, verb, "phone", **environment)
    code = codes_of(seen)
    config = seen[: seen.index("\x1b")].removesuffix("\n")
    assert net.client("phone")["public_key"] == public_key(private_key(config))
    for foreground, background in ((WHITE, BLACK), (BLACK, WHITE)):
        assert decode_picture(photograph(code, foreground, background), tmp_path) == config
    assert seen == f"{config}\n{code}\n"
    assert "\x1b" not in told


@pytest.mark.parametrize("output", ["json", "name"])
def test_a_terminal_shows_no_code_where_another_form_was_asked_for(
    controller: Controller, tmp_path: Path, output: str
) -> None:
    file = ("--config-file", str(tmp_path / "phone.conf"))
    seen, _ = on_terminal(controller, "create", "phone", "-o", output, *file)
    assert "\x1b" not in seen


def test_a_terminal_shows_no_code_of_half_a_config(controller: Controller) -> None:
    seen, _ = on_terminal(controller, "create", "phone", "--public-key", key32(1, kind=4))
    assert "\x1b" not in seen
    assert "# PrivateKey = the one of the device" in seen


def test_a_terminal_shows_nothing_of_what_goes_to_a_file(
    controller: Controller, tmp_path: Path
) -> None:
    file = ("--config-file", str(tmp_path / "phone.conf"))
    assert on_terminal(controller, "create", "phone", *file)[0] == ""


def test_a_terminal_that_knows_no_blocks_shows_the_config(controller: Controller, net: Net) -> None:
    seen, told = on_terminal(controller, "create", "phone", PYTHONIOENCODING="ascii")
    assert net.client("phone")["public_key"] == public_key(private_key(seen))
    assert "Traceback" not in told


@pytest.fixture
def second_gateway(net: Net) -> Iterator[str]:
    """The name of a node that a test may make."""
    yield "other"
    assert net.call("DELETE", "/nodes/other").status == 204


def lines(controller: Controller, *args: str) -> list[str]:
    """What a command that succeeds says on standard error."""
    done = controller.nmk("extclient", *args)
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()


def test_every_change_says_from_when_on_it_counts(controller: Controller) -> None:
    when = "it takes effect at the next check-in of office"
    for verb in ("create", "rotate", "disable", "enable", "delete"):
        more = ("--yes",) if verb == "delete" else ()
        if verb != "create":
            assert when not in lines(controller, verb, "phone", "--dry-run", *more)
        assert when in lines(controller, verb, "phone", *more)


def test_the_next_commands_name_the_network(
    controller: Controller, net: Net, second_gateway: str
) -> None:
    """They are pasted where there may be several."""
    net.ingress(second_gateway, endpoint="192.168.1.7:51820")
    told = lines(controller, "create", "phone", "--gateway", second_gateway)
    assert "  nmk gateway add -n home other ingress --endpoint HOST:PORT" in told
    assert told[told.index("  nmk extclient rotate -n home phone") - 2].startswith("note: ")
    assert told[-1].endswith("one that was lost: nmk extclient rotate -n home phone")
    made(controller, "disable", "phone")
    told = lines(controller, "rotate", "phone", "--public-key", key32(2, kind=4))
    assert f"  nmk extclient rotate -n home phone --public-key {key32(2, kind=4)}" in told
    assert "note: it is disabled, and not let in: nmk extclient enable -n home phone" in told


OWN_KEY = "(with --public-key KEY for a device that made its key itself)"


def test_reasons_come_first_and_the_way_out_once(
    controller: Controller, net: Net, second_gateway: str
) -> None:
    net.ingress(second_gateway, endpoint="other.example.org:51820")
    made(controller, "create", "phone", "--gateway", "office", "--full-tunnel")
    made(controller, "create", "tablet", "--gateway", "office")
    told = lines(controller, "set", "phone", "gateway=other")
    moved = "its gateway is other now, and was office"
    assert told == [
        f"its config is stale: {moved}",
        "its config is stale: other is called at other.example.org:51820 now",
        "its config is stale: other is no exit gateway",
        f"  next: nmk extclient rotate -n home phone   {OWN_KEY}",
    ]
    made(controller, "set", "tablet", "address=10.20.0.99")
    assert lines(controller, "list") == [
        f"phone is stale: {moved}, and 2 more: nmk extclient show -n home phone",
        f"tablet is stale: {net.client('tablet')['stale'][0]}",
        f"  next: nmk extclient rotate -n home NAME   {OWN_KEY}",
    ]


def test_one_client_reads_as_all_do(controller: Controller, net: Net) -> None:
    made(controller, "create", "phone", "--gateway", "office")
    client = net.client("phone")
    office = net.agents["office"]
    office.check_in(callers=f"{client['id']},2048,17,7,203.0.113.7:4000")
    shown = dict(line.split(None, 1) for line in made(controller, "show", "phone").splitlines())
    assert re.fullmatch(r"\d+s ago", shown["handshake"])
    assert (shown["received"], shown["sent"]) == ("2.0 KiB", "17 B")


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "CLICOLOR_FORCE": "1"}])
def test_a_pipe_gets_no_code(controller: Controller, environment: dict[str, str]) -> None:
    done = controller.nmk("extclient", "create", "phone", **environment)
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout + done.stderr


def forms_of(key: str) -> Iterator[bytes]:
    """A key as it may be written down."""
    raw = base64.b64decode(key)
    yield raw
    yield raw.hex().encode()
    yield raw.hex().upper().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).rstrip(b"=")
        yield base64.b64encode(encode(raw)).rstrip(b"=")[:56]
    yield json.dumps(list(raw)).encode()
    yield json.dumps(list(raw), separators=(",", ":")).encode()


def is_in(key: str, haystack: bytes) -> bool:
    return any(form in haystack for form in forms_of(key))


def test_a_private_key_is_nowhere_but_in_its_config(
    tmp_path: Path, make_database: MakeDatabase
) -> None:
    data = tmp_path / "data"
    url = make_database(data / "nmk.db")
    configs: list[str] = []
    with ExitStack() as stack:
        controller = stack.enter_context(started(data, url))
        net = Net.made(controller, "home", "10.20.0.0/16")
        net.ingress("office", endpoint="vpn.example.org:51820")
        by_socket = stack.enter_context(recorded_socket(tmp_path / "r.sock", controller.socket))
        port, by_port = stack.enter_context(recorded_port(controller.admin_port))
        doors = (
            {"NMK_SERVER": f"unix://{tmp_path}/r.sock"},
            {"NMK_SERVER": f"http://127.0.0.1:{port}", "NMK_API_KEY": controller.key},
        )

        def run(door: int, *args: str) -> str:
            done = subprocess.run(
                [*NMK, "extclient", *args],
                env=clean_environment(**doors[door]),
                capture_output=True,
                text=True,
                check=True,
            )
            if configs:
                assert not is_in(private_key(configs[-1]), done.stderr.encode())
            return done.stdout

        for door in range(2):
            file, code = tmp_path / f"{door}.conf", tmp_path / f"{door}.svg"
            configs.append(run(door, "create", f"a{door}"))
            configs.append(json.loads(run(door, "create", f"b{door}", "-o", "json"))["config"])
            run(door, "create", f"c{door}", "--config-file", str(file), "--qr-file", str(code))
            configs.append(file.read_text())
            configs.append(run(door, "rotate", f"a{door}"))
            run(door, "create", f"d{door}", "--dry-run")
            run(door, "set", f"a{door}", "expires=1h")
            run(door, "disable", f"a{door}")
            run(door, "list")
        privates = [private_key(config) for config in configs]
        assert len(set(privates)) == 8
        for agent in net.agents.values():
            agent.check_in()
        files = {p: p.read_bytes() for p in data.iterdir() if p.is_file()}
        places = {
            "files": b"".join(files.values()),
            "database": rows_of(url),
            "log": controller.log_file.read_bytes(),
            "socket": by_socket.heard,
            "port": by_port.heard,
            "answers": json.dumps(net.everything()).encode(),
        }
    places["files at the end"] = b"".join(p.read_bytes() for p in data.iterdir() if p.is_file())
    # Their public keys are there, so that private ones would have been found as well.
    publics = [public_key(key) for key in privates]
    assert all(is_in(key, places["database"]) for key in publics)
    assert all(is_in(key, places["socket"]) for key in publics[:4])
    assert all(is_in(key, places["port"]) for key in publics[4:])
    if url.startswith("sqlite:"):
        assert (data / "nmk.db-wal") in files
        assert all(is_in(key, places["files"]) for key in publics)
    for name, content in places.items():
        assert not any(is_in(key, content) for key in privates), name


def rows_of(url: str) -> bytes:
    """All that the database holds."""
    engine = open_engine(url)
    tables = (MetaRow, ChangeRow, *TABLES.values())
    rows = [engine.read(compile_query(engine, table.select())) for table in tables]
    engine.close()
    return repr(rows).encode()
