"""Messages between processes: the version and the names of the protocol, and the checks of incoming data."""
