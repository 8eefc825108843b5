"""The scheduler's side: which clients and workers may register, the target, and the rollout that brings nodes to it."""
