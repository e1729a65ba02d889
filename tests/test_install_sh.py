"""install.sh and the line to paste, run for real in every shell and with every downloader.

/usr/local/bin is a scratch directory, seen so in a mount namespace; PATH is a directory with the
very tools that the imagined machine has. What is installed is a stand-in for nmk, a shell script
that tells how it was called.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from nmk import archive

ROOT = Path(__file__).parent.parent
TOKEN = "nmk1-the-token"
SHELLS = ["bash", "dash", "busybox"]
DOWNLOADERS = ["curl", "wget", "busybox wget", "python3"]
BASICS = [
    "cat",
    "chmod",
    "cp",
    "env",
    "grep",
    "head",
    "id",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "setpriv",
    "sha256sum",
    "timeout",
]
TOOLS = ["curl", "ip", "python3", "wg", "wireguard-go"]

NMK = b"""#!/bin/sh
if [ "$1" = version ]; then exit "${VERSION_STATUS:-0}"; fi
echo "called: $*"
if [ "$2" = - ]; then echo "input: $(cat)"; fi
"""
APT_GET = """#!/bin/sh
[ -z "$(cat)" ] || echo "apt-get has read the standard input"
echo "$*" >>"$APT_LOG"
exit "${APT_STATUS:-0}"
"""
UNUSABLE = "#!/bin/sh\nexit 1\n"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="install.sh wants root")

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

Result = subprocess.CompletedProcess[str]


class Machine:
    """The machine to install on."""

    def __init__(self, root: Path, shell: str = "dash") -> None:
        self.bin = root / "bin"
        self.local_bin = root / "local-bin"
        self.script = root / "download" / "install.sh"
        self.apt_log = root / "apt.log"
        self.env = {"PATH": str(self.bin), "APT_LOG": str(self.apt_log)}
        for directory in (self.bin, self.local_bin, self.script.parent):
            directory.mkdir()
        for tool in (*BASICS, *TOOLS):
            self.give(tool)
        self.give("sh", f'#!/bin/sh\nexec {real(shell)} {"sh" * (shell == "busybox")} "$@"\n')
        self.give("apt-get", APT_GET)
        shutil.copy(ROOT / "install.sh", self.script)

    def give(self, tool: str, content: str = "") -> None:
        """Let it have a tool: the real one, or a script."""
        path = self.bin / tool
        path.unlink(missing_ok=True)
        if content:
            path.write_text(content)
            path.chmod(0o755)
        else:
            path.symlink_to(real(tool))

    def take(self, *tools: str) -> None:
        for tool in tools:
            (self.bin / tool).unlink()

    def run(self, *command: str, text: str = "") -> Result:
        """Run a command with this machine's tools and its /usr/local/bin."""
        as_this_machine = 'mount --bind "$0" /usr/local/bin && exec env -i "$@"'
        return subprocess.run(
            ["unshare", "--mount", "sh", "-c", as_this_machine, str(self.local_bin)]
            + [f"{name}={value}" for name, value in self.env.items()]
            + list(command),
            input=text,
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, *args: str, text: str = "") -> Result:
        return self.run("sh", str(self.script), *args, text=text)

    def installed(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.local_bin.iterdir()}


class Controller:
    """The two files of a controller that installing needs, served by HTTP on this address."""

    def __init__(self, root: Path, address: str) -> None:
        class Handler(SimpleHTTPRequestHandler):
            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in address else socket.AF_INET

        self.root = root
        self.nmk = root / "nmk"
        self.script = root / "install.sh"
        self.nmk.write_bytes(NMK)
        self.script.write_bytes(archive.served_script(sha256(self.nmk)))
        self.server = Server((address, 0), partial(Handler, directory=str(root)))
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        host = f"[{address}]" if ":" in address else address
        self.url = f"http://{host}:{self.server.server_port}"
        self.pasted_line = archive.pasted_line(self.url, sha256(self.script), TOKEN)

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


class Endless:
    """Somebody between, who answers with what never ends, or comes a byte at a time."""

    MOST = 160 << 20  # bytes; a test ends, whatever takes them

    def __init__(self, *, drips: bool = False) -> None:
        self.sent = 0
        self._stopped = threading.Event()
        self._drips = drips
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with self._socket, suppress(OSError):
            connection, _ = self._socket.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                while self.sent < self.MOST and not self._stopped.is_set():
                    chunk = b"x" if self._drips else bytes(1 << 20)
                    connection.sendall(chunk)
                    self.sent += len(chunk)
                    self._stopped.wait(0.1 if self._drips else 0)

    def close(self) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # where nobody came
        self._thread.join()


def in_the_kernel() -> int:
    """Bytes of one connection, and of one write, that nobody may have read yet."""
    kinds = [Path(f"/proc/sys/net/ipv4/tcp_{kind}mem").read_text() for kind in "rw"]
    return sum(int(text.split()[2]) for text in kinds) + (2 << 20)


def real(tool: str) -> str:
    """Where this machine's own tool is, whatever else the developer's PATH offers."""
    found = shutil.which(tool, path=PATH)
    assert found, f"this test needs {tool}"
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture(params=["127.0.0.1"])
def controller(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Controller]:
    root = tmp_path / "served"
    root.mkdir()
    controller = Controller(root, request.param)
    yield controller
    controller.close()


@pytest.fixture
def beside(machine: Machine) -> Path:
    """A file nmk beside the script."""
    path = machine.script.with_name("nmk")
    path.write_bytes(NMK)
    return path


def only(machine: Machine, downloader: str) -> None:
    """Let it have no other downloader than this."""
    machine.take("curl", "python3")
    if downloader.startswith("busybox "):
        machine.give("wget", f'#!/bin/sh\nexec {real("busybox")} wget "$@"\n')
    else:
        machine.give(downloader)


def from_controller(machine: Machine, controller: Controller) -> None:
    """Let the machine have the script as the controller serves it."""
    shutil.copy(controller.script, machine.script)
    machine.env["NMK_SOURCE"] = controller.url


# The line to paste


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("downloader", DOWNLOADERS)
@pytest.mark.parametrize("controller", ["127.0.0.1", "::1"], indirect=True)
def test_the_pasted_line_joins(
    tmp_path: Path, controller: Controller, shell: str, downloader: str
) -> None:
    (tmp_path / "machine").mkdir()
    machine = Machine(tmp_path / "machine", shell)
    machine.take("curl")
    if downloader.startswith("busybox "):
        machine.give("wget", f'#!/bin/sh\nexec {real("busybox")} wget "$@"\n')
    else:
        machine.give(downloader)
    result = machine.run("sh", "-c", controller.pasted_line + " --name web")
    assert result.stderr == "nmk: installed /usr/local/bin/nmk\n"
    assert result.stdout == f"called: join - --name web\ninput: {TOKEN}\n"
    assert result.returncode == 0
    assert machine.installed() == {"nmk": NMK}
    assert not machine.apt_log.exists()


def test_the_pasted_line_refuses_another_script(machine: Machine, controller: Controller) -> None:
    controller.script.write_text("echo intruder\n")
    result = machine.run("sh", "-c", controller.pasted_line)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        f"nmk: {controller.url}/install.sh has the wrong checksum",
        "  try: on the controller, for a new line: nmk key create",
    ]
    assert machine.installed() == {}


def test_the_pasted_line_uses_sudo_where_it_is_needed(
    machine: Machine, controller: Controller
) -> None:
    machine.give("id", "#!/bin/sh\necho 1000\n")
    machine.give("sudo", '#!/bin/sh\necho "sudo $1"\n')
    assert machine.run("sh", "-c", controller.pasted_line).stdout == "sudo env\n"


def test_the_pasted_line_shows_why_a_download_failed(
    machine: Machine, controller: Controller
) -> None:
    controller.script.unlink()
    result = machine.run("sh", "-c", controller.pasted_line)
    assert result.returncode != 0
    assert "404" in result.stderr


@pytest.mark.parametrize("downloader", [*DOWNLOADERS, "none"])
@pytest.mark.parametrize("port", ["closed", "silent"])
def test_the_pasted_line_says_what_it_could_not_reach(
    machine: Machine, downloader: str, port: str
) -> None:
    machine.take("curl", "python3")
    if downloader.startswith("busybox "):
        machine.give("wget", f'#!/bin/sh\nexec {real("busybox")} wget "$@"\n')
    elif downloader != "none":
        machine.give(downloader)
    if port == "silent":  # the wait itself is the tool's
        machine.give("timeout", '#!/bin/sh\nshift\nexec /usr/bin/timeout 1 "$@"\n')
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        if port == "silent":
            server.listen(1)
        result = machine.run("sh", "-c", archive.pasted_line(url, "0" * 64, TOKEN))
    assert (result.returncode, result.stdout) == (75, "")
    told = [line for line in result.stderr.splitlines() if line.startswith("nmk: ")]
    assert len(told) == 1
    assert told[0].startswith(f"nmk: could not get {url}/install.sh by curl, wget or python3: ")
    assert told[0].endswith("nmk server running there, its TCP port open to this machine?")
    assert "timeout 15" in archive.pasted_line(url, "0" * 64, TOKEN)


def test_the_token_is_in_no_arguments(machine: Machine, controller: Controller) -> None:
    machine.give("sh", '#!/bin/sh\necho "args: $*" >&2\nexec /bin/sh "$@"\n')
    result = machine.run(real("bash"), "-c", "set -x\n" + controller.pasted_line)
    assert "args: " in result.stderr
    assert [line for line in result.stderr.splitlines() if TOKEN in line] == [f"+ echo {TOKEN}"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("downloader", DOWNLOADERS)
def test_the_pasted_line_reads_no_more_than_a_script_can_have(
    tmp_path: Path, shell: str, downloader: str
) -> None:
    machine = Machine(tmp_path, shell)
    only(machine, downloader)
    with closing(Endless()) as endless:
        result = machine.run("sh", "-c", archive.pasted_line(endless.url, "0" * 64, TOKEN))
        assert endless.sent < 16 << 20  # most of it is in the kernel
    assert (result.returncode, result.stdout) == (1, "")
    assert "has the wrong checksum\n" in result.stderr


# The script


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("downloader", DOWNLOADERS)
def test_a_file_without_end_does_not_fill_the_disk(
    tmp_path: Path, shell: str, downloader: str
) -> None:
    machine = Machine(tmp_path, shell)
    only(machine, downloader)
    machine.script.write_bytes(archive.served_script("0" * 64))
    with closing(Endless()) as endless:
        machine.env["NMK_SOURCE"] = endless.url
        result = machine.install("join", TOKEN)
        assert endless.sent < (64 << 20) + in_the_kernel()  # bash counts in KiB
    assert (result.returncode, result.stdout) == (75, "")
    assert f'nmk: could not get "{endless.url}/nmk"\n  try: ' in result.stderr
    assert machine.installed() == {}


@pytest.mark.parametrize("downloader", DOWNLOADERS)
def test_a_file_that_drips_is_not_waited_for(machine: Machine, downloader: str) -> None:
    only(machine, downloader)
    script = archive.served_script("0" * 64)
    machine.script.write_bytes(script.replace(b"LONGEST=120 ", b"LONGEST=1 "))
    with closing(Endless(drips=True)) as endless:
        machine.env["NMK_SOURCE"] = endless.url
        result = machine.run("/usr/bin/timeout", "20", "sh", str(machine.script), "join", TOKEN)
    assert result.returncode == 75
    assert machine.installed() == {}


def test_a_wget_that_nothing_would_stop_is_not_used(
    machine: Machine, controller: Controller
) -> None:
    from_controller(machine, controller)
    machine.take("curl", "timeout")
    machine.give("wget", UNUSABLE)
    assert machine.install("join", TOKEN).returncode == 0
    assert machine.run("sh", "-c", controller.pasted_line).returncode == 0


@pytest.mark.usefixtures("beside")
def test_join_hands_the_token_over_on_standard_input(machine: Machine) -> None:
    result = machine.install("join", TOKEN, "--name", "web server")
    assert result.stdout == f"called: join - --name web server\ninput: {TOKEN}\n"


@pytest.mark.usefixtures("beside")
def test_join_reads_the_token_from_standard_input(machine: Machine) -> None:
    result = machine.install("join", "-", "--dry-run", text=TOKEN)
    assert result.stdout == f"called: join - --dry-run\ninput: {TOKEN}\n"


@pytest.mark.usefixtures("beside")
def test_join_leaves_the_environments_token_to_nmk(machine: Machine) -> None:
    machine.env["NMK_JOIN_TOKEN"] = TOKEN
    assert machine.install("join", "--dns", "off").stdout == "called: join --dns off\n"
    assert machine.install("join").stdout == "called: join\n"


@pytest.mark.usefixtures("beside")
def test_what_is_missing_is_installed(machine: Machine) -> None:
    machine.take("python3", "wg", "wireguard-go")
    machine.give("ip", UNUSABLE)  # no WireGuard in the kernel
    assert machine.install("join", "-", text=TOKEN).stdout.endswith(f"input: {TOKEN}\n")
    assert [line.split()[-2:] for line in machine.apt_log.read_text().splitlines()] == [
        ["python3", "wireguard-tools"],
        ["--no-install-recommends", "wireguard-go"],
    ]


@pytest.mark.usefixtures("beside")
def test_busyboxs_ip_is_as_good_as_missing(machine: Machine) -> None:
    machine.give("ip", "#!/bin/sh\necho 'BusyBox v1.35.0 multi-call binary.' >&2; exit 1\n")
    assert machine.install("join", "-", text=TOKEN).stdout.endswith(f"input: {TOKEN}\n")
    assert "iproute2" in machine.apt_log.read_text()


@pytest.mark.usefixtures("beside")
def test_package_lists_are_fetched_when_they_are_stale(machine: Machine) -> None:
    machine.take("python3")
    machine.env["APT_STATUS"] = "100"
    result = machine.install("server")
    assert (result.returncode, result.stdout) == (1, "")
    assert "nmk: could not install python3\n  try: apt-get update" in result.stderr
    assert [line.split()[3] for line in machine.apt_log.read_text().splitlines()] == [
        "install",
        "update",
    ]
    assert machine.installed() == {}


@pytest.mark.usefixtures("beside")
def test_without_apt_the_missing_tools_are_named(machine: Machine) -> None:
    machine.take("apt-get", "wg", "python3")
    result = machine.install("join", TOKEN)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("nmk: these tools are missing: python3 wg\n  try: ")
    assert machine.installed() == {}


@pytest.mark.usefixtures("beside")
def test_server_installs_and_says_how_to_go_on(machine: Machine) -> None:
    machine.take("wg", "wireguard-go")
    result = machine.install("server")
    assert (result.returncode, result.stderr) == (0, "nmk: installed /usr/local/bin/nmk\n")
    assert result.stdout.startswith("next: nmk server ")
    assert machine.installed() == {"nmk": NMK}
    assert (machine.local_bin / "nmk").stat().st_mode & 0o777 == 0o755
    assert not machine.apt_log.exists()


def test_the_file_may_be_the_built_one(machine: Machine) -> None:
    built = machine.script.with_name("dist") / "nmk"
    built.parent.mkdir()
    built.write_bytes(NMK)
    machine.script.with_name("nmk").mkdir()  # the package, in a checkout
    assert machine.install("server").returncode == 0


def test_no_file_at_all(machine: Machine) -> None:
    result = machine.install("server")
    assert result.returncode == 1
    assert result.stderr.startswith(
        "nmk: there is no file nmk beside install.sh\n  try: put it there,"
    )
    assert "CONTROLLER" not in result.stderr
    in_checkout = machine.script.with_name("build_zipapp.py")
    in_checkout.touch()
    assert f'  try: python3 "{in_checkout}"\n' in machine.install("server").stderr


@pytest.mark.usefixtures("beside")
def test_uninstall_is_left_to_nmk(machine: Machine) -> None:
    assert machine.install("uninstall").returncode == 0
    machine.install("server")
    assert machine.install("uninstall", "--yes").stdout == "called: uninstall --yes\n"


def test_what_is_left_without_a_program_is_named(machine: Machine) -> None:
    """As a controller's data, which an uninstall without --purge has kept."""
    there = f"{real('mount')} -t tmpfs none /var/lib && {real('mkdir')} /var/lib/nmk && "
    done = machine.run("sh", "-c", f"{there} sh {machine.script} uninstall --purge --yes")
    assert done.returncode == 0
    assert (
        "/var/lib/nmk is there; to remove it, once no nmk runs: rm -r /var/lib/nmk\n" in done.stderr
    )


def test_another_file_than_the_controllers_is_refused(
    machine: Machine, controller: Controller
) -> None:
    from_controller(machine, controller)
    machine.take("python3", "wg")
    controller.nmk.write_text("#!/bin/sh\necho intruder\n")
    result = machine.install("join", TOKEN)
    assert (result.returncode, result.stdout) == (1, "")
    assert "is not the one that this script is for" in result.stderr
    assert machine.installed() == {}
    assert not machine.apt_log.exists()


def test_plain_http_needs_a_checksum(machine: Machine, controller: Controller) -> None:
    machine.env["NMK_SOURCE"] = controller.url
    result = machine.install("join", TOKEN)
    assert (result.returncode, result.stdout) == (1, "")
    assert f'cannot trust "{controller.url}/nmk"' in result.stderr
    assert machine.installed() == {}


def test_an_unreachable_controller_is_worth_another_try(
    machine: Machine, controller: Controller
) -> None:
    from_controller(machine, controller)
    controller.nmk.unlink()
    result = machine.install("join", TOKEN)
    assert result.returncode == 75
    assert f'nmk: could not get "{controller.url}/nmk"\n  try: ' in result.stderr
    assert machine.installed() == {}


def test_nothing_to_download_with(machine: Machine, controller: Controller) -> None:
    from_controller(machine, controller)
    machine.take("curl", "python3")
    result = machine.install("join", TOKEN)
    assert result.returncode == 1
    assert result.stderr.startswith(
        "nmk: there is no curl, wget (with timeout) or python3 on this machine\n"
    )
    assert machine.installed() == {}


@pytest.mark.usefixtures("beside")
def test_what_does_not_start_replaces_nothing(machine: Machine) -> None:
    (machine.local_bin / "nmk").write_text("the one before")
    machine.env["VERSION_STATUS"] = "1"
    assert machine.install("server").returncode == 1
    assert machine.installed() == {"nmk": b"the one before"}


@pytest.mark.usefixtures("beside")
@pytest.mark.parametrize("command", ["server", "join", "uninstall"])
def test_only_root_may(machine: Machine, command: str) -> None:
    machine.give("id", "#!/bin/sh\necho 1000\n")
    result = machine.install(command)
    assert result.returncode == 1
    assert result.stderr == (
        f"nmk: only root can install or remove nmk\n  try: sudo sh install.sh {command}\n"
    )


@pytest.mark.parametrize(("args", "status"), [((), 2), (("jion",), 2), (("--help",), 0)])
def test_usage(machine: Machine, args: tuple[str, ...], status: int) -> None:
    result = machine.install(*args)
    assert result.returncode == status
    assert (result.stderr if status else result.stdout).startswith("usage: install.sh server")


def test_the_script_fits_into_the_pasted_lines_variable() -> None:
    script = archive.install_script()
    assert script.endswith(b"\n")
    assert not script.endswith(b"\n\n")  # the shell drops them all and the line adds one
    assert len(script) < 100_000  # 128 KiB is Linux's limit for one argument


# nmk.archive in a source tree


def test_a_source_tree_has_a_script_but_no_file() -> None:
    assert archive.running_file() is None
    assert archive.install_script() == (ROOT / "install.sh").read_bytes()
