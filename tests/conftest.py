"""What all tests share: the lab, databases, and how hard hypothesis tries."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.engines.plugin", "tests.lab.plugin"]

settings.register_profile(
    "quick",
    max_examples=40,
    deadline=None,  # two cores that other work shares: a slow example proves nothing
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quick")
