"""How a commit in one process wakes the others."""
