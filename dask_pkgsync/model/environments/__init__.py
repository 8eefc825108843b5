"""What an environment is: an interpreter, its distributions, and where each came from."""
