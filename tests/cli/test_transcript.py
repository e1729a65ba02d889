"""What the admin's commands print, whole: golden files that read like a terminal.

`$` is what was typed, `!` a line on standard error, `?` an exit code that is not 0. What differs
from run to run is replaced by something of the same length.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import nmk
from nmk.core.records import Facts
from nmk.wire.token import parse_token
from tests.core.made import key32
from tests.golden.compare import check_golden
from tests.server.agent import Agent
from tests.server.process import Controller, started

VARYING = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-01-01T00:00:00Z"),
    (r"nmk1\.[A-Za-z0-9_-]+", "nmk1.TOKEN"),
    (r"127\.0\.0\.1:\d{5}", "127.0.0.1:50051"),
    (r"unix://\S+/admin\.sock", "unix:///data/admin.sock"),
    (r"\b[0-9a-f]{16}\b", "0123456789abcdef"),
    (r"\b[0-9a-f]{8}\b", "89abcdef"),
    (rf"(?m)^(version +)?{re.escape(nmk.__version__)}$", r"\g<1>1.2.3"),
]

NETWORKS = """
nmk network list
nmk network list -o json
nmk network create home 10.20.0.0/16 fd20::/64 --dry-run
nmk network create home 10.20.0.0/16 fd20::/64
nmk network create lab 10.30.0.0/24 -o json
nmk network create office 10.40.0.0/24 -o name
nmk network list
nmk network list -o json
nmk network list -o name
nmk networks ls -o name
nmk network set home mtu=1380 keepalive=0
nmk network set home mtu=1400 --dry-run -o name
nmk network show home
nmk network show home -o json
nmk network show home -o name
nmk network delete office
nmk network delete office --dry-run
nmk network delete office --yes
nmk network rm lab --yes
nmk network show office
nmk network show office -o json
nmk network create home
nmk network create other 10.20.5.0/24
nmk network create other 10.50.0.1/24
nmk network create other 10.50.0.0/31 -o json
nmk network create Bad_Name
nmk network set home colour=red
nmk network set home mtu
nmk network set home mtu=10 -o json
"""

KEYS = """
nmk key list
nmk key create --dry-run
nmk key create
nmk key create --uses 5 --expires 7d -o json
nmk key create --unlimited --expires never -o name
nmk key list
nmk key list -o json
nmk key show nothing
nmk key revoke nothing
nmk key create --uses none
nmk key create --expires soon
"""

NODES = """
nmk node list
nmk node list -o json
nmk node list -o name
nmk nodes ls -n home -o name
nmk node show web
nmk node show web -o json
nmk node show nobody
nmk node set web name=www endpoint=198.51.100.7:51821 -o name
nmk node set www address=10.20.0.2
nmk node set www address=10.20.0.77 --dry-run -o json
nmk node set www endpoint= -o name
nmk node delete www
nmk node delete www --dry-run
nmk node delete www --yes
nmk node list -o name
nmk server status
"""

GATEWAYS = """
nmk gateway list
nmk gateway list -o json
nmk gateway add web ingress --dry-run
nmk gateway add web ingress
nmk gateway add web ingress --endpoint VPN.example.org:51820 -o name
nmk gateway add web egress
nmk gateway add web egress 192.168.1.0/24 192.168.50.0/24 --nat off --metric 5 -o name
nmk gateway add web egress fd99::/64 --interface eth0 -o json
nmk gateway add db egress 192.168.50.0/24
nmk gateway add db egress 192.168.50.0/25 -o json
nmk gateway add db egress 192.168.50.0/24 --same-lan
nmk gateway add db egress 192.168.9.0/24 --as 10.201.9.0/24 --dry-run
nmk gateway add db egress 192.168.9.0/24 --as 10.201.9.0/24
nmk gateway add db exit
nmk gateway list
nmk gateway list -o json
nmk gateway list -o name
nmk gateways ls -n home -o name
nmk node show web
nmk gateway remove web egress 192.168.50.0/24
nmk gateway remove web egress 192.168.50.0/24 --dry-run
nmk gateway remove web egress 192.168.50.0/24 --yes
nmk gateway remove db egress 192.168.9.0/24 --yes
nmk gateway remove db exit --dry-run
nmk gateway remove db exit --yes
nmk gateway remove web ingress --yes
nmk gateway list
nmk gateway add nobody exit
nmk gateway add web egress 10.20.5.0/24
nmk gateway add web egress 192.168.7.1/24
nmk gateway add web egress 192.168.7.0
nmk gateway add web egress 0.0.0.0/0
nmk gateway add web egress 0.0.0.0/1
nmk gateway add web egress 127.0.0.0/8
nmk gateway add web egress ::ffff:192.168.7.0/120 -o json
nmk gateway add web egress 192.168.7.0/24 --metric 65536
nmk gateway add web egress 192.168.7.0/24 --interface eth0/1
nmk gateway add web egress 192.168.7.0/24 --nat maybe
nmk gateway add web egress 192.168.7.0/24 --endpoint vpn.example.org:51820
nmk gateway add web egress 192.168.7.0/24 --as 10.201.7.0/25
nmk gateway add web egress 192.168.7.0/24 --as fd00:7::/64
nmk gateway add web egress 192.168.7.0/24 --as 10.20.7.0/24
nmk gateway add web egress 192.168.7.0/24 --as 10.201.9.0/24 --same-lan
nmk gateway add web egress 192.168.7.0/24 --as 192.168.1.0/24
nmk gateway add web egress 192.168.7.0/24 --as 10.201.7.1/24
nmk gateway add web egress 192.168.7.0/24 192.168.8.0/24 --as 10.201.7.0/24
nmk gateway add web egress --as 10.201.7.0/24
nmk gateway add web egress --same-lan
nmk gateway add web exit --same-lan
nmk gateway add web ingress --as 10.201.7.0/24
nmk gateway add web ingress 192.168.7.0/24
nmk gateway add web ingress --nat on
nmk gateway add web ingress --endpoint nowhere
nmk gateway add web exit --metric 5 -o json
nmk gateway add web relay
nmk gateway remove nobody exit --yes
nmk gateway remove db exit --yes
nmk gateway remove web egress 192.168.99.0/24 --yes
nmk gateway remove web egress nonsense --yes
nmk gateway list -n nowhere
"""

EXTCLIENTS = """
nmk extclient list
nmk extclient list -o json
nmk extclient create phone --public-key KEY1
nmk gateway add web ingress --endpoint vpn.example.org:51820 -o name
nmk extclient create phone --public-key KEY1 --dry-run
nmk extclient create phone --public-key KEY1
nmk extclient create tablet --public-key KEY2 --expires 7d --address 10.20.0.50 -o json
nmk extclient create laptop --public-key KEY3 --full-tunnel
nmk gateway add web exit -o name
nmk extclient create laptop --public-key KEY3 --full-tunnel -o name
nmk extclient list
nmk extclient list -o json
nmk extclient list -o name
nmk extclients ls -n home -o name
nmk extclient show phone
nmk extclient show phone -o json
nmk extclient show phone -o name
nmk extclient show nobody
nmk extclient set phone name=mobile expires=7d -o name
nmk extclient set mobile address=10.20.0.77 --dry-run -o json
nmk extclient set mobile address=10.20.0.77
nmk extclient rotate mobile --public-key KEY4 --dry-run
nmk extclient rotate mobile --public-key KEY4
nmk extclient disable mobile --dry-run -o name
nmk extclient disable mobile
nmk extclient disable mobile -o name
nmk extclient enable mobile -o name
nmk gateway add web egress 192.168.50.0/24 -o name
nmk extclient list
nmk gateway list
nmk extclient create router --public-key KEY6 --routes 192.168.80.0/24,192.168.81.0/24
nmk extclient set router routes=192.168.80.0/24 -o name
nmk extclient show router
nmk gateway add web egress 192.168.80.0/24
nmk extclient create other --public-key KEY5 --routes 192.168.80.0/25
nmk extclient create other --public-key KEY5 --routes 192.168.50.0/24
nmk extclient create other --public-key KEY5 --routes 10.20.0.0/24
nmk extclient create other --public-key KEY5 --routes 192.168.1.0/24
nmk extclient create other --public-key KEY5 --routes fd99::/64
nmk extclient create other --public-key KEY5 --routes 192.168.82.1/24
nmk extclient create other --public-key KEY5 --routes 0.0.0.0/0
nmk extclient create other --public-key KEY5 --routes 192.168.82.0/24,
nmk extclient set router routes=nonsense
nmk extclient list
nmk extclient set router routes= -o name
nmk extclient delete router --yes
nmk extclient create phone --public-key short
nmk extclient create phone --public-key AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
nmk extclient create phone --public-key KEY2
nmk extclient create phone --public-key WEBKEY
nmk extclient create web --public-key KEY5
nmk extclient create tablet --public-key KEY5
nmk extclient create No.Name --public-key KEY5 -o json
nmk extclient create .. --public-key KEY5
nmk extclient create phone --public-key KEY5 --address 10.20.0.50
nmk extclient create phone --public-key KEY5 --address 10.21.0.1
nmk extclient create phone --public-key KEY5 --gateway db
nmk extclient create phone --public-key KEY5 --gateway nobody
nmk extclient create phone --public-key KEY5 --expires soon
nmk extclient create phone --public-key KEY5 --qr-file phone.png
nmk extclient create phone -o name
nmk extclient create phone --qr-file phone.jpg
nmk extclient create phone --config-file /nowhere/phone.conf
nmk extclient set mobile colour=red
nmk extclient set mobile name
nmk extclient set mobile gateway=db
nmk extclient set mobile expires=
nmk extclient set mobile address=10.20.0.50
nmk extclient set mobile address=fd20::5
nmk extclient set nobody expires=7d
nmk extclient rotate nobody --public-key KEY5
nmk extclient enable nobody
nmk extclient delete mobile
nmk extclient delete mobile --dry-run
nmk extclient delete mobile --yes
nmk extclient rm tablet --yes
nmk extclient delete nobody --yes
nmk extclient list -o name
"""


@pytest.fixture
def controller(tmp_path: Path) -> object:
    """A controller of the test's own: revisions are counted from its start."""
    with started(tmp_path / "data") as made:
        yield made


def transcript(controller: Controller, script: str) -> str:
    """The commands with all that they print, one after the other."""
    lines = []
    for command in script.strip().splitlines():
        done = controller.nmk(*shlex.split(command)[1:])
        assert "\x1b" not in done.stdout + done.stderr, "colours, into a pipe"
        lines += [f"$ {command}", *done.stdout.splitlines()]
        lines += [f"! {line}".rstrip() for line in done.stderr.splitlines()]
        lines += [f"? {done.returncode}"] if done.returncode else []
    text = "\n".join(lines) + "\n"
    for pattern, same in VARYING:
        text = re.sub(pattern, same, text)
    return text


def test_networks(controller: Controller) -> None:
    check_golden("networks.txt", transcript(controller, NETWORKS))


def test_keys(controller: Controller) -> None:
    controller.nmk("network", "create", "home", "10.20.0.0/16")
    check_golden("keys.txt", transcript(controller, KEYS))


def join_nodes(controller: Controller) -> None:
    """The network `home` with the nodes `web` and `db`."""
    controller.nmk("network", "create", "home", "10.20.0.0/16")
    token = parse_token(controller.nmk("key", "create", "--uses", "2").stdout)

    def post(path: str, body: bytes) -> bytes:
        return controller.agent_call("POST", path, body).body

    for number, name in ((1, "web"), (2, "db")):
        facts = Facts(key32(number), 51820 + number, ("192.168.1.7/24", "fd00::7/64"))
        Agent(post, token, facts=facts).join(name=name)


def test_nodes(controller: Controller) -> None:
    join_nodes(controller)
    check_golden("nodes.txt", transcript(controller, NODES))


def test_gateways(controller: Controller) -> None:
    join_nodes(controller)
    check_golden("gateways.txt", transcript(controller, GATEWAYS))


def test_extclients(controller: Controller) -> None:
    join_nodes(controller)
    script = EXTCLIENTS.replace("WEBKEY", key32(1))
    for number in range(1, 7):
        script = script.replace(f"KEY{number}", key32(number, kind=9))
    check_golden("extclients.txt", transcript(controller, script))
