"""The protocol between client, scheduler and nodes: its schema (version), and the names of its messages.

Every message that another release may read carries its schema. A release reads the schemas from `OLDEST` to `SCHEMA`,
and ignores keys that it does not know. So a key can be added without a new schema, if a reader has a default for older
messages that lack it.
"""

SCHEMA = 2
"""The schema of messages, and of environments in files, that this release writes: the newest that it reads."""
OLDEST = 2
"""The oldest schema that this release reads from other processes."""
FIRST_RELEASES = {1: "0.1.0", 2: "0.2.0"}
"""The first release of dask-pkgsync that wrote each schema."""

TOPIC = "pkgsync"
"""The topic of the scheduler's events, and the key of its `Announcement` in Dask's metadata."""
PRESENTED = "pkgsync"
"""The key in the versions of Dask's handshake under which a client presents its environment (`Presentation`)."""
TOLD = "pkgsync-told"
"""The ``op`` of the message by which the scheduler sends a client a text for its user."""
WANTED = "pkgsync-wanted"
"""The ``op`` of the message by which the scheduler asks a client for wheels."""
UNKNOWN_FINGERPRINT = "pkgsync: this scheduler does not know the environment of this fingerprint: present all of it"
"""The refusal of a client that is not recognised (`presentation.Recognition`). Clients tell it by this text, and then
present their whole environment, so it must not change."""
ONLY_WARNS = {"mode": "warn"}
"""The scheduler's answer to ``pkgsync_join`` in mode ``warn``: it installs nothing."""
