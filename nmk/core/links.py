"""Addresses that mean something on one link, or on one machine, alone.

Another machine's answer to them is never the one that was asked for: no packet to them belongs
into a tunnel, and none that came out of one is passed on.
"""

from __future__ import annotations

from ipaddress import ip_network

# Link-local (RFC 3927, RFC 4291) and multicast, IPv4's broadcast included.
LINKS = ("169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8")

# What is on no link at all (RFC 6890): this host, loopback, and IPv4 as IPv6's programs write it.
NOWHERE = ("0.0.0.0/8", "127.0.0.0/8", "::/128", "::1/128", "::ffff:0:0/96")

# Services of a machine's own provider outside of these: what they answer (keys, passwords, names)
# is for the machine that asks. A LAN may use such addresses all the same.
CLOUDS = (
    "100.100.100.200/32",  # Alibaba Cloud
    "168.63.129.16/32",  # Azure
    "fd00:ec2::/32",  # Amazon EC2
    "fd00:42::42/128",  # Scaleway
    "fd00:c1::a9fe:a9fe/128",  # Oracle Cloud
    "fd20:ce::254/128",  # Google Cloud
)

# Where LANs have their addresses (RFC 1918, RFC 6598, RFC 4193), and the shortest prefix, in bits,
# of one that is no trick. Whoever hands out addresses in a LAN could otherwise claim any part of
# the internet for it, and read what was meant for the exit node (TunnelCrack).
LAN_RANGES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
WIDEST_LAN = {4: 12, 6: 48}


def is_lan(cidr: str) -> bool:
    """Whether a subnet is one that LANs have: private, and no wider than they are."""
    subnet = ip_network(cidr, strict=False)
    if subnet.prefixlen < WIDEST_LAN[subnet.version]:
        return False
    homes = (ip_network(home) for home in LAN_RANGES)
    return any(subnet.subnet_of(h) for h in homes if h.version == subnet.version)  # type: ignore[arg-type]
