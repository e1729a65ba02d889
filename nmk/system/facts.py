"""What this machine is: its own addresses, its name, and whether we may change it."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from ipaddress import ip_interface
from pathlib import Path

from nmk.core.endpoints import is_place
from nmk.core.text import plain
from nmk.errors import NotRoot
from nmk.system.addresses import all_addresses
from nmk.system.filesystem import is_volatile
from nmk.tools import root_hint

MOST_ADDRESSES = 32
INSTANCE = "instance"  # the file that tells this life of the machine from others
_SYS = Path("/sys/class/net")
_DOWN = {"down", "lowerlayerdown", "notpresent"}  # RFC 2863; "unknown" may well be up
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_NETWORK_NAMESPACE = Path("/proc/self/ns/net")


def host_name() -> str:
    """The machine's name as it calls itself; a node's name is made from it.

    The kernel takes any bytes, so those that are no text are escaped.
    """
    return plain(socket.gethostname())


def check_root(command: str) -> None:
    """Raises NotRoot unless this process may change the machine."""
    if os.geteuid() != 0:
        raise NotRoot(f"`{command}` needs root", root_hint())


def machine_instance(directory: Path) -> str:
    """Where and since when nmk runs: another text after each boot, on each machine and container.

    Of two machines with one identity it tells one from the other. It is kept in `directory`, which
    is empty after a boot: some containers show each service a boot id of its own.
    """
    life = _life(directory) or _read(_BOOT_ID).strip()
    marks = f"{life} {_NETWORK_NAMESPACE.stat().st_ino}"
    return blake2b(marks.encode(), digest_size=8).hexdigest()


def _life(directory: Path) -> str:
    """A text that all processes find until the next boot; "" where there is no place for one."""
    path = directory / INSTANCE
    for place, mode in ((directory, 0o700), (path, 0o600)):
        with suppress(OSError):  # a umask may have closed them to us
            if place.stat().st_mode & mode != mode:
                place.chmod(mode)
    found = _read(path)
    if found or not is_volatile(directory):
        return found
    with suppress(OSError):  # also where another process was faster
        if not directory.exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            directory.chmod(0o700)  # whatever the umask is
        # It has no name until it is whole, so who is killed on the way leaves nothing: open(2).
        handle = os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "wb", buffering=0) as file:
            os.fchmod(handle, 0o600)
            file.write(secrets.token_hex(16).encode())
            # The descriptor makes it linkat(2), which alone follows that link.
            os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle, follow_symlinks=True)
    return _read(path)


def own_addresses(leave_out: Iterable[str] = ()) -> tuple[str, ...]:
    """The addresses that others may reach this machine at, with prefix lengths, in a fixed order.

    Interfaces in `leave_out` are ours. Tunnels are left out too, as the mesh shall not run inside
    another one, and so are bridges without a way out (docker0, virbr0): they have the same
    addresses on every machine.
    """
    found = {
        address for interface, address in _addresses(leave_out) if is_outward(_SYS / interface)
    }
    return tuple(sorted(found, key=lambda a: (":" in a, a))[:MOST_ADDRESSES])


def outward_addresses(mark: int) -> tuple[str, ...]:
    """The addresses that packets with this mark leave this machine with; none is sent.

    One a family that leads anywhere. Only root may set a mark.
    """
    found = []
    for family, somewhere in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            with suppress(PermissionError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            probe.connect((somewhere, 9))
            found.append(str(probe.getsockname()[0]))
    return tuple(found)


def own_subnets(leave_out: Iterable[str] = ()) -> list[tuple[str, str]]:
    """Each interface and a range that it has addresses in, sorted: LANs, bridges, other tunnels.

    Interfaces in `leave_out` are ours.
    """
    return sorted({(i, str(ip_interface(a).network)) for i, a in _addresses(leave_out)})


def _addresses(leave_out: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Interfaces with their usable addresses, both families."""
    ours = set(leave_out)
    try:
        found = all_addresses()
    except OSError:  # such as in a sandbox that lets nobody talk to the kernel by netlink
        found = _one_by_one()
    for interface, address in found:
        if interface not in ours and is_place(ip_interface(address).ip):
            yield interface, address


def _one_by_one() -> list[tuple[str, str]]:
    """The same from netifaces, which reads all addresses anew for each interface."""
    import netifaces

    return [
        (interface, address)
        for interface in netifaces.interfaces()
        for family in (netifaces.AF_INET, netifaces.AF_INET6)
        for address in parse_addresses(netifaces.ifaddresses(interface).get(family, ()))
    ]


def parse_addresses(entries: Iterable[Mapping[str, str]]) -> list[str]:
    """Usable addresses among what netifaces says of one interface and family."""
    found = []
    for entry in entries:
        # netmask: "255.255.255.0", or "ffff:ffff:ffff:ffff::/64"
        mask = entry.get("netmask", "").rpartition("/")[2]
        try:
            address = ip_interface(f"{entry.get('addr', '').partition('%')[0]}/{mask}")
        except ValueError:
            continue  # such as a peer's address without a mask
        if is_place(address.ip):
            found.append(str(address))
    return found


def is_outward(interface: Path) -> bool:
    """Whether an interface, as its directory in /sys describes it, leads out of this machine now.

    Where /sys says nothing, it does. One that is down or unplugged keeps its addresses, and
    nobody can reach them.
    """
    if _read(interface / "operstate").strip() in _DOWN:
        return False
    if (interface / "tun_flags").exists() or _device_type(interface) == "wireguard":
        return False
    return not is_inner(interface.name)


def is_inner(interface: str) -> bool:
    """Whether it is a bridge of this machine's own containers or virtual machines alone."""
    if not (_SYS / interface / "bridge").exists():
        return False
    ports = [_SYS / port.name for port in (_SYS / interface).glob("brif/*")]
    return not any((port / "device").exists() or any(port.glob("lower_*")) for port in ports)


def _device_type(interface: Path) -> str:
    lines = _read(interface / "uevent").splitlines()
    return dict(line.partition("=")[::2] for line in lines).get("DEVTYPE", "")


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")  # an interface's name can be any bytes
    except OSError:
        return ""
