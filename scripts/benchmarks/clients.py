"""One more ext client: at a gateway that has many, and at one that has none."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from functools import partial
from hashlib import blake2b

from scripts.benchmarks.figures import Figure, Group, Values
from scripts.benchmarks.measure import Series, spend
from scripts.benchmarks.server import find_process
from scripts.benchmarks.stage import Stage, run_inside
from tests.lab import Host
from tests.mesh import Mesh

MANY = 1_000
ADMIN_API = "/var/lib/nmk/server/admin.sock"
SIDES = {"none": 0, "many": MANY}


def measure_clients(stage: Stage, rounds: Iterable[int]) -> Values:
    """Created by the admin, taken in by the gateway's check-in, on both sides in turns."""
    mesh = stage.mesh
    assert mesh.server
    server = find_process(mesh.controller, mesh.server.command)
    gateways = {side: _make_gateway(mesh, side, count) for side, count in SIDES.items()}
    controller, gateway = Series(), Series()
    for number in rounds:
        for side, host in gateways.items():
            name = f"{side}-{number}"
            create = ("extclient", "create", "-n", side, name, "--public-key", _key(name))
            _, asked = spend(server, partial(mesh.admin, *create))
            took, told = spend(server, partial(_check_in, host))
            peers = host.run("wg", "show", f"nmk-{side}", "peers").stdout.split()
            assert len(peers) == SIDES[side] + 1
            assert _key(name) in peers
            controller.add(side, asked.cpu + told.cpu)
            gateway.add(side, took)
            mesh.admin("extclient", "delete", "-n", side, name, "--yes")
            _check_in(host)
    return {
        "client-controller": controller.ratio("many", "none"),
        "client-gateway": gateway.ratio("many", "none"),
    }


def _make_gateway(mesh: Mesh, side: str, clients: int) -> Host:
    """A network with one node, which has so many ext clients: taken over as a hub's, at once."""
    mesh.admin("network", "create", side)
    host = mesh.machine(side)
    host.run("nmk", "join", "-", input=mesh.admin("key", "create", "-n", side))
    mesh.admin("gateway", "add", "-n", side, side, "ingress")
    made = json.loads(mesh.admin("network", "show", side, "-o", "json"))
    base = made["cidr4"].split(".")[:2]
    peers = [
        {
            "name": f"client-{number}",
            "public_key": _key(f"{number}"),
            "addresses": [".".join([*base, str(1 + number // 256), str(number % 256)])],
        }
        for number in range(clients)
    ]
    body = {"node": side, "public_key": _key(side), "addresses": [], "clients": peers}
    command = ("curl", "-sf", "--unix-socket", ADMIN_API, "-d", "@-")
    mesh.controller.run(*command, f"http://nmk/v1/networks/{side}/hubs", input=json.dumps(body))
    _check_in(host)
    return host


def _check_in(host: Host) -> float:
    """CPU seconds of a check-in, with all programs that it runs."""
    entry = {"command": ["nmk", "checkin", "--quiet"], "env": {}}
    [used] = json.loads(run_inside(host, "stopwatch", stdin=json.dumps([entry])))
    return float(used["cpu"])


def _key(text: str) -> str:
    return base64.b64encode(blake2b(text.encode(), digest_size=32).digest()).decode()


CLIENTS = Group(
    (
        Figure(
            "client-controller",
            "x",
            1.5,
            "controller's CPU of one more ext client at a gateway of 1,000 / at one of none",
        ),
        Figure("client-gateway", "x", 1.5, "the same, CPU of the gateway's check-in"),
    ),
    rounds=15,
    measure=measure_clients,
)
