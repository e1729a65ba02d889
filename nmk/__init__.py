"""nmk: a self-hosted WireGuard mesh. Controller, agent and admin tool in one command."""

__version__ = "0.3.0"
