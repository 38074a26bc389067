"""Every business parameter, declared once: its type, unit, bounds, default and meaning."""
