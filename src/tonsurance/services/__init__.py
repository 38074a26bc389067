"""Use cases: the only place where I/O and core meet."""
