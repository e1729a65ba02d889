"""Memberships to test with."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from nmk.agent.membership import Membership, Wishes, take_in
from nmk.core.peers import read_reply
from nmk.core.records import Facts
from nmk.core.settings import effective
from nmk.system.keys import generate_private_key, public_key
from nmk.wire.envelope import Identity


def joining(**more: Any) -> Membership:
    """A machine that has not been let in yet."""
    fields: dict[str, Any] = {
        "network": "home",
        "remote_name": "home",
        "urls": ("http://192.0.2.1:50051", "http://[2001:db8::1]:50051"),
        "controller_key": Identity.generate().public,
        "identity": Identity.generate(),
        "private_key": generate_private_key(),
        "interface": "nmk-home",
        "listen_port": 51821,
        "wishes": Wishes(name="web", endpoint="192.0.2.9:51821"),
    }
    return Membership(**{**fields, **more})


def peer(number: int) -> dict[str, Any]:
    """A peer as a view has it."""
    return {
        "id": f"{number:016x}",
        "name": f"peer-{number}",
        "key": public_key(generate_private_key()),
        "addresses": [f"10.77.0.{number}"],
        "port": 51821,
        "lan": [f"192.168.1.{number}/24"],
        "observed": [],
    }


def full_view(me: Membership, *peers: dict[str, Any], seq: int = 0) -> dict[str, Any]:
    """The reply to a join, from a controller that has these peers."""
    return {
        "epoch": "0011223344556677",
        "at": [7, "c0ffee"],
        "full": True,
        "network": {"name": me.remote_name, "cidrs": ["10.77.0.0/24"], **effective({})},
        "self": {
            "id": me.id,
            "name": "web",
            "addresses": ["10.77.0.1"],
            "observed": [],
            "seq": seq,
        },
        "peers": [list(peers)],
    }


def told(me: Membership, reply: dict[str, Any]) -> Membership:
    """The membership with a reply taken in that came as JSON."""
    return take_in(me, read_reply(json.dumps(reply).encode()))


def joined(*peers: dict[str, Any]) -> Membership:
    """A machine that is in the network with these peers."""
    me = joining()
    facts = Facts(public_key(me.private_key), me.listen_port, ("192.168.1.1/24",))
    return replace(told(me, full_view(me, *peers)), phase="joined", reported=facts)
