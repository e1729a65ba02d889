"""What the admin's commands say, and what they make of what people type."""

from __future__ import annotations

import io
import json
import re
import sys

import pytest

from nmk.cli.invite import report
from nmk.core.invitation import Outcome, explain_ssh
from tests.cli.inprocess import nmk
from tests.server.inside import Inside
from tests.server.net import Net


@pytest.fixture(scope="module")
def net(inner: Inside) -> Net:
    return Net.made(inner, "home", "10.77.0.0/16", "fd77::/64")


@pytest.fixture(autouse=True)
def server(inner: Inside, net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMK_SERVER", inner.admin_url)
    monkeypatch.setenv("NMK_NETWORK", net.name)


def test_a_revoked_key_can_be_looked_at_with_who_used_it(
    inner: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = Net.made(inner, "revoked", "10.78.0.0/16")
    monkeypatch.setenv("NMK_NETWORK", net.name)
    key = net._token.key_id
    assert nmk("key", "delete", key).code == 0
    assert key not in nmk("key", "list").out
    [row] = json.loads(nmk("key", "list", "--all", "-o", "json").out)
    assert (row["id"], row["state"], row["nodes"]) == (key, "revoked", ["witness"])
    assert row["revoked_at"]
    assert "revoked" in nmk("key", "show", key).out
    assert json.loads(nmk("node", "show", "witness", "-o", "json").out)["key"] == key
    assert key in nmk("node", "show", "witness").out
    again = nmk("key", "delete", key)
    assert (again.code, "there is no access key" in again.err) == (1, True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("gatway add web exit", "nmk gateway add"),
        ("gatway", "nmk gateway"),
        ("node lst", "nmk node list"),
        ("extclient crate phone", "nmk extclient create"),
        ("server wiat", "nmk server wait"),
        ("create network home", "nmk network create"),
        ("status2", "nmk status"),
        ("invite-", "nmk invite"),
        ("forward", "nmk --help"),
        ("node frobnicate", "nmk node --help"),
        ("rotate", "nmk extclient rotate"),
        ("node list --ouput", "nmk node list --help"),
    ],
)
def test_a_typing_error_is_answered_with_what_was_meant(typed: str, meant: str) -> None:
    done = nmk(*typed.split())
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == f"  try: {meant}"


def test_help_and_version_in_the_usual_ways() -> None:
    assert nmk("--version").out == nmk("version").out != ""
    assert nmk("help").out == nmk("--help").out.rstrip("\n") + "\n" != ""
    assert nmk("help", "node", "set").out.startswith("Usage: nmk node set")
    assert nmk("help", "server").out.startswith("Usage: nmk server")
    assert nmk("help", "nod").err.endswith("try: nmk node\n")


@pytest.mark.parametrize("answer", ["n\n", "N\n", "\n"])
def test_a_no_is_an_answer(net: Net, answer: str) -> None:
    net.join("unwanted")
    done = nmk("node", "delete", "unwanted", stdin=answer, terminal=True)
    assert done.code == 1
    assert done.err.endswith("nothing was changed\n")
    assert "interrupted" not in done.err
    assert net.call("DELETE", "/nodes/unwanted").status == 204


def test_an_end_of_input_is_an_interruption(net: Net) -> None:
    done = nmk("node", "delete", "witness", stdin="", terminal=True)
    assert (done.code, "interrupted" in done.err) == (130, True)
    assert net.get("/nodes/witness")


def test_without_a_terminal_nobody_is_asked(net: Net) -> None:
    done = nmk("node", "delete", "witness")
    assert (done.code, "add --yes" in done.err) == (2, True)
    assert net.get("/nodes/witness")


DONE = {
    "node delete old --yes": "deleted node old",
    "key delete KEY": "revoked access key",
    "extclient delete phone --yes": "deleted ext client phone",
    "gateway remove gate exit --yes": "took the role exit from gate",
    "network delete spare --yes": "deleted network spare",
}


@pytest.mark.parametrize("command", DONE)
@pytest.mark.parametrize("how", ["terminal", "quiet", "pipe"])
def test_what_was_done_is_said_to_a_person(inner: Inside, net: Net, command: str, how: str) -> None:
    net.join("old")
    net.ingress("gate", endpoint="a:1")
    net.add_gateway("gate", "exit")
    net.add_client("phone")
    inner.admin_call("POST", "/v1/networks", {"name": "spare"})
    key = net.call("POST", "/keys", {}).json["id"]
    try:
        args = command.replace("KEY", key).split() + ["-q"] * (how == "quiet")
        done = nmk(*args, terminal=how != "pipe")
        assert (done.code, done.out) == (0, "")
        assert (DONE[command] in done.err) == (how == "terminal")
        assert how != "quiet" or done.err == ""
    finally:
        for path in ("/nodes/old", "/extclients/phone", "/nodes/gate", f"/keys/{key}"):
            net.call("DELETE", path)
        inner.admin_call("DELETE", "/v1/networks/spare")


def test_a_key_of_an_own_form_is_not_told_of_besides(net: Net) -> None:
    done = nmk("key", "create", "-o", "json")
    made = json.loads(done.out)
    assert made["token"].startswith("nmk1.")
    assert made["token"] not in done.err
    assert "nmk1." not in done.err
    assert net.call("DELETE", f"/keys/{made['id']}").status == 204


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("198.51.100.7", "198.51.100.7:PORT"),
        ("[2001:db8::7]", "[2001:db8::7]:PORT"),
        ("198.51.100.7:99", "198.51.100.7:99"),
    ],
)
def test_an_endpoint_without_a_port_is_at_the_nodes_own(net: Net, given: str, found: str) -> None:
    port = net.get("/nodes/witness")["listen_port"]
    assert nmk("node", "set", "witness", f"endpoint={given}").code == 0
    assert net.get("/nodes/witness")["endpoint"] == found.replace("PORT", str(port))
    assert nmk("node", "set", "witness", "endpoint=").code == 0


def test_an_ingress_endpoint_without_a_port_is_at_the_nodes_own(net: Net) -> None:
    net.join("door", listen_port=51999)
    assert nmk("gateway", "add", "door", "ingress", "--endpoint", "VPN.example.org").code == 0
    [row] = net.get("/gateways")
    assert row["endpoint"] == "vpn.example.org:51999"
    assert net.call("DELETE", "/nodes/door").status == 204


@pytest.mark.parametrize(
    "text", ["198.51.100", "2001:db8::7", "[::]", "0.0.0.0", "[198.51.100.7", "]"]
)
def test_an_endpoint_that_cannot_be_is_refused_without_a_port_too(net: Net, text: str) -> None:
    assert nmk("node", "set", "witness", f"endpoint={text}").code == 2
    assert net.get("/nodes/witness")["endpoint"] is None


@pytest.mark.parametrize("columns", [200, 70, 40])
def test_a_table_fits_the_terminal(net: Net, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    long = "a" * 40
    net.join(long)
    shown = nmk("node", "list", terminal=True)
    piped = nmk("node", "list")
    assert net.call("DELETE", f"/nodes/{long}").status == 204
    assert long in piped.out
    assert long in shown.out
    assert (long + "  " in shown.out) == (columns > len(long))
    assert max(len(line.rstrip()) for line in shown.out.splitlines()) <= columns


def test_an_invitation_reports_addresses_as_others_do() -> None:
    outcomes = [Outcome("root@web", "web", ("10.66.0.1", "fd66::1"), "systemd"), Outcome("nas")]
    out = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", out)
        report(outcomes, "table")
        table = out.getvalue()
        report(outcomes, "json")
    assert "10.66.0.1, fd66::1 " in table
    assert "(" not in table
    assert json.loads(out.getvalue()[len(table) :])[0]["addresses"] == ["10.66.0.1", "fd66::1"]


@pytest.mark.parametrize(
    ("args", "first"),
    [
        ([], None),
        (["--accept-new"], "accept-new"),
        (["--accept-new", "--ssh-option", "StrictHostKeyChecking=yes"], "yes"),
    ],
)
def test_new_host_keys_are_accepted_only_where_that_is_asked_for(
    args: list[str], first: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nmk.cli.invite.make_archive_of_running", lambda: b"")
    done = nmk("invite", "root@web", "--dry-run", *args)
    assert done.code == 0, done.err
    found = re.findall(r"StrictHostKeyChecking=(\S+)", done.out.splitlines()[0])
    assert found[:1] == ([first] if first else [])  # the first counts (ssh_config(5))


def test_ranges_that_the_owner_wants_go_with_an_invitation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nmk.cli.invite.make_archive_of_running", lambda: b"")
    options = ("--range", "203.0.113.0/24", "--range", "fd77::/64")
    done = nmk("invite", "root@web", "--dry-run", *options)
    assert done.code == 0, done.err
    assert "join - --daemon off --range 203.0.113.0/24 --range fd77::/64 ||" in done.out
    refused = nmk("invite", "root@web", "--dry-run", "--range", "$(reboot)")
    assert (refused.code, refused.out) == (2, "")
    assert "'$(reboot)'" in refused.err


def test_an_unknown_host_key_is_told_with_the_way_to_accept_it() -> None:
    _, hint = explain_ssh("root@web", ["Host key verification failed."])
    assert "ssh root@web" in hint
    assert "nmk invite --accept-new root@web" in hint
    changed = ["@ REMOTE HOST IDENTIFICATION HAS CHANGED! @", "Host key verification failed."]
    assert "accept-new" not in "".join(explain_ssh("root@web", changed))


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_public_range_is_named_with_what_it_costs(dry_run: bool) -> None:
    more = ["--dry-run"] * dry_run
    done = nmk("network", "create", "open", "8.8.0.0/16", "fd99::/64", "-q", *more)
    assert (done.code, done.err) == (0, "")
    if not dry_run:
        assert nmk("network", "delete", "open", "--yes").code == 0
    done = nmk("network", "create", "open", "8.8.0.0/16", "fd99::/64", *more)
    [note, try_] = done.err.splitlines()[1:3]
    assert note.startswith("note: 8.8.0.0/16 is public address space: nodes will not reach hosts")
    wanted = "nmk network create open" if dry_run else "nmk network delete open; nmk network create"
    assert wanted in try_
    assert done.out.startswith("name ")
    if not dry_run:
        assert nmk("network", "delete", "open", "--yes").code == 0


@pytest.mark.parametrize("cidr", ["10.99.0.0/24", "100.64.9.0/24", "fd98::/64", "192.168.9.0/24"])
def test_a_private_range_needs_no_word(cidr: str) -> None:
    done = nmk("network", "create", "shut", cidr, "--dry-run")
    assert done.code == 0
    assert "note" not in done.err


def test_quiet_prints_data_alone() -> None:
    done = nmk("network", "create", "hush", "10.99.1.0/24", "-q", "-o", "name")
    assert (done.code, done.out, done.err) == (0, "hush\n", "")
    done = nmk("network", "set", "hush", "mtu=1400", "-q")
    assert (done.code, "1400" in done.out, done.err) == (0, True, "")
    assert nmk("network", "delete", "hush", "--yes", "-q").code == 0
    assert nmk("network", "show", "hush", "-q").err.startswith("nmk: ")
