"""The agent: one machine's side of its networks."""
