"""A hub whose address translation and filter are another service's, as PiVPN lays them."""

from __future__ import annotations

import pytest

from tests.gateways.phone import FILE, Phone, check_in, is_deaf, source_seen
from tests.gateways.test_hub import (
    CLIENT_FILE,
    DATA,
    HUB,
    HUB_PEER,
    PORT,
    Client,
    bare,
    key_pair,
    make_client,
    take_over,
)
from tests.lab import Host, Lab
from tests.mesh import INTERFACE, Mesh, reaches

RANGE = "10.8.0.0/24"
NOWHERE = "packets came by the tunnel for where no role of hub leads"
NAT = (
    "iptables -t nat -A POSTROUTING -s 10.8.0.0/24 -o eth0 "
    "-m comment --comment wireguard-nat-rule -j MASQUERADE"
)
FILTER = f"""
iptables -P FORWARD DROP
iptables -A FORWARD -i wg0 -o eth0 -s {RANGE} -j ACCEPT
iptables -A FORWARD -d {RANGE} -i eth0 -o wg0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A INPUT -i lo -j ACCEPT
iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables -A INPUT -p udp --dport {PORT} -j ACCEPT
iptables -A INPUT -i wg0 -p udp --dport 53 -j ACCEPT
iptables -A INPUT -i wg0 -p icmp -j ACCEPT
iptables -P INPUT DROP
"""
LAN = """
ip link add lan type bridge; ip address add 192.168.7.1/24 dev lan; ip link set lan up
iptables -A FORWARD -i wg0 -o eth0 -j DROP
iptables -t nat -A POSTROUTING -s 10.8.0.0/24 -d 192.168.7.0/24 -j MASQUERADE
"""
NFT = """
table inet firewall {
    chain forward { type filter hook forward priority 0; policy drop;
        ct state established accept; iifname "wg0" accept; iifname "wg0" oifname "wg0" drop; }
    chain out { type nat hook postrouting priority 100;
        ip saddr 10.8.0.0/16 oifname eth0 masquerade; }
    chain in { type nat hook prerouting priority -100; iifname wg0 udp dport 53 redirect to :5353; }
}
"""


@pytest.fixture(scope="module")
def mesh(lab: Lab) -> Mesh:
    mesh = Mesh(lab, RANGE)
    mesh.stop()
    mesh.start("--admin-listen", "0.0.0.0:8081")
    return mesh


@pytest.fixture(scope="module")
def remote(mesh: Mesh) -> dict[str, str]:
    key = mesh.controller.read(f"{DATA}/admin.key").strip()
    return {"NMK_SERVER": f"http://{mesh.controller.address}:8081", "NMK_API_KEY": key}


@pytest.fixture(scope="module")
def web(lab: Lab, mesh: Mesh) -> Host:
    """Somebody in the internet."""
    return lab.host("web", on=mesh.internet, address="192.0.2.80")


@pytest.fixture(scope="module")
def client(lab: Lab, mesh: Mesh) -> Client:
    return make_client(lab.host("phone", on=mesh.internet), "phone", "10.8.0.2", psk=False)


@pytest.fixture(scope="module")
def hub(mesh: Mesh, client: Client) -> Host:
    """A hub in use whose file has no hooks, as a member of the mesh."""
    host = mesh.machine("hub", address="198.51.100.20")
    host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    private, public = key_pair(host)
    text = f"[Interface]\nPrivateKey = {private}\nAddress = {HUB[0]}/24\nListenPort = {PORT}\n"
    text += HUB_PEER.format(
        name="phone", id="1", public=client.public, psk="", addresses="10.8.0.2/32"
    )
    host.write(FILE, text, mode=0o600)
    host.run("wg-quick", "up", "wg0")
    config = CLIENT_FILE.format(
        private=client.private,
        addresses=bare(client.addresses),
        hub=public,
        psk="",
        ranges="0.0.0.0/0",
        endpoint=f"{host.address}:{PORT}",
    )
    Phone(client.host).use(config)
    reaches(client.host, HUB[0])
    return mesh.join(host, "--address", HUB[0])


def foretold(hub: Host, remote: dict[str, str]) -> list[str]:
    """What a dry run says of the ways of clients."""
    told = take_over(hub, remote, "--dry-run").splitlines()
    kinds = ("to be an exit", "will end: ", "  to keep it: ")
    return [line for line in told if line.startswith(kinds)]


def test_a_hub_that_forwards_untranslated_is_named_with_the_role_that_does(
    hub: Host, remote: dict[str, str]
) -> None:
    assert foretold(hub, remote) == [
        "will end: what clients send elsewhere is passed on, untranslated",
        "  to keep it: nmk gateway add -n home hub exit --nat off",
    ]


def test_what_wireguard_was_told_of_beside_the_file_is_named(
    hub: Host, remote: dict[str, str]
) -> None:
    _, other = key_pair(hub)
    hub.run("wg", "set", "wg0", "peer", other, "allowed-ips", "10.8.0.9/32")
    hub.run("wg", "set", "wg0", "listen-port", "51999")
    told = foretold(hub, remote)
    hub.run("wg", "set", "wg0", "peer", other, "remove")
    hub.run("wg", "set", "wg0", "listen-port", str(PORT))
    assert told[:4] == [
        "will end: clients that wg0 has and the file has not (1)",
        "  to keep it: where the file is wg-quick's: wg-quick save wg0",
        "will end: UDP port 51999, where clients call wg0",
        f"  to keep it: ListenPort = 51999 in {FILE}, not {PORT}",
    ]


def test_a_lan_alone_is_named_with_its_role(hub: Host, remote: dict[str, str]) -> None:
    hub.run("sh", "-ec", LAN)
    told = foretold(hub, remote)
    hub.run("sh", "-ec", "iptables -F; iptables -t nat -F; ip link delete lan")
    assert told == [
        "will end: clients are led to 192.168.7.0/24",
        "  to keep it: nmk gateway add -n home hub egress 192.168.7.0/24",
        "will end: what ip filter FORWARD has for wg0 to drop (rules: 1)",
        f"  to keep it: the same for {INTERFACE}; to see it: nft list chain ip filter FORWARD",
    ]


def test_rules_of_nftables_are_read_as_well(hub: Host, remote: dict[str, str]) -> None:
    hub.run("nft", "-f", "-", input=NFT)
    told = foretold(hub, remote)
    hub.run("nft", "delete", "table", "inet", "firewall")
    assert told == [
        "to be an exit gateway: inet firewall out leads the clients of wg0 out",
        (
            "will end: inet firewall forward lets through what comes from wg0, and drops it from "
            f"{INTERFACE}"
        ),
        (
            f"  to keep it: nft 'insert rule inet firewall forward iifname {INTERFACE} accept; "
            f"insert rule inet firewall forward oifname {INTERFACE} accept'"
        ),
        "will end: what inet firewall forward has for wg0 to drop (rules: 1)",
        f"  to keep it: the same for {INTERFACE}; to see it: nft list chain inet firewall forward",
        "will end: what inet firewall in has for wg0 to redirect (rules: 1)",
        f"  to keep it: the same for {INTERFACE}; to see it: nft list chain inet firewall in",
    ]


def test_clients_of_a_hub_as_pivpn_makes_it_keep_all_that_they_had(
    mesh: Mesh, hub: Host, client: Client, web: Host, remote: dict[str, str]
) -> None:
    hub.run("sh", "-ec", f"{NAT}\n{FILTER}")
    assert source_seen(client.host, web, web.address) == hub.address
    told = foretold(hub, remote)
    assert told[0] == "to be an exit gateway: ip nat POSTROUTING leads the clients of wg0 out"
    assert told[1::2] == [
        (
            "will end: ip filter FORWARD lets through what comes from wg0, and drops it from "
            f"{INTERFACE}"
        ),
        f"will end: ip filter INPUT lets wg0 reach udp port 53 here, and drops it from {INTERFACE}",
    ]
    for line in told[2::2]:
        hub.run("sh", "-ec", line.removeprefix("  to keep it: "))
    assert foretold(hub, remote) == told[:1]
    said = take_over(hub, remote)
    assert "to be an exit gateway: ip nat POSTROUTING leads" in said
    assert "its roles: ingress, exit" in said
    reaches(client.host, HUB[0])
    assert source_seen(client.host, web, web.address) == hub.address
    found = hub.run("nmk", "doctor", check=False).stdout
    assert "broken" not in found
    assert NOWHERE not in found
    # What their configs lead here and no role leads on is seen as well.
    mesh.admin("gateway", "remove", "hub", "exit", "--yes")
    check_in(hub)
    assert is_deaf(client.host, web.address)
    assert NOWHERE in hub.run("nmk", "doctor", check=False).stdout
