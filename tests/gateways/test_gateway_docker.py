"""A gateway beside Docker, whose rules drop what it does not know."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import pytest

from tests.gateways.sites import (
    FAMILIES,
    LEFT,
    Site,
    check_in,
    commands,
    give,
    is_deaf,
    make_site,
    mesh_ranges,
    snapshot,
    take,
)
from tests.lab import Host
from tests.mesh import Mesh, failure, reaches

TOOLS = ("iptables", "ip6tables")
OURS = ["-A DOCKER-USER -o nmk-home -j ACCEPT", "-A DOCKER-USER -i nmk-home -j ACCEPT"]
# As Docker leaves it, with what its owner may have added.
COMES = (
    "-P FORWARD DROP",
    "-N DOCKER-USER",
    "-A FORWARD -j DOCKER-USER",
    "-A DOCKER-USER -i eth9 -j DROP",
    "-A DOCKER-USER -j RETURN",
)
GOES = ("-P FORWARD ACCEPT", "-D FORWARD -j DOCKER-USER", "-F DOCKER-USER", "-X DOCKER-USER")


class Beside(NamedTuple):
    """A gateway whose iptables is of one kind, its LAN, and a node elsewhere."""

    mesh: Mesh
    site: Site
    viewer: Host
    kind: str

    @property
    def gateway(self) -> Host:
        return self.site.gateway

    @contextmanager
    def docker(self, *tools: str) -> Iterator[None]:
        """A while with Docker; it may care for IPv4 alone."""
        self.rules(COMES, *tools)
        try:
            yield
        finally:
            self.rules(GOES, *tools)

    def rules(self, lines: tuple[str, ...], *tools: str) -> None:
        for tool in tools or TOOLS:
            for line in lines:
                self.gateway.run(tool, "-w", *line.split())

    def give_role(self) -> None:
        give(self.mesh, self.gateway.name, *self.site.ranges)
        check_in(self.gateway, self.viewer)

    def take_role(self) -> None:
        take(self.mesh, self.gateway.name)
        check_in(self.gateway, self.viewer)

    def passes(self) -> None:
        for family in FAMILIES:
            reaches(self.viewer, self.site.address(family))
            reaches(self.site.host, self.mesh.address("viewer", family))

    def is_stopped(self) -> bool:
        return all(is_deaf(self.viewer, self.site.address(family)) for family in FAMILIES)

    def ours(self) -> list[str]:
        """nmk's rules in Docker's chain."""
        shown = "".join(self.gateway.run(t, "-S", "DOCKER-USER").stdout for t in TOOLS)
        return [line for line in shown.splitlines() if "nmk" in line]


@pytest.fixture(scope="module")
def viewer(mesh: Mesh) -> Host:
    return mesh.join(mesh.machine("viewer"))


KINDS = ["nft", "legacy"]


@pytest.fixture(scope="module", params=["nft", pytest.param("legacy", marks=pytest.mark.full)])
def beside(request: pytest.FixtureRequest, mesh: Mesh, viewer: Host) -> Beside:
    """A gateway without a role, and without Docker, whose iptables is of that kind."""
    kind = request.param
    site = make_site(mesh, kind, {"nft": 50, "legacy": 60}[kind])
    use_iptables(site.gateway, kind)
    site.lead_to(*mesh_ranges(mesh))
    check_in(site.gateway)
    return Beside(mesh, site, viewer, kind)


def use_iptables(host: Host, kind: str) -> None:
    """Have one kind of iptables, and its tables, which stay once there was something in them."""
    for tool in TOOLS:
        host.run("update-alternatives", "--set", tool, f"/usr/sbin/{tool}-{kind}")
        host.run(tool, "-P", "FORWARD", "ACCEPT")


@pytest.mark.parametrize("beside", KINDS, indirect=True, scope="module")
def test_packets_pass_docker_whose_rules_are_as_before_without_the_role(beside: Beside) -> None:
    with beside.docker():
        before = snapshot(beside.gateway)
        beside.give_role()
        assert beside.ours() == 2 * OURS
        beside.passes()
        assert commands(beside.gateway) == []
        assert beside.ours() == 2 * OURS
        beside.rules(("-F DOCKER-USER",))
        assert beside.is_stopped()
        beside.rules(COMES[-2:])
        check_in(beside.gateway)
        assert beside.ours() == 2 * OURS
        beside.passes()
        beside.take_role()
        assert snapshot(beside.gateway) == before


def test_docker_that_comes_later_is_served_by_the_next_check_in(beside: Beside) -> None:
    before = snapshot(beside.gateway)
    beside.give_role()
    beside.passes()
    with beside.docker():
        assert beside.is_stopped()
        assert len(commands(beside.gateway)) == 4
        beside.passes()
        assert commands(beside.gateway) == []
    assert commands(beside.gateway) == []
    beside.passes()
    beside.take_role()
    assert snapshot(beside.gateway) == before


def test_a_docker_that_drops_nothing_is_left_alone(beside: Beside) -> None:
    with beside.docker():
        beside.rules(GOES[:1])
        beside.give_role()
        beside.passes()
        assert beside.ours() == []
        beside.rules(COMES[:1])
        check_in(beside.gateway)
        assert beside.ours() == 2 * OURS
        beside.rules(GOES[:1])
        check_in(beside.gateway)
        assert beside.ours() == []
        beside.passes()
        beside.take_role()


def test_docker_for_ipv4_alone(beside: Beside) -> None:
    with beside.docker("iptables"):
        beside.give_role()
        shown = beside.gateway.run("iptables", "-S", "DOCKER-USER").stdout
        assert [line for line in shown.splitlines() if "nmk" in line] == OURS
        beside.passes()
        beside.take_role()


@pytest.mark.parametrize("ending", ["left", "down", "deleted"])
def test_docker_is_as_before_when_the_gateway_goes(beside: Beside, ending: str) -> None:
    mesh, gateway = beside.mesh, beside.mesh.machine(f"{ending}-{beside.kind}")
    use_iptables(gateway, beside.kind)
    leaver = beside._replace(site=replace(beside.site, gateway=gateway))
    leaver.rules(COMES)
    before = snapshot(gateway)
    mesh.join(gateway)
    give(mesh, gateway.name, "192.168.90.0/24")
    check_in(gateway)
    assert leaver.ours() == 2 * OURS
    match ending:
        case "down":
            gateway.run("nmk", "down")
            assert leaver.ours() == []
        case "deleted":
            mesh.admin("node", "delete", gateway.name, "--yes")
            assert "was deleted" in failure(gateway, "checkin").message
            assert leaver.ours() == []
    gateway.run("nmk", "leave")
    assert snapshot(gateway) - LEFT == before
