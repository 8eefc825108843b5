"""The protocol between client, scheduler and nodes: its schema, and the names that messages are known by.

Every message that another release may read carries the schema of its form. A release reads the schemas of its window,
from `OLDEST` to `SCHEMA`, and passes over keys that it does not know; so a key can be added without a new schema, and
one that is missing in older messages has a default.
"""

SCHEMA = 2
"""The newest form of messages, and of environments in files; this release writes it."""
OLDEST = 2
"""The oldest form that this release reads from other processes."""
FIRST_RELEASES = {1: "0.1.0", 2: "0.2.0"}
"""The first release that spoke each schema."""

TOPIC = "pkgsync"
"""Of the events of a scheduler, and in its metadata of its mode, its release and the target's name."""
PRESENTED = "pkgsync"
"""The key in the versions of Dask's handshake under which a client presents what it has."""
TOLD = "pkgsync-told"
"""What the scheduler sends to a client whose person should know of something."""
WANTED = "pkgsync-wanted"
"""What the scheduler sends on a client's stream to ask it for wheels."""
ONLY_WARNS = {"mode": "warn"}
"""What a scheduler answers who would join or sync, where differences are only told."""
