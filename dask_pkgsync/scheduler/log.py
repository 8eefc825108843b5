"""The lines that the scheduler's log has for the weighty events."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def sentence(event: Mapping[str, Any]) -> str | None:
    """Return the line of the log for an event; None for one that is not worth a line, or has one already."""
    line = _LINES.get(event["action"])
    if line is None or event.get("by") == "":
        return None
    shown = {name: ", ".join(map(str, one)) if isinstance(one, list) else one for name, one in event.items()}
    return line.format_map({**shown, "owner": event.get("owner") or "the operator"})


_LINES = {
    "conflict": "refused: the environment of {with} conflicts with that of {owner}",
    "released": "released by {by}",
    "replaced": "the environment of {owner} was replaced by that of {by}",
    "sync-failed": "a sync failed, and changed nothing: {failed}",
    "synced": "synced to environment {target:.12} for {owner}",
    "waiting": "{client} waits until {owner} has disconnected: {packages}",
}
