"""Carries this package, as source, to processes where it is not installed."""
