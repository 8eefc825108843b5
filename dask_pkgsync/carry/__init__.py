"""Carries this package, as source, to processes that do not have it installed."""
