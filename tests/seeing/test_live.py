"""What a machine shows of its tunnels, and what of that reaches the controller."""

from __future__ import annotations

import json
import re
import signal
from typing import Any

from tests.lab import poll
from tests.mesh import live_peers
from tests.seeing.conftest import Pair


def peers(text: str) -> list[dict[str, Any]]:
    [network] = json.loads(text)
    found: list[dict[str, Any]] = network["peers"]
    return found


def test_status_is_what_wg_shows_in_names(pair: Pair) -> None:
    [bert] = peers(pair.anna.run("nmk", "status", "-o", "json").stdout)
    assert bert["name"] == "bert"
    assert bert["state"] == "connected"
    assert bert["endpoint"] in live_peers(pair.anna, "endpoints").values()
    [transfer] = live_peers(pair.anna, "transfer").values()
    received, sent = map(int, transfer.split("\t"))
    assert 0 < bert["received"] <= received
    assert 0 < bert["sent"] <= sent


def test_watching_shows_changes_until_it_is_interrupted(pair: Pair) -> None:
    watching = pair.anna.start("nmk", "status", "--watch", "-o", "json")
    poll(lambda: len(watching.output.splitlines()) >= 1, 20, "the first look")
    pair.anna.run("nmk", "ping", "bert")
    poll(lambda: len(watching.output.splitlines()) >= 2, 20, "the second look")
    watching.signal(signal.SIGINT)
    assert watching.wait() == 0
    first, second, *_ = (peers(line)[0] for line in watching.output.splitlines())
    assert second["received"] > first["received"]


def test_watching_on_a_terminal_leaves_it_usable(pair: Pair) -> None:
    watching = pair.anna.start("script", "-qefc", "nmk status --watch", "/dev/null")
    poll(lambda: watching.output.count("\x1b[H") >= 2, 20, "the second look")
    pair.anna.run("pkill", "-INT", "-f", "^[^ ]*python3 .*status --watch")
    watching.wait()
    assert watching.output.count("\x1b[2J") == 1
    assert not re.search(r"\x1b\[\?", watching.output)  # no mode that would have to be reset
    assert "Traceback" not in watching.output


def test_the_controller_learns_of_traffic(pair: Pair) -> None:
    pair.anna.run("nmk", "ping", "bert")
    before = pair.mesh.json("network", "show", "home")["revision"]
    pair.anna.run("nmk", "checkin")
    told = pair.mesh.json("node", "show", "anna")["traffic"]
    [here] = peers(pair.anna.run("nmk", "status", "-o", "json").stdout)
    assert told["live_peers"] == 1
    assert 0 < told["received"] <= here["received"]
    assert 0 < told["sent"] <= here["sent"]
    assert told["handshake"] <= here["handshake"] + 1
    [bert] = told["busiest"]
    assert (bert["name"], bert["sent"]) == ("bert", told["sent"])
    assert pair.mesh.json("network", "show", "home")["revision"] == before
    shown = pair.mesh.admin("node", "show", "anna")
    assert re.search(r"^traffic +received .*, peers in touch: 1$", shown, re.MULTILINE)
    assert re.search(r"^ +bert: received .*, handshake \d+s ago$", shown, re.MULTILINE)
    assert pair.mesh.json("node", "show", "bert")["name"] == "bert"


def test_a_tunnel_that_is_down_says_nothing_new(pair: Pair) -> None:
    pair.anna.run("nmk", "checkin")
    before = pair.mesh.json("node", "show", "anna")["traffic"]
    pair.anna.run("nmk", "down")
    pair.anna.run("nmk", "checkin")
    after = pair.mesh.json("node", "show", "anna")["traffic"]
    assert (after["received"], after["sent"]) == (before["received"], before["sent"])


def test_after_a_restart_the_controller_waits_to_be_told(pair: Pair) -> None:
    with pair.mesh.stopped():
        pass
    assert pair.mesh.json("node", "show", "bert")["traffic"] is None
    assert re.search(
        r"^traffic +not told yet$", pair.mesh.admin("node", "show", "bert"), re.MULTILINE
    )
    pair.bert.run("nmk", "checkin")
    assert pair.mesh.json("node", "show", "bert")["traffic"]["received"] > 0
