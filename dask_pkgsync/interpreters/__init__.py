"""Finds interpreters for targets, probes them, and packs one to be sent."""
