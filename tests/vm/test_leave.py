"""What a machine with the kernel's own WireGuard has left of nmk when it has left."""

from __future__ import annotations

from tests.e2e.traces import traces
from tests.lab import Lab
from tests.mesh import Mesh, has_interface


def test_leaving_leaves_no_trace(lab: Lab) -> None:
    mesh = Mesh(lab, "10.77.0.0/16", "fd77::/64")
    guest = mesh.machine("guest")
    before = traces(guest, program=True)
    mesh.join(guest, "--daemon", "off")
    mesh.admin("gateway", "add", "guest", "ingress")
    mesh.admin("gateway", "add", "guest", "exit")
    guest.run("nmk", "checkin")
    assert has_interface(guest)
    guest.run("nmk", "leave")
    assert traces(guest, program=True) == before
