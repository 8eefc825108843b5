"""Changes running processes: what they have imported, live activation, where their children start."""
