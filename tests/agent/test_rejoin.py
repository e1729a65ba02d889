"""Joining where a machine is, or was, in the network: it stays that until the new one is in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from nmk.agent.membership import Membership, Wishes, decode, encode
from nmk.agent.succession import begun_in, with_earlier
from nmk.wire.token import Token, parse_token
from tests.agent.memberships import joined, joining, peer
from tests.agent.test_machine import NMK, SOURCE, Place, nmk, state_of
from tests.lab import Host, Lab, poll
from tests.reliability.disk import SmallDisk
from tests.reliability.test_raced_commands import silent

ENV = {"PYTHONPATH": SOURCE}
SET: dict[str, int | str] = {"exit-node": "gw", "kill-switch": "on", "mtu": 1380}


class Exits(Place):
    """The same with an exit gateway, `gw`."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self.gateway = self.member("gw")
        self.admin("gateway", "add", "-n", "home", "gw", "exit")
        nmk(self.gateway, "checkin")

    def shut(self, name: str, *, deleted: bool) -> Host:
        """A machine whose owner has set things, a kill switch too; its node `deleted`, or well."""
        host = self.member(name)
        done = nmk(host, "set", *(f"{name}={value}" for name, value in SET.items()))
        assert done.returncode == 0, done.stderr
        if deleted:
            self.admin("node", "delete", "-n", "home", name, "--yes")
            assert nmk(host, "checkin").returncode == 1
        assert is_shut(host)
        return host


@pytest.fixture(scope="module")
def place(module_lab: Lab) -> Exits:
    return Exits(module_lab)


def is_shut(host: Host) -> bool:
    """Whether the kill switch is in the kernel."""
    there = host.run("nft", "list", "table", "inet", "nmk-home", check=False).stdout
    return "chain kill-leaving" in there and "\n\t\tdrop" in there


def key_of(host: Host) -> str:
    """The private key of the interface; "" without one."""
    return host.run("wg", "show", "nmk-home", "private-key", check=False).stdout


def mtu_of(host: Host) -> str:
    return host.read("/sys/class/net/nmk-home/mtu")


def refuse(place: Exits, host: Host, *options: str) -> int:
    token = place.token()
    place.admin("key", "revoke", "-n", "home", parse_token(token).key_id)
    return nmk(host, "join", "-", *options, stdin=token).returncode


def not_reach(place: Exits, host: Host, *options: str) -> int:
    token = place.token()
    ways = [("-4", place.controller.address), ("-6", str(place.controller.address6))]
    for family, there in ways:
        host.run("ip", family, "route", "add", "unreachable", there)
    try:
        return nmk(host, "join", "-", *options, stdin=token).returncode
    finally:
        for family, there in ways:
            host.run("ip", family, "route", "del", "unreachable", there)


@pytest.mark.parametrize("action", [refuse, not_reach])
@pytest.mark.parametrize("options", [(), ("--new-identity",)], ids=["deleted", "well"])
def test_a_join_that_does_not_get_in_changes_nothing(
    place: Exits, action: Callable[..., int], options: tuple[str, ...]
) -> None:
    """Identity, interface, kill switch; also after a reboot, and the repeated join is one node."""
    name = f"{action.__name__.replace('_', '-')}-{'well' if options else 'gone'}"
    host = place.shut(name, deleted=not options)
    before, key = state_of(host), key_of(host)
    nodes = place.nodes()
    assert action(place, host, *options) == (1 if action is refuse else 75)
    assert is_shut(host)
    assert key_of(host) == key
    after = state_of(host)
    begun = after.pop("successor")
    assert bool(begun) == (action is not_reach)
    assert {**after, "successor": None} == before
    assert place.nodes().keys() == nodes.keys()

    host.reboot()
    assert nmk(host, "checkin").returncode == (0 if options else 1)
    assert is_shut(host)
    assert key_of(host) == key
    assert state_of(host)["identity"] == before["identity"]

    done = nmk(host, "join", "-", *options, stdin=place.token())
    assert done.returncode == 0, done.stderr
    assert state_of(host)["identity"] != before["identity"]
    if begun:
        assert state_of(host)["identity"] == begun["identity"]
    assert state_of(host)["successor"] is None
    assert state_of(host)["wishes"]["settings"] == SET
    assert key_of(host) not in {key, ""}
    assert is_shut(host)
    assert "what was set here stays set: exit-node=gw kill-switch=on mtu=1380" in done.stderr
    told = f"its old node {name} stays, as another machine may be it; if none is, on the controller"
    assert (f"{told}: nmk node delete -n home {name}" in done.stderr) == bool(options)
    again = nmk(host, "checkin", "-v")
    assert (again.returncode, again.stderr.count("[#]")) == (0, 0), again.stderr
    assert len(place.nodes()) == len(nodes) + 1
    host.stop()


def test_a_join_that_cannot_be_carried_out_leaves_what_was_before(place: Exits) -> None:
    """The controller has let the new node in, and the machine cannot be it; both leave then."""
    host = place.shut("both", deleted=False)
    before, key = state_of(host), key_of(host)
    wrapped = '#!/bin/sh\n[ "$1" != syncconf ] || exit 1\nexec /usr/bin/wg "$@"\n'
    host.write("/usr/local/sbin/wg", wrapped, 0o755)
    assert nmk(host, "join", "-", "--new-identity", stdin=place.token()).returncode == 1
    assert is_shut(host)
    assert state_of(host)["identity"] == before["identity"]
    assert {name for name in place.nodes() if name.startswith("both")} == {"both", "both-2"}
    host.run("rm", "/usr/local/sbin/wg")
    assert nmk(host, "checkin").returncode == 0
    assert key_of(host) == key
    assert nmk(host, "leave").returncode == 0
    assert not {name for name in place.nodes() if name.startswith("both")}
    assert not is_shut(host)


def test_a_join_that_ends_on_a_full_disk_leaves_the_exit_node_in_use(place: Exits) -> None:
    """The disk fills up once the controller has let the new node in: `wg` is run first then."""
    host = place.machine("full")
    host.run("mkdir", "-p", "/var/lib/nmk")
    disk = SmallDisk.mount(host, "/var/lib/nmk", "64k")
    assert nmk(host, "join", place.token()).returncode == 0
    nmk(place.gateway, "checkin")
    assert nmk(host, "set", "exit-node=gw").returncode == 0
    way, key = ("ip", "route", "get", "203.0.113.5"), key_of(host)
    assert "dev nmk-home" in host.run(*way).stdout
    fill = f"grep -q successor.:{{ {disk.path}/home.json && cat /dev/zero >{disk.path}/ballast"
    host.write("/usr/local/sbin/wg", f'#!/bin/sh\n{fill}\nexec /usr/bin/wg "$@"\n', 0o755)
    done = nmk(host, "join", "-", "--new-identity", stdin=place.token())
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert len([name for name in place.nodes() if name.startswith("full")]) == 2
    assert key_of(host) == key
    assert "dev nmk-home" in host.run(*way).stdout
    host.stop()


def test_what_is_done_while_a_join_is_under_way_stays_done(place: Exits) -> None:
    """And two joins at once are one node."""
    host = place.shut("slow", deleted=False)
    key = key_of(host)
    tokens = [place.token() for _ in range(2)]
    asks = ("ss", "-Htn", "state", "established", "( dport = :50051 )")
    with silent(place.server):
        joins = [host.start(*NMK, "join", t, "--new-identity", env=ENV) for t in tokens]
        poll(lambda: len(host.run(*asks).stdout.splitlines()) == 2, 20, "joins that wait")
        assert is_shut(host)
        assert nmk(host, "set", "mtu=1400").returncode == 0
        assert (key_of(host), mtu_of(host)) == (key, "1400\n")
    assert [join.wait() for join in joins] == [0, 0], [join.output for join in joins]
    assert is_shut(host)
    assert state_of(host)["wishes"]["settings"] == {**SET, "mtu": 1400}
    assert mtu_of(host) == "1400\n"
    assert {name for name in place.nodes() if name.startswith("slow")} == {"slow", "slow-2"}


@pytest.mark.parametrize("deleted", [False, True], ids=["well", "deleted"])
def test_what_is_down_while_a_join_is_under_way_stays_down(place: Exits, *, deleted: bool) -> None:
    """Until its owner brings it up; one that was down before a join comes up by it."""
    host = place.shut(f"down-{deleted}".lower(), deleted=deleted)
    before, token = state_of(host)["identity"], place.token()
    asks = ("ss", "-Htn", "state", "established", "( dport = :50051 )")
    with silent(place.server):
        join = host.start(*NMK, "join", token, "--new-identity", env=ENV)
        poll(lambda: host.run(*asks).stdout, 20, "a join that waits")
        assert nmk(host, "down").returncode == 0
    assert join.wait() == 0, join.output
    assert state_of(host)["identity"] != before
    assert (key_of(host), is_shut(host)) == ("", True)
    assert "is up" not in join.output
    assert nmk(host, "checkin").returncode == 0
    assert key_of(host) == ""
    done = nmk(host, "join", "-", "--new-identity", stdin=place.token())
    assert done.returncode == 0, done.stderr
    assert key_of(host)
    host.stop()


def test_a_name_that_another_network_has_here_is_no_join_to_that(place: Exits) -> None:
    place.admin("network", "create", "office", "10.79.0.0/24")
    host = place.member("busy")
    before = state_of(host)
    for options in ((), ("--new-identity",)):
        token = place.admin("key", "create", "-n", "office").strip()
        done = nmk(host, "join", "-", "--as", "home", *options, stdin=token)
        assert (done.returncode, "this machine calls 'home' 'home'" in done.stderr) == (1, True)
        assert state_of(host) == before


def test_a_dry_join_where_the_machine_is_in_already_changes_nothing(place: Exits) -> None:
    host = place.member("same")
    before, key = state_of(host), key_of(host)
    for is_deleted in (False, True):
        if is_deleted:
            place.admin("node", "delete", "-n", "home", "same", "--yes")
        for options in ((), ("--new-identity",)):
            done = nmk(host, "join", "-", "--dry-run", *options, stdin=place.token())
            assert done.returncode == 0, done.stderr
            assert (state_of(host), key_of(host)) == (before, key)


def token_of(me: Membership) -> Token:
    return Token(me.urls, me.controller_key, me.remote_name, "k", b"s" * 32)


def test_a_state_holds_what_the_machine_is_about_to_be() -> None:
    me = replace(joined(peer(2)), phase="deleted")
    begun = joining(controller_key=me.controller_key)
    both = replace(me, successor=begun)
    assert decode(encode(both), "home", "x") == both
    assert begun_in(both, token_of(begun)) == begun
    assert begun_in(me, token_of(me)) is None
    assert begun_in(begun, token_of(begun)) is begun
    assert begun_in(both, token_of(joining())) is None
    assert begun_in(None, token_of(me)) is None


def test_what_the_owner_had_wished_goes_on() -> None:
    earlier = Wishes("old", "10.77.0.9", "192.0.2.9:1", 1, dict(SET))
    before = replace(joined(peer(2)), phase="deleted", wishes=earlier)
    asked = Wishes(name="new", listen_port=2)
    kept = Wishes("new", None, "192.0.2.9:1", 2, dict(SET))
    assert with_earlier(asked, before, new_identity=False) == kept
    assert with_earlier(asked, before, new_identity=True) == replace(asked, settings=dict(SET))
    assert with_earlier(asked, None, new_identity=False) == asked
