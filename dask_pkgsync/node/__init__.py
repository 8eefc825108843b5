"""The side of the nannies and workers: they prepare, activate and verify the target's environment."""
