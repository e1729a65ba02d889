"""The controller: use cases over a snapshot in memory, behind two HTTP listeners."""
