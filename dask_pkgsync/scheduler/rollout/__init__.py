"""How every node of a cluster gets to a target, and back."""
