"""A TON chain in one process for development and tests. Never imported by the rest of the package."""
