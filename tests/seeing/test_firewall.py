"""What a packet filter does with WireGuard's packets, by real rules of nft and of iptables."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from nmk.agent.checks.firewall import check_firewall
from nmk.core.firewall import OUTSIDE, Packet, Stopped, Table, find_stops
from nmk.core.hub_ways import Machine, Way, forward_stops, input_stops, led_ways
from nmk.errors import CommandFailed
from nmk.system.iptables_rules import parse_rules
from nmk.system.nft_rules import parse_ruleset
from tests.agent.memberships import joined
from tests.lab import Host, Lab

CALL = Packet("udp", 51821, inside=frozenset({"lo", "nmk-home"}))
FORWARDED = Packet("tcp", 443, "nmk-home", OUTSIDE)
BASE = "type filter hook input priority 0; policy {policy};"


@pytest.fixture(scope="module")
def host(lab: Lab) -> Host:
    return lab.host("filter")


def nft(host: Host, rules: str) -> str:
    """The rules as nft shows them in JSON."""
    lines = [part.strip() for part in rules.replace("{ ", "{\n").split("\n")]
    host.run("nft", "-f", "-", input="\n".join(["flush ruleset", *lines, ""]))
    return host.run("nft", "--json", "list", "ruleset").stdout


def input_chain(policy: str, *rules: str, before: str = "") -> str:
    body = "\n".join([BASE.format(policy=policy), *rules])
    return f"table inet t {{\n{before}\nchain in {{\n{body}\n}}\n}}\n"


PASSES = {
    "no rules": "",
    "an open policy": input_chain("accept"),
    "a port": input_chain("drop", "udp dport 51821 accept"),
    "a range": input_chain("drop", "udp dport 51820-51830 accept"),
    "a list": input_chain("drop", "udp dport { 53, 51821 } accept"),
    "ranges in a list": input_chain("drop", "udp dport { 53, 51000-52000 } accept"),
    "any transport": input_chain("drop", "meta l4proto { tcp, udp } th dport 51821 accept"),
    "all of udp": input_chain("drop", "meta l4proto udp accept"),
    "a protocol's number of IPv4": input_chain("drop", "ip protocol udp accept"),
    "not another port": input_chain("drop", "udp dport != 53 accept"),
    "a named set": input_chain(
        "drop",
        "udp dport @open accept",
        before="set open {\ntype inet_service\nelements = { 51821 }\n}",
    ),
    "a chain of its own": input_chain(
        "drop", "jump more", before="chain more {\nudp dport 51821 accept\n}"
    ),
    "a verdict map": input_chain("drop", "udp dport vmap { 53 : drop, 51821 : accept }"),
    "a map of states": input_chain(
        "drop", "ct state vmap { established : accept, new : jump more }",
        before="chain more {\nudp dport 51821 accept\n}",
    ),
    "a drop of others": input_chain("accept", "tcp dport 51821 drop", "udp dport 53 drop"),
    "a drop of what is broken": input_chain("accept", "ct state invalid drop"),
    "a drop at home": input_chain("accept", "iifname nmk-home drop", "iifname lo drop"),
    "a limit": input_chain("accept", "limit rate over 10/second drop"),
    "a maybe": input_chain("drop", "ip saddr 192.0.2.0/24 udp dport 51821 accept"),
    "some interface": input_chain("drop", "iifname eth0 accept"),
    "another hook": input_chain("drop").replace("hook input", "hook forward"),
    "address translation": (
        "table ip t {\nchain n {\ntype nat hook prerouting priority 0; policy accept;\n}\n}\n"
    ),
}  # fmt: skip
STOPS = {
    "a closed policy": input_chain("drop"),
    "a last rule": input_chain("accept", "tcp dport 22 accept", "drop"),
    "a rejection": input_chain("accept", "reject"),
    "answers only": input_chain("drop", "ct state established,related accept"),
    "other ports": input_chain("drop", "udp dport { 53, 51820 } accept", "tcp dport 51821 accept"),
    "the machine itself": input_chain("drop", "iifname lo accept", "iifname nmk-home accept"),
    "a drop before it": input_chain("accept", "meta l4proto udp drop", "udp dport 51821 accept"),
    "a return": input_chain(
        "drop", "jump more", before="chain more {\nudp dport 51821 return\naccept\n}"
    ),
    "a goto": input_chain(
        "drop", "goto more", "udp dport 51821 accept", before="chain more {\ntcp dport 22 accept\n}"
    ),
    "everything but": input_chain("drop", "udp dport != 51821 accept"),
    "what is translated, as of firewalld": input_chain(
        "accept",
        "ct state { established, related } accept",
        "ct status dnat accept",
        'iifname "lo" accept',
        "ct state invalid drop",
        "reject with icmpx admin-prohibited",
    ),
}


@pytest.mark.parametrize("name", PASSES)
def test_what_nft_lets_in(host: Host, name: str) -> None:
    tables = parse_ruleset(nft(host, PASSES[name]))
    assert [s for s in find_stops(tables, "input", CALL) if s.outcome == "drop"] == []


@pytest.mark.parametrize("name", STOPS)
def test_what_nft_keeps_out(host: Host, name: str) -> None:
    tables = parse_ruleset(nft(host, STOPS[name]))
    assert find_stops(tables, "input", CALL) == [Stopped("inet t", "in", "drop")]


def test_what_cannot_be_judged_is_a_maybe(host: Host) -> None:
    tables = parse_ruleset(nft(host, PASSES["a maybe"]))
    assert find_stops(tables, "input", CALL) == [Stopped("inet t", "in", "maybe")]


def hooked(hook: str, policy: str, *rules: str) -> str:
    return input_chain(policy, *rules).replace("hook input", f"hook {hook}")


FINDINGS = {
    "nothing drops UDP port 51821": input_chain("accept"),
    "inet t in drops UDP port 51821": hooked("prerouting", "accept", "udp dport 51821 drop"),
    "could not tell whether inet t in lets UDP port 51821 in": PASSES["a maybe"],
    "could not tell whether inet t in lets out what WireGuard sends": hooked("output", "drop"),
    "nothing drops UDP port 51821: a kill switch": hooked(
        "output", "drop", "meta mark 0x6e6d6b accept"
    ).replace("inet t", "inet nmk-home").replace("table t", "table inet nmk-home"),
}  # fmt: skip


@pytest.mark.parametrize("said", FINDINGS)
def test_what_the_doctor_says_of_the_packet_filter(host: Host, said: str) -> None:
    found = check_firewall(joined(), 51821, parse_ruleset(nft(host, FINDINGS[said])))
    reason = said.removesuffix(": a kill switch")
    assert [one.reason.startswith(reason) for one in found] == [True]


TAKES = "translates what WireGuard sends, for a bit of its mark 0x6e6d6b: peers see other ports"
KUBE = """
iptables -t nat -N KUBE-POSTROUTING
iptables -t nat -A KUBE-POSTROUTING -m mark ! --mark {0}/{0} -j RETURN
iptables -t nat -A KUBE-POSTROUTING -j MARK --xor-mark {0}
iptables -t nat -A KUBE-POSTROUTING -j MASQUERADE --random-fully
iptables -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables -t nat -A POSTROUTING -j KUBE-POSTROUTING
"""
KUBE_NFT = """table ip kube-proxy {{
chain masquerading {{
meta mark & {0} == 0 return
meta mark set meta mark ^ {0}
masquerade fully-random
}}
chain nat-postrouting {{
type nat hook postrouting priority 100; policy accept;
jump masquerading
}}
}}
"""


@pytest.mark.parametrize(("bit", "takes"), [("0x4000", True), ("0x100000", False)])
def test_who_takes_wireguards_mark_for_his_own_is_named(host: Host, bit: str, takes: bool) -> None:
    """As kube-proxy does; what the doctor says to do about it is carried out."""

    def seen() -> list[Table]:
        ruleset = host.run("nft", "--json", "list", "ruleset").stdout
        found = [t for t in parse_ruleset(ruleset, "nat") if t.name != "ip nat"]
        theirs = host.run("iptables", "-t", "nat", "-S").stdout
        return [*found, parse_rules(theirs, "ip nat", "iptables")]

    nft(host, KUBE_NFT.format(bit))
    host.run("sh", "-ec", KUBE.format(bit))
    found = check_firewall(joined(), 51821, [], seen())
    names = ("ip kube-proxy nat-postrouting", "ip nat POSTROUTING")
    assert [one.reason for one in found if one.mend] == [f"{by} {TAKES}" for by in names if takes]
    for one in found:
        host.run("sh", "-ec", (one.mend or "true").partition(";")[0])
    [after] = check_firewall(joined(), 51821, [], seen())
    assert after.level == "ok"
    host.run("nft", "flush", "ruleset")


def test_what_is_forwarded_may_have_been_translated(host: Host) -> None:
    rules = hooked("forward", "drop", "ct status dnat accept")
    assert find_stops(parse_ruleset(nft(host, rules)), "forward", FORWARDED) == [
        Stopped("inet t", "in", "maybe")
    ]


def test_every_chain_has_a_say(host: Host) -> None:
    two = input_chain("accept") + input_chain("drop").replace("inet t", "inet u")
    tables = parse_ruleset(nft(host, two))
    assert find_stops(tables, "input", CALL) == [Stopped("inet u", "in", "drop")]


@pytest.mark.parametrize("text", ["", "{}", '{"nftables": 7}', '{"nftables": [{"rule": {}}]}'])
def test_what_nft_never_prints_is_refused(text: str) -> None:
    with pytest.raises(CommandFailed, match="cannot be read"):
        parse_ruleset(text)


DOCKER = """\
-P INPUT ACCEPT
-P FORWARD DROP
-P OUTPUT ACCEPT
-N DOCKER
-N DOCKER-USER
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
"""
UFW = """\
-P INPUT DROP
-N ufw-before-input
-N ufw-user-input
-A INPUT -j ufw-before-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -m conntrack --ctstate INVALID -m limit --limit 3/min -j LOG --log-prefix "[ "
-A ufw-before-input -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-input -j ufw-user-input
-A ufw-user-input -p tcp -m tcp --dport 22 -j ACCEPT
"""


def outcome(text: str, hook: str, packet: Packet) -> list[str]:
    return [s.outcome for s in find_stops([parse_rules(text, "ip filter")], hook, packet)]


def test_docker_drops_what_is_forwarded() -> None:
    assert outcome(DOCKER, "forward", FORWARDED) == ["drop"]
    assert outcome(DOCKER, "input", CALL) == []
    mended = DOCKER.replace(
        "-A DOCKER-USER", "-A DOCKER-USER -i nmk-home -j ACCEPT\n-A DOCKER-USER"
    )
    assert outcome(mended, "forward", FORWARDED) == []
    back = Packet("tcp", 443, OUTSIDE, "nmk-home")
    assert outcome(mended, "forward", back) == ["maybe"]  # it may come from docker0


@pytest.mark.parametrize(
    "rule",
    [
        "-p udp -m udp --dport 51821 -j ACCEPT",
        "-p udp -m udp --dport 51800:51900 -j ACCEPT",
        "-p udp -m multiport --dports 53,51000:52000 -j ACCEPT",
        "-p udp -m udp ! --dport 53 -j ACCEPT",
        "! -p tcp -j ACCEPT",
        '-p udp -m udp --dport 51821 -m comment --comment "for - nmk" -j ACCEPT',
    ],
)
def test_what_iptables_lets_in(rule: str) -> None:
    assert outcome(UFW, "input", CALL) == ["drop"]
    assert outcome(f"{UFW}-A ufw-user-input {rule}\n", "input", CALL) == []


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("-p udp -m udp ! --dport 51821 -j ACCEPT", "drop"),
        ("-p udp -m udp --dport 51821 -j LOG", "drop"),
        ("-i nmk+ -j ACCEPT", "maybe"),
        ("-s 192.0.2.0/24 -p udp -m udp --dport 51821 -j ACCEPT", "maybe"),
    ],
)
def test_what_iptables_keeps_out(rule: str, expected: str) -> None:
    assert outcome(f"{UFW}-A ufw-user-input {rule}\n", "input", CALL) == [expected]


FIREWALLD = """
table inet firewalld {
chain filter_INPUT {
type filter hook input priority 10; policy accept;
ct state established,related accept
jump filter_INPUT_ZONES
reject with icmpx admin-prohibited
}
chain filter_INPUT_ZONES {
iifname "wg0" goto filter_IN_trusted
goto filter_IN_public
}
chain filter_IN_trusted {
accept
}
chain filter_IN_public {
tcp dport 22 accept
}
chain filter_FORWARD {
type filter hook forward priority 10; policy accept;
ct state established,related accept
iifname "wg0" accept
reject with icmpx admin-prohibited
}
chain nat_POSTROUTING {
type nat hook postrouting priority 110; policy accept;
jump nat_POSTROUTING_ZONES
}
chain nat_POSTROUTING_ZONES {
oifname "eth0" goto nat_POST_public
}
chain nat_POST_public {
meta nfproto ipv4 oifname != "lo" masquerade
}
}
"""


def test_firewalld_that_translates_for_the_clients_of_a_hub(host: Host) -> None:
    text = nft(host, FIREWALLD)
    ranges = (ip_network("10.8.0.0/24"), ip_network("fd00:8::/64"))
    tables = (parse_ruleset(text), parse_ruleset(text, "nat"))
    machine = Machine(*tables, frozenset({4, 6}), "wg0", "nmk-home", ranges)
    ways = [Way(ip_network(a), "eth0", internet=True) for a in ("1.1.1.1", "2001:db8::1")]
    led = led_ways(machine, ways)
    assert [one.by for one in led] == ["inet firewalld nat_POSTROUTING", None]
    assert [stop.chain for stop in forward_stops(machine, led)] == ["filter_FORWARD"]
    [(stop, ports)] = input_stops(machine).items()
    assert (stop.chain, ports) == ("filter_INPUT", [("udp", 53)])
