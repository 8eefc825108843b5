"""Conda packages: prefixes are built of them on nodes, and clients provide their archives."""
