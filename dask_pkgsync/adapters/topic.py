"""Names that schedulers and clients know each other's messages by."""

TOPIC = "pkgsync"
"""Of the events of a scheduler, and in its metadata of the target's name."""
WANTED = "pkgsync-wanted"
"""What the scheduler sends on a client's stream to ask it for wheels."""
