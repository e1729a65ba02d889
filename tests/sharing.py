"""What tests share ends with the first of them that fails: the next one gets it anew.

So a test that fails leaves nothing to the others of its module: no setting, no half of a story, no
fixture that could not be made. With `--alone` every test ends what it has, as if it had failed:
what then fails lives on what others left behind.
"""

from __future__ import annotations

from collections.abc import Generator

import pytest

_FAILED = pytest.StashKey[bool]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--alone", action="store_true", help="share nothing between tests")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_FAILED] = True
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item) -> None:
    if item.stash.get(_FAILED, False) or item.config.getoption("alone"):
        # What pytest does after the last test. The next one sets up what it needs from nothing.
        item.session._setupstate.teardown_exact(None)
