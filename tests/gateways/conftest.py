"""What the tests of gateways share: one lab and one mesh a module."""

from tests.e2e.conftest import lab, mesh

__all__ = ["lab", "mesh"]
