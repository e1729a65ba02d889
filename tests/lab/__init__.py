"""Hosts, LANs and an internet made of namespaces, to try real tunnels on one machine.

    with Lab() as lab:
        internet = lab.internet()
        home = lab.lan("home", "192.168.1.0/24", nat="port-restricted", behind=internet)
        laptop = lab.host("laptop", on=home)
        server = lab.host("server", on=internet)
        laptop.run("ping", "-c1", server.address)

Nothing of it reaches the machine's own network or files, and nothing of it is left behind,
however the process that made it ends. Standard library only; needs root and Linux.
"""

from .disk import SHARED
from .errors import CommandFailed, LabError
from .host import Host, Link
from .lab import Lab
from .nat import Nat
from .network import Network
from .polling import patient, poll
from .process import Process

__all__ = [
    "SHARED",
    "CommandFailed",
    "Host",
    "Lab",
    "LabError",
    "Link",
    "Nat",
    "Network",
    "Process",
    "patient",
    "poll",
]
