"""The state directory is gone while a kill switch stands: it is named, and can be removed."""

from __future__ import annotations

import pytest

from nmk.core.route_table import order_of, rules_of
from tests.agent.test_machine import Place, interfaces, nmk
from tests.lab import Host, Lab

LAY = "nft add table inet nmk-office; nft add chain inet nmk-office out"


def left(host: Host) -> tuple[str, str, bool]:
    """Tables of ours, rules of ours, and whether the interface is there."""
    tables = host.run("nft", "list", "tables").stdout
    rules = [r for f in ("-4", "-6") for r in host.run("ip", f, "rule").stdout.splitlines()]
    ours = [r for r in rules if r.split(":")[0] not in {"0", "32764", "32766", "32767"}]
    return tables, "\n".join(ours), "nmk-home" in interfaces(host)


def test_a_lost_state_is_named_and_what_it_laid_is_removed() -> None:
    with Lab() as lab:
        place = Place(lab)
        gate, host = place.member("gate"), place.member("careless")
        place.admin("gateway", "add", "gate", "exit")
        assert {nmk(h, "checkin").returncode for h in (gate, host)} == {0}
        done = nmk(host, "set", "exit-node=gate", "kill-switch=on")
        assert done.returncode == 0, done.stderr
        assert left(host)[0] == "table inet nmk-home\n"
        host.run("sh", "-c", f"rm -rf /var/lib/nmk; {LAY}")
        # What wg-quick lays is no rule of ours.
        host.run(
            "ip", "rule", "add", "priority", "32764", "table", "main", "suppress_prefixlength", "0"
        )
        told = nmk(host, "doctor")
        assert "broken  leftovers" in told.stdout, told
        assert "home" in told.stdout
        assert "nmk leave -n office --force" in told.stdout
        refused = nmk(host, "leave", "-n", "cabin", "--force")
        assert (refused.returncode, "'cabin'" in refused.stderr) == (1, True)
        assert nmk(host, "leave", "-n", "home", "--force", "--dry-run").returncode == 0
        assert left(host)[2]
        done = nmk(host, "leave", "-n", "home", "--force")
        assert done.returncode == 0, done.stderr
        assert left(host)[::2] == ("table inet nmk-office\n", False)
        assert "31001" in left(host)[1]
        done = nmk(host, "uninstall", "--yes")
        assert done.returncode == 0, done.stderr
        assert left(host) == ("", "", False)
        assert "32764" in host.run("ip", "rule").stdout
        assert host.run("ls", "-d", "/var/lib/nmk", check=False).returncode != 0
        assert "leftovers" not in nmk(host, "doctor").stdout


@pytest.mark.parametrize("priority", [32764, 32766])
def test_rules_of_wg_quick_are_not_ours(priority: int) -> None:
    assert order_of(f"priority {priority} table main suppress_prefixlength 0") is None
    assert {order_of(rule) for _, rule in rules_of(7).all} == {7}
