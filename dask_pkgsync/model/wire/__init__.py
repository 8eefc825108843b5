"""What crosses processes: the protocol's version and names, and the checks of whatever comes in."""
