"""Tests for a machine with the kernel's WireGuard and systemd, which `scripts/vm` runs there."""

import os

if "VIRTUAL_MACHINE" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
