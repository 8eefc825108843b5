"""Changes running processes: puts layers on their search path, and starts their children in layers."""
