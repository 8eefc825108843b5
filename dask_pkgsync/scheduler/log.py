"""The lines that the scheduler logs for important events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def sentence(event: Mapping[str, Any]) -> str | None:
    """Return the line to log for an event; None for an event that gets no line, or that is logged where it happens."""
    line = _LINES.get(event["action"])
    if line is None or event.get("by") == "":
        return None
    shown = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in event.items()}
    return line.format_map({**shown, "owner": event.get("owner") or "the operator"})


_LINES = {
    "conflict": "a sync was refused: the environment of {with} conflicts with that of {owner}",
    "released": "the cluster was released by {by}",
    "replaced": "the environment of {owner} was replaced by that of {by}",
    "sync-failed": "a sync failed and changed nothing, because of the nodes {failed}",
    "synced": "synced to environment {target:.12} for {owner}",
    "waiting": "the sync of {client} waits until {owner} has disconnected, as their environments differ in: {packages}",
}
"""By action, the line to log; the fields of the event are filled in."""
