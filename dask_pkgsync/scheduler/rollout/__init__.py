"""The rollout: brings every node of a cluster to a target, and back to its base."""
