"""How much is tried: `--quick`, the default, or `--full`; the summary says what was left out.

A test that takes the fixture `full` tries a sample, unless that is true. A test with the mark
`full` is for that tier alone. What needs a lab is not quick.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import pytest

_SAMPLED = "tried a sample"
_NOT_QUICK = "needs namespaces"
_ONLY_FULL = "only with --full"
_LONGEST = (
    *("gateways/test_failover", "life/test_cron", "gateways/test_sites", "seeing/test_live"),
    *("gateways/test_exit", "gateways/test_phones", "gateways/test_hub", "life/test_services"),
    *("life/test_daemon", "reliability/test_killed_agent", "seeing/test_doctor"),
)
_HINTS = {_NOT_QUICK: "scripts/test", _ONLY_FULL: "scripts/test --full"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out what needs namespaces")
    parser.addoption("--full", action="store_true", help="all that there is, however long it takes")
    parser.addoption(
        "--minutes", default=0.0, type=float, help="how long attackers are driven at random"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: a test that only --full runs")
    if config.pluginmanager.has_plugin("hypothesispytest"):
        _say_how_many_examples("full" if config.getoption("full") else "default")


def _say_how_many_examples(profile: str) -> None:
    from hypothesis import HealthCheck, settings

    for name, examples in (("default", 40), ("full", 1000)):
        settings.register_profile(
            name,
            max_examples=examples,
            deadline=None,  # a machine that other work shares: a slow example proves nothing
            suppress_health_check=[HealthCheck.too_slow],
        )
    settings.load_profile(profile)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("full") and not config.getoption("full"):
            item.add_marker(pytest.mark.skip(reason=_ONLY_FULL))
        elif config.getoption("quick") and _needs_lab(item):
            item.add_marker(pytest.mark.skip(reason=_NOT_QUICK))
    # The slow files first, of them the longest: several processes then end together.
    slow = {item.path for item in items if _needs_lab(item)}

    def when(item: pytest.Item) -> tuple[int, bool]:
        name = f"{item.path.parent.name}/{item.path.stem}"
        return (_LONGEST.index(name) if name in _LONGEST else len(_LONGEST)), item.path not in slow

    items.sort(key=when)


def _needs_lab(item: pytest.Item) -> bool:
    return not {"lab", "module_lab"}.isdisjoint(getattr(item, "fixturenames", ()))


def sample(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """Cases of a test: `kept`, named by their first values, and for --full alone the others."""
    return [
        case if first in kept else pytest.param(*values, marks=pytest.mark.full)
        for case in cases
        for values in [case if isinstance(case, tuple) else (case,)]
        for first in values[:1]
    ]


@pytest.fixture
def full(pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> bool:
    """Whether to try all that there is, however long it takes; else a sample."""
    if pytestconfig.getoption("full"):
        return True
    record_property(_SAMPLED, True)
    return False


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = Counter(
        reason
        for report in terminalreporter.getreports("skipped")
        for reason in _HINTS
        if reason in str(report.longrepr)
    )
    for reason, number in reasons.items():
        terminalreporter.write_line(f"left out: {number} tests, {reason} ({_HINTS[reason]})")
    passed = terminalreporter.getreports("passed")
    sampled = sum((_SAMPLED, True) in report.user_properties for report in passed)
    if sampled:
        terminalreporter.write_line(f"left out: all but a sample in {sampled} tests (--full)")
