"""What runs in a client's process: the public functions, the plugin, and the answers to the scheduler."""
