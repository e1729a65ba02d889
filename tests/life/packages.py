"""Debian packages for one host of the lab: the machine itself installs nothing."""

from __future__ import annotations

import subprocess

from tests.lab import Host

_INSTALL = (
    "apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends",
    "--option=Dpkg::Options::=--force-unsafe-io", "--option=Dpkg::Options::=--no-triggers",
    "--option=DPkg::NoTriggers=true", "--option=DPkg::TriggersPending=false",
)  # fmt: skip
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive"}


def fetch(*packages: str) -> None:
    """Download packages that the machine lacks, to where hosts find them; before there are any."""
    if _download(packages).returncode:
        subprocess.run(["apt-get", "update", "--quiet=2"], check=True, timeout=300)
        done = _download(packages)
        assert done.returncode == 0, done.stderr


def _download(packages: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_INSTALL, "--download-only", *packages],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def install(host: Host, *packages: str) -> None:
    """Install packages that were fetched, in a host; none of their services is started."""
    host.write("/usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", mode=0o755)
    host.run(*_INSTALL, "--no-download", *packages, env=_ENVIRONMENT)
