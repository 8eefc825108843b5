"""What the nodes of another platform get: the question to a resolver, its answer, and what differs from the client."""
