"""Docker's rules, as `iptables -S` shows them, let the mesh's packets pass, and lose no trace."""

from __future__ import annotations

import pytest

from nmk.core.docker import plan_docker
from nmk.core.firewall import OUTSIDE, Packet, Table, find_stops
from nmk.core.tunnel import Command
from nmk.system.iptables_rules import parse_rules

# Docker 27 on Debian 12, with a container that publishes a port.
DOCKER = """\
-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
"""
# Docker 28 has chains of its own for each bridge, and nothing in DOCKER-USER.
DOCKER_28 = """\
-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-BRIDGE
-N DOCKER-CT
-N DOCKER-FORWARD
-N DOCKER-ISOLATION-STAGE-1
-N DOCKER-ISOLATION-STAGE-2
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
"""
PLAIN = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n"
OPEN = DOCKER.replace("-P FORWARD DROP", "-P FORWARD ACCEPT")
LEAVES = Packet("tcp", 443, "nmk-home", OUTSIDE)
COMES = Packet("tcp", 443, "eth0", "nmk-home")


def applied(text: str, commands: list[Command], tool: str = "iptables") -> str:
    """The rules after the commands, as iptables(8) carries them out on one table."""
    for command in commands:
        name, wait, verb, chain, *rule = command.argv
        assert (name, wait, command.stdin) == (tool, "-w", None)
        line = f"-A {chain} {' '.join(rule)}\n"
        assert f"-N {chain}\n" in text
        if verb == "-I":
            place = text.find(f"-A {chain} ")
            place = len(text) if place < 0 else place
            text = text[:place] + line + text[place:]
        else:
            assert verb == "-D"
            assert line in text, "iptables: Bad rule (does a matching rule exist in that chain?)"
            text = text.replace(line, "", 1)
    return text


def plan(text: str, *, wanted: bool, interface: str = "nmk-home") -> list[Command]:
    return plan_docker([parse_rules(text, "ip filter")], interface, wanted=wanted)


def stops(text: str, packet: Packet) -> list[str]:
    return [s.outcome for s in find_stops([parse_rules(text, "ip filter")], "forward", packet)]


@pytest.mark.parametrize("text", [DOCKER, DOCKER_28])
def test_what_docker_drops_passes_then_and_no_longer_when_that_is_over(text: str) -> None:
    assert stops(text, LEAVES) == ["drop"]
    assert stops(text, COMES) == ["drop"]
    there = applied(text, plan(text, wanted=True))
    assert stops(there, LEAVES) == stops(there, COMES) == []
    assert plan(there, wanted=True) == []
    assert applied(there, plan(there, wanted=False)) == text


def test_the_commands_are_docker_s_own_advice() -> None:
    assert [str(c) for c in plan(DOCKER, wanted=True)] == [
        "iptables -w -I DOCKER-USER -i nmk-home -j ACCEPT",
        "iptables -w -I DOCKER-USER -o nmk-home -j ACCEPT",
    ]


@pytest.mark.parametrize("text", ["", PLAIN, OPEN])
@pytest.mark.parametrize("wanted", [True, False])
def test_where_docker_drops_nothing_nothing_is_done(text: str, wanted: bool) -> None:
    assert plan(text, wanted=wanted) == []


def test_what_is_there_in_part_is_completed_and_taken_away_in_part() -> None:
    half = DOCKER.replace("-A DOCKER-USER", "-A DOCKER-USER -o nmk-home -j ACCEPT\n-A DOCKER-USER")
    assert [c.argv[4:6] for c in plan(half, wanted=True)] == [("-i", "nmk-home")]
    assert applied(half, plan(half, wanted=False)) == DOCKER


def test_a_docker_that_drops_no_longer_needs_no_rules_any_more() -> None:
    there = applied(DOCKER, plan(DOCKER, wanted=True))
    there = there.replace("-P FORWARD DROP", "-P FORWARD ACCEPT")
    assert applied(there, plan(there, wanted=True)) == OPEN


@pytest.mark.parametrize(
    "rule",
    [
        "-i nmk-office -j ACCEPT",
        "-i nmk-home -j DROP",
        "-i nmk-home -j RETURN",
        "-i nmk-home -p tcp -j ACCEPT",
        "! -i nmk-home -j ACCEPT",
        "-s 10.20.0.0/24 -i nmk-home -j ACCEPT",
        "-i nmk-hom+ -j ACCEPT",
    ],
)
def test_rules_of_others_are_not_taken_for_ours(rule: str) -> None:
    theirs = DOCKER.replace("-A DOCKER-USER", f"-A DOCKER-USER {rule}\n-A DOCKER-USER")
    assert plan(theirs, wanted=False) == []
    there = applied(theirs, plan(theirs, wanted=True))
    assert stops(there, LEAVES) == []
    assert applied(there, plan(there, wanted=False)) == theirs


def test_two_networks_have_rules_of_their_own() -> None:
    there = applied(DOCKER, plan(DOCKER, wanted=True))
    both = applied(there, plan(there, wanted=True, interface="nmk-office"))
    assert plan(both, wanted=True) == []
    assert applied(both, plan(both, wanted=False, interface="nmk-office")) == there


def test_each_family_is_spoken_to_with_its_own_tool() -> None:
    tables = [
        parse_rules(DOCKER, "ip filter"),
        parse_rules(DOCKER_28, "ip6 filter"),
        parse_rules(DOCKER, "inet filter"),
        Table("ip nat", parse_rules(DOCKER, "ip nat").chains),
    ]
    commands = plan_docker(tables, "nmk-home", wanted=True)
    assert [c.argv[0] for c in commands] == ["iptables"] * 2 + ["ip6tables"] * 2
    assert plan_docker([], "nmk-home", wanted=True) == []
