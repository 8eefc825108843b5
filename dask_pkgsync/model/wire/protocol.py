"""Names that schedulers and clients know each other's messages by."""

SCHEMA = 1
"""Version of the form of messages, and of environments in files."""
TOPIC = "pkgsync"
"""Of the events of a scheduler, and in its metadata of its mode and the target's name."""
TOLD = "pkgsync-told"
"""What the scheduler sends to a client whose person should know of something."""
ONLY_WARNS = {"mode": "warn"}
"""What a scheduler answers who would join, where differences are only told."""
WANTED = "pkgsync-wanted"
"""What the scheduler sends on a client's stream to ask it for wheels."""
