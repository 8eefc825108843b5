"""An environment: an interpreter and its distributions, each with its origin."""
