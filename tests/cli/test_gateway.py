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


def test_no_route_is_printed_that_would_take_a_lan_from_its_hosts(
    controller: Controller, net: Net
) -> None:
    net.join("north", lan=("192.168.70.1/24",))
    net.join("south", lan=("192.168.71.1/24",))
    net.add_gateway("north", "egress", ranges=["192.168.70.0/24"], nat="off")
    done = controller.nmk(
        *("gateway", "add", "south", "egress", "192.168.70.128/25", "192.168.71.0/24"),
        *("--same-lan", "-o", "name"),
    )
    assert done.returncode == 0
    routes = [line for line in done.stderr.splitlines() if "via 192.168.70.1" in line]
    assert routes == ["  ip route add 192.168.71.0/24 via 192.168.70.1"]
    for name in ("north", "south"):
        net.call("DELETE", f"/gateways/{name}/egress")


def test_who_loses_his_way_in_is_counted_first(controller: Controller, net: Net) -> None:
    net.add_gateway("office", "ingress")
    with net.unchanged():
        done = controller.nmk("gateway", "remove", "office", "ingress", "--dry-run")
    assert done.stderr == "would take the role ingress from office\n"
    for name in ("phone", "tablet"):
        net.add_client(name)
    with net.unchanged():
        done = controller.nmk("gateway", "remove", "office", "ingress", "--dry-run")
    assert "by which 2 ext clients come" in done.stderr


def test_that_nobody_knows_where_a_gateway_is_called_is_said(
    controller: Controller, net: Net
) -> None:
    told = controller.nmk("gateway", "add", "office", "ingress").stderr
    assert "note" not in told  # 192.168.50.1 is its own
    net.join("lost", lan=())
    told = controller.nmk("gateway", "add", "lost", "ingress").stderr
    assert "note: nobody knows yet where lost is called" in told
    [command] = [line for line in told.splitlines() if "HOST:PORT" in line]
    endpoint = command.partition("nmk ")[2].replace("HOST:PORT", "vpn.example.org:51821")
    told = controller.nmk(*endpoint.split()).stderr
    assert "note" not in told
