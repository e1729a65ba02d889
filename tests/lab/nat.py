"""Address translation as home and office routers do it, by nft."""

from __future__ import annotations

from typing import Literal

Nat = Literal["full-cone", "address-restricted", "port-restricted", "symmetric"]

OUTSIDE = "eth0"

# A router sends no redirects: neighbours on one switch may be in different subnets.
FORWARD = """\
echo 0 >/proc/sys/net/ipv4/conf/all/send_redirects
echo 0 >/proc/sys/net/ipv4/conf/default/send_redirects
echo 1 >/proc/sys/net/ipv4/ip_forward
if [ -d /proc/sys/net/ipv6 ]; then echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; fi
"""

# What nobody inside asked for is dropped, and must be on every router: the connection entry of
# a stray packet would take the tuple that a packet from inside needs later, and hole punching
# would fail.
FIREWALL = f"""\
table inet firewall {{
    chain input {{
        type filter hook input priority filter
        iifname {OUTSIDE} icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
        iifname {OUTSIDE} ct state new drop
    }}
    chain forward {{
        type filter hook forward priority filter
        ct status dnat accept
        iifname {OUTSIDE} ct state new drop
    }}
}}
"""


def _masquerade(how: str = "") -> str:
    return f"""\
table ip nat {{
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname {OUTSIDE} masquerade {how}
    }}
}}
"""


def _cone(key: str, sent: str, received: str) -> str:
    """Remember who inside sent what, and hand him the packets that come back to it.

    Two hosts that send from one port share its entry: the last one has it.
    """
    return f"""\
table ip nat {{
    map senders {{
        type {key} : ipv4_addr
        flags dynamic
        size 65535
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat
        oifname {OUTSIDE} update @senders {{ {sent} : ip saddr }}
        oifname {OUTSIDE} masquerade
    }}
    chain prerouting {{
        type nat hook prerouting priority dstnat
        iifname {OUTSIDE} dnat to {received} map @senders
    }}
}}
"""


_RULES: dict[Nat, str] = {
    "full-cone": _cone("inet_service", "udp sport", "udp dport"),
    "address-restricted": _cone(
        "ipv4_addr . inet_service", "ip daddr . udp sport", "ip saddr . udp dport"
    ),
    "port-restricted": _masquerade(),
    "symmetric": _masquerade("fully-random"),
}


def router_script(nat: Nat | None) -> str:
    """What a router's shell runs at boot; without `nat` it only forwards."""
    if nat is None:
        return FORWARD
    return f"{FORWARD}nft -f - <<'END'\n{FIREWALL}{_RULES[nat]}END\n"
