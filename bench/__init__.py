"""Figures beside their limits. `make bench` runs all of them; `python -m bench NAME ...` runs some."""
