"""Nannies and workers: they prepare, activate and verify the environment."""
