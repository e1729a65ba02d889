"""Debian's cron and nothing else: the machine stays in the mesh, and mails when it has to.

The slow one of these tests. One machine has a cron whose clock runs twenty times as fast
(libfaketime), so that it lives through dozens of its minutes; another has the true time.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from tests.lab import CommandFailed, Host, Lab, poll
from tests.life.packages import fetch, unpack
from tests.mesh import Mesh, has_interface, reaches

SILENT_RUNS = 10
MAIL = "/root/mail"
SENDMAIL = f"""\
#!/bin/sh
{{ echo "=== mail"; cat; }} >>{MAIL}
"""
FAST = """\
sed -i s/30$/1.5/ /etc/cron.d/nmk
export LD_PRELOAD=$(echo /usr/lib/*/faketime/libfaketime.so.1) FAKETIME='+0 x20'
exec cron -f
"""


class Seen(NamedTuple):
    """How many mails have come, and how often in a row check-ins have failed by now."""

    mails: int
    failures: int


@pytest.fixture(scope="module", autouse=True)
def archives() -> tuple[str, ...]:
    """Packages that hosts need; autouse comes before the first host is made."""
    return fetch("cron", "faketime")


@pytest.fixture
def mesh(lab: Lab) -> Mesh:
    return Mesh(lab)


def machine(mesh: Mesh, name: str, archives: tuple[str, ...]) -> Host:
    """A machine that has joined, with cron for its service manager and mail that is delivered."""
    host = mesh.machine(name)
    unpack(host, archives)
    host.run("sh", "-c", "rm -f /etc/crontab /etc/cron.d/*")
    host.write("/usr/sbin/sendmail", SENDMAIL, mode=0o755)
    host.write(MAIL, "")
    mesh.join(host)
    host.run("nmk", "service", "install")
    return host


def look(host: Host) -> Seen:
    """Mails first: what they tell of has happened by then."""
    mails = host.read(MAIL).count("=== mail")
    try:
        return Seen(mails, json.loads(host.read("/run/nmk/home.trouble"))[1])
    except CommandFailed:
        return Seen(mails, 0)


def test_cron_is_all_there_is(mesh: Mesh, archives: tuple[str, ...]) -> None:
    fast, true = (machine(mesh, name, archives) for name in ("fast", "true"))
    true.start("cron", "-f")
    fast.start("sh", "-euc", FAST)
    late = mesh.join(mesh.machine("late"))
    reaches(fast, mesh.address("late"), 60)
    assert look(fast) == (0, 0)

    mesh.stop()
    seen = []

    def has_failed(times: int) -> bool:
        seen.append(look(fast))
        return seen[-1].failures >= times

    poll(lambda: has_failed(SILENT_RUNS + 4), 180, "failure of check-ins by cron")
    assert {s.mails for s in seen if s.failures <= SILENT_RUNS} == {0}
    assert seen[-1].mails == 1
    assert "nmk: home: cannot reach" in fast.read(MAIL)
    assert has_interface(fast)

    mesh.start()
    poll(lambda: look(fast).failures == 0, 60, "check-in that works again")
    mesh.admin("node", "delete", "-n", "home", "fast", "--yes")
    poll(lambda: look(fast).failures >= 3, 60, "check-ins of a node that was deleted")
    assert look(fast).mails == 2
    assert fast.read(MAIL).count("was deleted on the controller") == 1

    reaches(true, mesh.address("late"), 120)
    late.run("nmk", "checkin")
    assert look(true) == (0, 0)
