"""The story that `scripts/demo` tells. It fails at the first line that is not true."""

from __future__ import annotations

from itertools import permutations

from tests.lab import Host, Lab
from tests.mesh import Mesh, live_addresses, reaches


def tell(line: str) -> None:
    """One line of the story."""
    print(line, flush=True)


def all_reach_all(hosts: list[Host], addresses: dict[str, list[str]]) -> None:
    """Every host pings every other one through the mesh, at all of its addresses."""
    for source, target in permutations(hosts, 2):
        for address in addresses[target.name]:
            reaches(source, address)
        tell(f"  {source.name} reaches {target.name} at {' and '.join(addresses[target.name])}")


def known_addresses(mesh: Mesh) -> dict[str, list[str]]:
    """Every node's addresses, the same on the controller's list and on the machine."""
    listed = {name: node["addresses"] for name, node in mesh.nodes().items()}
    for name, addresses in listed.items():
        assert addresses == live_addresses(mesh.lab.hosts[name]), name
    return listed


def main() -> None:
    """Tell it."""
    with Lab() as lab:
        tell("A controller on a host of its own: nmk server")
        mesh = Mesh(lab)
        token = mesh.token("--uses", "4")
        tell("A network and a key: nmk network create home; nmk key create --uses 4")
        hosts = [mesh.join(mesh.machine(name), token=token) for name in ("anna", "bert", "cleo")]
        tell("Three machines join: nmk join -")
        for host in hosts:
            host.run("nmk", "checkin")
        addresses = known_addresses(mesh)
        tell(mesh.admin("node", "list"))
        tell("They talk to each other directly, through WireGuard:")
        all_reach_all(hosts, addresses)

        mesh.stop()
        tell("The controller is stopped. The mesh does not need it:")
        all_reach_all(hosts, addresses)

        mesh.start()
        tell("The controller is back. A fourth machine joins:")
        dora = mesh.join(mesh.machine("dora"), token=token)
        for host in hosts:
            host.run("nmk", "checkin")
        addresses = known_addresses(mesh)
        tell("The first three have checked in once and reach it:")
        all_reach_all([*hosts, dora], addresses)
        tell(dora.run("nmk", "status").stdout)
        mesh.stop()
    tell("Done. Every namespace, tunnel and file of this demo is gone.")


if __name__ == "__main__":
    main()
