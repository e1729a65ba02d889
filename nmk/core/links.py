"""Addresses that mean something on one link, or on one machine, alone.

Another machine's answer to them is never the one that was asked for: no packet to them belongs
into a tunnel, and none that came out of one is passed on.
"""

from __future__ import annotations

# Link-local (RFC 3927, RFC 4291) and multicast, IPv4's broadcast included.
LINKS = ("169.254.0.0/16", "224.0.0.0/4", "255.255.255.255/32", "fe80::/10", "ff00::/8")

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
