"""`nmk gateway`: what its golden file does not show."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

import pytest

from tests.server.net import Net
from tests.server.process import Controller


@pytest.fixture(scope="module")
def net(controller: Controller) -> Iterator[Net]:
    """The only network there is."""
    made = Net.made(controller, "home", "10.20.0.0/16")
    made.join("office", lan=("192.168.50.1/24",))
    made.join("inside", lan=("192.168.50.9/24",))
    yield made
    assert controller.nmk("network", "delete", "home", "--yes").returncode == 0


def test_a_table_is_for_people(controller: Controller, net: Net) -> None:
    """Of who is in a range himself it tells as the list does."""
    done = controller.nmk("gateway", "add", "office", "egress", "192.168.50.0/24")
    assert done.returncode == 0
    assert net.get("/gateways")[0]["left_out"]
    assert not set("{}[]'") & set(done.stdout)
    assert "inside" in done.stdout + done.stderr


def test_a_dry_run_takes_no_range(controller: Controller, net: Net) -> None:
    net.add_gateway("office", "egress", ranges=["192.168.50.0/24", "192.168.51.0/24"])
    with net.unchanged():
        for ranges in (["192.168.50.0/24"], ["192.168.50.0/24", "192.168.51.0/24"]):
            done = controller.nmk("gateway", "remove", "office", "egress", *ranges, "--dry-run")
            assert done.returncode == 0, done.stderr
            assert done.stderr == f"would take {', '.join(ranges)} from office\n"


def test_a_dry_run_promises_nothing_that_cannot_be(controller: Controller, net: Net) -> None:
    with net.unchanged():
        for args in (("office", "ingress"), ("nobody", "exit")):
            done = controller.nmk("gateway", "remove", *args, "--dry-run")
            assert done.returncode == 1
            assert "would" not in done.stderr


def test_the_routes_back_are_commands_that_ip_takes(controller: Controller, net: Net) -> None:
    net.call("DELETE", "/gateways/office/egress")
    net.join("other", lan=("10.99.0.1/24", "fd99::1/64"))
    net.add_gateway("other", "egress", ranges=["10.99.0.0/24"])
    done = controller.nmk(
        "gateway", "add", "office", "egress", "192.168.50.0/24", "--nat", "off", "-o", "name"
    )
    routes = [shlex.split(line) for line in done.stderr.splitlines() if "ip route" in line]
    assert routes == [
        ["ip", "route", "add", cidr, "via", "192.168.50.1"]
        for cidr in ("10.20.0.0/16", "10.99.0.0/24")
    ]
