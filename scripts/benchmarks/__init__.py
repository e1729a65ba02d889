"""How fast nmk is beside the physical limit of its own parts: what `scripts/bench` measures."""
