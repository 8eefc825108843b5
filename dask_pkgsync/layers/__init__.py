"""Builds layers: content-addressed virtual environments that are put in front of a base, or stand alone."""
