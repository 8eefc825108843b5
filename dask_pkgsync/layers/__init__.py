"""Builds layers: content-addressed virtual environments in front of a base, filled and verified."""
