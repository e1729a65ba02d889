"""WireGuard interfaces of this machine: look at one, make one, remove one.

Made in the kernel where it can, else by a userspace implementation, as wg-quick(8) chooses. The
kernel's has no process and no socket, and is gone at once when it is removed; the kernel loads the
module by itself when the first one is made, so the service needs no right to. What a userspace one
needs beyond that is said where it is done.
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from nmk.core.commands import remove_link
from nmk.core.parse import quote
from nmk.core.tunnel import Command, Tunnel
from nmk.errors import CommandFailed, CommandUnanswered, InterfaceTaken, NmkError, ToolMissing
from nmk.files import read_file
from nmk.processes import is_roots
from nmk.system.dump import Dump, Link, parse_dump, parse_kind, parse_link
from nmk.system.runner import Runner
from nmk.tools import has_tool, install_hint

USERSPACE = ("wireguard-go", "boringtun-cli", "boringtun")
SOCKETS = Path("/var/run/wireguard")  # where `wg` and all userspace implementations meet
_NETWORK_NAMESPACE = Path("/proc/self/ns/net")
_TUN = Path("/dev/net/tun")
_INTERFACES = Path("/sys/class/net")
_LOADED = Path("/sys/module/wireguard")
_MODULES = Path("/lib/modules")
_MOST_MODULES = 32 * 1024 * 1024  # bytes of a list of modules; Debian's has less than one


def exists(interface: str) -> bool:
    """Whether this machine has an interface of that name, of whatever kind."""
    try:
        socket.if_nametoindex(interface)
    except OSError:
        return False
    return True


def probe(run: Runner, interface: str, dump: Dump | None = None) -> Tunnel | None:
    """The interface as it is now; None where there is none. Raises InterfaceTaken, CommandFailed.

    A userspace interface goes with its process, so what a dead one leaves is none either. `dump`:
    what `look` gave, where it has been asked already.
    """
    if not exists(interface):
        return None
    dump = dump or look(run, interface)
    link = find_link(run, interface)
    return Tunnel(
        interface=interface,
        private_key=dump.private_key,
        listen_port=dump.listen_port,
        mtu=link.mtu,
        addresses=link.addresses,
        peers={key: live.peer for key, live in dump.peers.items()},
        up=link.up,
        mark=dump.mark,
    )


def find_link(run: Runner, interface: str) -> Link:
    """What the kernel says of an interface that exists. Raises CommandFailed."""
    return parse_link(run.read(["ip", "-json", "address", "show", "dev", interface]), interface)


def look(run: Runner, interface: str) -> Dump:
    """What WireGuard says of an interface that exists. Raises InterfaceTaken, CommandFailed.

    CommandUnanswered where `wg` says nothing of it.
    """
    try:
        text = run.read(["wg", "show", interface, "dump"])
    except CommandUnanswered:
        raise
    except CommandFailed as error:
        if exists(interface) and os.geteuid() == 0:
            raise InterfaceTaken(
                f"the interface {quote(interface)} is no WireGuard interface: {error.message}",
                remove_link(interface),
            ) from None
        raise
    return parse_dump(text)


def names(run: Runner) -> set[str]:
    """All WireGuard interfaces of this machine."""
    return set(run.read(["wg", "show", "interfaces"]).split())


def is_there_other(known: Collection[str]) -> bool:
    """Whether there may be any but those, as /sys and sockets tell: `wg` may hang, or be gone."""
    try:
        there = {name for _, name in socket.if_nameindex()}
    except OSError:  # as in a sandbox that lets nobody talk to the kernel by netlink
        return True
    return any(map(_may_be, there - {"lo", *known}))


def _may_be(interface: str) -> bool:
    if (SOCKETS / f"{interface}.sock").exists():
        return True
    try:
        return b"DEVTYPE=wireguard\n" in (_INTERFACES / interface / "uevent").read_bytes()
    except OSError:  # as where /sys is that of another network namespace
        return True


def renamed(run: Runner, interface: str, key: str, number: int | None) -> str | None:
    """What the interface of this number and private key is called now, if it has another name.

    None where there is one under its own name. `number`: what if_nametoindex(3) said of it; None
    where that is not known. A userspace one is told by its process then, the kernel's is not.
    """
    if exists(interface):
        return None
    with suppress(OSError, NmkError):
        name = socket.if_indextoname(number) if number else _served(interface)
        text = run.read(["ip", "-json", "-details", "link", "show", "dev", name])
        # A userspace process is asked by its socket, which keeps the first name.
        asked = {"wireguard": name, "tun": interface}.get(parse_kind(text, name))
        if asked and parse_dump(run.read(["wg", "show", asked, "dump"])).private_key == key:
            return name
    return None


def of_key(run: Runner, key: str) -> set[str]:
    """The WireGuard interfaces of this machine that have this private key."""
    found = set()
    with suppress(NmkError):
        for name in names(run):
            with suppress(NmkError):
                if parse_dump(run.read(["wg", "show", name, "dump"])).private_key == key:
                    found.add(name)
    return {name for name in found if exists(name)}


def name_again(run: Runner, name: str, interface: str) -> None:
    """Give an interface its own name again. Raises CommandFailed."""
    try:
        run.change(Command(("ip", "link", "set", "dev", name, "name", interface)))
    except CommandFailed:  # kernels before 6.2 rename none that is up
        lines = f"link set dev {name} down\nlink set dev {name} name {interface}\n"
        run.change(Command(("ip", "-batch", "-"), lines))


def _servers(interface: str) -> Iterator[int]:
    """The processes that serve a userspace interface: root's, started for it, with its socket.

    Others may have been handed that socket or a device (unix(7), SCM_RIGHTS), and whoever binds one
    elsewhere chooses what /proc/net/unix calls it; none of them chooses root's command lines.
    """
    paths = {f"{directory}/{interface}.sock" for directory in (SOCKETS, "/run/wireguard")}
    lines = (line.split() for line in _text(Path("/proc/net/unix")).splitlines())
    sockets = {f"socket:[{words[6]}]" for words in lines if len(words) == 8 and words[7] in paths}
    namespace = _NETWORK_NAMESPACE.stat()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (
                interface.encode() in _content(process / "cmdline").split(b"\0")[1:]
                and is_roots(process)
                and os.path.samestat((process / "ns/net").stat(), namespace)
            ):
                files = {str(fd.readlink()) for fd in (process / "fd").iterdir()}
                if str(_TUN) in files and files & sockets:
                    yield int(process.name)


def _served(interface: str) -> str:
    """What the interface that was made by a process for this name is called now; "" for none.

    The kernel says it of each open device (tun_chr_show_fdinfo).
    """
    for process in _servers(interface):
        for file in Path(f"/proc/{process}/fd").iterdir():
            if str(file.readlink()) == str(_TUN):
                said = _text(file.parents[1] / "fdinfo" / file.name)
                if found := re.search(r"^iff:\t(\S+)$", said, re.MULTILINE):
                    return found[1]
    return ""


def _text(path: Path) -> str:
    return _content(path).decode(errors="replace")


_PEER_FIELDS = 9  # of a line of `wg show all dump`; an interface has five (wg(8))


def endpoints(run: Runner) -> dict[str, str]:
    """Where peers of any interface of this machine are called, and the interface of each."""
    try:
        lines = run.read(["wg", "show", "all", "dump"]).splitlines()
    except CommandFailed:  # of one interface that cannot be read
        return {}
    peers = (fields for line in lines if len(fields := line.split("\t")) == _PEER_FIELDS)
    return {peer[3]: peer[0] for peer in peers if peer[3] != "(none)"}


def creations(interface: str) -> list[Command]:
    """The commands that may make a WireGuard interface, the likeliest to work first."""
    kernel = Command(("ip", "link", "add", "dev", interface, "type", "wireguard"))
    program = userspace_program()
    userspace = [Command((program, interface))] if program else []
    return [kernel, *userspace] if kernel_has_wireguard() else [*userspace, kernel]


def is_makable() -> bool:
    """Whether an interface can be made and configured, as far as the programs for it go."""
    return all(map(has_tool, ("ip", "wg"))) and (
        kernel_has_wireguard() or bool(userspace_program())
    )


def userspace_program() -> str | None:
    """The userspace WireGuard that is installed, if one is; WG_QUICK_USERSPACE_... may name it."""
    wished = os.environ.get("WG_QUICK_USERSPACE_IMPLEMENTATION")
    names = (wished,) if wished else USERSPACE
    return next((name for name in names if has_tool(name)), None)


def tun_fault() -> str | None:
    """Why a userspace WireGuard can make no interface here; None where it can."""
    try:
        os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError as error:
        return error.strerror if os.geteuid() == 0 else None
    except OSError as error:
        return error.strerror
    return None


def is_kernels(interface: str) -> bool:
    """Whether an interface that exists is the kernel's own WireGuard."""
    return not _socket(interface).exists()


def create(run: Runner, ways: list[Command], interface: str) -> None:
    """Make the interface in the first way that works. Raises ToolMissing, CommandFailed."""
    failures = []
    for command in ways:
        try:
            run.change(command)
        except CommandFailed as error:
            failures.append(error)
            continue
        if command.argv[0] != "ip":
            run.wait(f"{command.argv[0]} does not answer", lambda: _answers(interface))
        return
    kept = [f.hint for f in failures if isinstance(f, CommandUnanswered)]
    if len(ways) == 1 and not (kept or kernel_has_wireguard()):
        raise ToolMissing(
            f"no WireGuard in the kernel ({failures[0].message}), and none installed beside it",
            install_hint("wireguard-go"),
        )
    raise CommandFailed("; ".join(f.message for f in failures), kept[0] if kept else None)


def is_served_elsewhere(interface: str) -> bool:
    """Whether a userspace process serves the interface, and that is not in this namespace."""
    return not exists(interface) and _answers(interface)


def remove(run: Runner, interface: str) -> None:
    """Remove the interface, if it is there, and what a userspace process left of it.

    `wg` is not asked. A process that does not end with its interface, as it is stopped, is killed:
    until it has ended, no other can serve an interface of this name.
    """
    if exists(interface):
        run.change(Command(("ip", "link", "delete", "dev", interface)))
        try:
            run.wait(f"{interface} does not go", lambda: not _answers(interface))
        except CommandFailed:
            if exists(interface):
                raise
            for process in _servers(interface):
                with suppress(OSError):
                    os.kill(process, signal.SIGKILL)
            run.wait(f"{interface} does not go", lambda: not _answers(interface))
    if not run.dry:
        _socket(interface).unlink(missing_ok=True)


def kernel_has_wireguard() -> bool:
    """Whether the kernel has WireGuard, loaded or to be loaded."""
    if _LOADED.exists():
        return True
    lists = (_MODULES / os.uname().release / name for name in ("modules.dep", "modules.builtin"))
    return any(b"/wireguard.ko" in _content(path) for path in lists)


def _content(path: Path) -> bytes:
    """Nothing where it cannot be read."""
    try:
        return read_file(path, _MOST_MODULES)
    except OSError:
        return b""


def _socket(interface: str) -> Path:
    return SOCKETS / f"{interface}.sock"


def _answers(interface: str) -> bool:
    """Whether a userspace process serves the interface."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(_socket(interface)))
        except OSError:
            return False
    return True
