"""What a request changes of networks: from meshes to the records to write, or an error.

No function here writes. The caller commits the records with the revision that the decision was
made on; when another commit was faster, it decides again on the newer state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from ipaddress import ip_network

from nmk.core.mesh import Mesh, check_fresh
from nmk.core.parse import Range, look_in, overlap, parse_network_name, parse_range, quote
from nmk.core.records import Network, Record
from nmk.core.settings import effective, parse_settings
from nmk.errors import BadInput, NameTaken, NotFound, RangeOverlaps

_TEN = ip_network("10.0.0.0/8")


def create_network(
    meshes: Mapping[str, Mesh],
    name: str,
    cidrs: list[str],
    settings: Mapping[str, str | int],
    random: bytes,
    now: int,
    hosts: Sequence[str] = (),
) -> Network:
    """A new network. Without ranges a free IPv4 /16 and IPv6 ULA /64 (RFC 4193) are picked.

    `random`: at least 7 bytes, from which the picks are derived; `hosts`: addresses and names of
    the controller. One whose addresses all lie in the network would be looked for in the mesh.
    """
    parse_network_name(name)
    live = {m.name: m.network for m in meshes.values() if m.network and not m.network.deleted_at}
    if name in live:
        raise NameTaken(f"a network named {quote(name)} exists", "nmk network list")
    taken = {
        ip_network(c): n.name for n in live.values() for c in (n.cidr4, n.cidr6) if c is not None
    }
    own = _addresses_of(hosts)
    chosen = [parse_range(text) for text in cidrs] or pick_ranges([*taken, *own], random)
    by_family: dict[int, Range] = {}
    for cidr in chosen:
        if cidr.version in by_family:
            raise BadInput(
                f"{quote(cidr)} is a second IPv{cidr.version} range",
                "give one IPv4 range, one IPv6 range or one of each",
            )
        by_family[cidr.version] = cidr
        for other, owner in taken.items():
            if overlap(other, cidr):
                raise RangeOverlaps(f"{cidr} overlaps {other} of network {quote(owner)}")
    inside = [host for host in own if any(overlap(host, cidr) for cidr in chosen)]
    if hosts and len(inside) == len(hosts):
        raise BadInput(
            f"{' and '.join(map(str, chosen))} would hold the controller itself, "
            f"which has {', '.join(hosts)}",
            "use a range of its own, such as 10.20.0.0/16",
        )
    cidr4, cidr6 = by_family.get(4), by_family.get(6)
    return Network(
        name=name,
        cidr4=str(cidr4) if cidr4 else None,
        cidr6=str(cidr6) if cidr6 else None,
        settings=parse_settings(settings),
        created_at=now,
    )


def _addresses_of(hosts: Sequence[str]) -> list[Range]:
    """Those of the hosts that are no names, which may lead anywhere."""
    found: list[Range] = []
    for host in hosts:
        with suppress(ValueError):
            found.append(ip_network(host))
    return found


def pick_ranges(taken: list[Range], random: bytes) -> list[Range]:
    """An unused 10.x.0.0/16 and a random ULA /64; the choice starts at a random x."""
    for step in range(256):
        cidr = ip_network(f"10.{(random[0] + step) % 256}.0.0/16")
        if not any(overlap(cidr, t) for t in taken):
            break
    else:
        raise RangeOverlaps(f"no /16 of {_TEN} is free", "give a range of your own")
    groups = (b"\xfd" + random[1:6] + b"\0" + random[6:7]).hex(":", 2)
    return [cidr, ip_network(f"{groups}::/64")]


def set_network(mesh: Mesh, settings: Mapping[str, str | int], revision: int | None) -> Network:
    """The network with settings changed; `revision`: what the editor saw, None for whatever is."""
    network = live_network(mesh)
    check_fresh(network.revision, revision, f"network {quote(network.name)}")
    wanted = {**network.settings, **parse_settings(settings)}
    if effective(wanted) == effective(network.settings):
        return network
    return replace(network, settings=wanted)


def delete_network(mesh: Mesh, revision: int | None, now: int) -> list[Record]:
    """Tombstones of the network, its nodes, its ext clients and its keys."""
    network = live_network(mesh)
    check_fresh(network.revision, revision, f"network {quote(network.name)}")
    return [
        replace(network, deleted_at=now),
        *(replace(n, deleted_at=now) for n in mesh.nodes.values()),
        *(replace(c, deleted_at=now) for c in mesh.clients.values()),
        *(replace(k, deleted_at=now) for k in mesh.keys.values() if k.deleted_at is None),
    ]


def live_network(mesh: Mesh, all_: Iterable[Mesh] = ()) -> Network:
    """The mesh's network; NotFound when it was deleted. `all_`: of these another may be meant."""
    if mesh.network is None or mesh.network.deleted_at is not None:
        live = [m.name for m in all_ if m.network and m.network.deleted_at is None]
        hint = look_in("nmk network list", mesh.name, live)
        raise NotFound(f"there is no network {quote(mesh.name)}", hint)
    return mesh.network
