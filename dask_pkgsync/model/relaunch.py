"""The permission to relaunch a cluster, what speaks against it, and how it went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.wire.texts import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dask_pkgsync.model.wire.fields import Field

RELAUNCHES = ("never", "idle", "now")
"""The values of ``relaunch``, from the least that is allowed to the most."""
MAX_OBSTACLES = 100
"""The most obstacles that one message names."""


@dataclass(frozen=True)
class Obstacle:
    """Something that a relaunch would destroy."""

    what: str
    """For example ``published dataset prices``."""
    whose: str = ""
    """Whose it is, as far as the scheduler knows, for example ``ann@laptop``."""

    def __str__(self) -> str:
        """Name the thing, and whose it is."""
        return f"{self.what} ({self.whose})" if self.whose else self.what


class RelaunchRefusedError(PkgsyncError):
    """The cluster is not relaunched, because somebody would lose something.

    Attributes
    ----------
    obstacles : tuple of Obstacle
        What would be lost, and whose it is.
    """

    def __init__(self, obstacles: Iterable[Obstacle]) -> None:
        self.obstacles = tuple(obstacles)
        super().__init__(self.obstacles)

    def __str__(self) -> str:
        """List what would be lost, and say what to do."""
        listed = "\n".join(f"  {obstacle}" for obstacle in self.obstacles)
        return (
            "This cluster is not relaunched in another interpreter, because it is not idle (relaunch is idle). "
            f"A relaunch would end or lose:\n\n{listed}\n\n"
            "Wait until it is no longer needed, or relaunch all the same, and lose it: relaunch='now'."
        )


def obstacles_to_wire(obstacles: Iterable[Obstacle]) -> list[dict[str, Any]]:
    """Return obstacles as plain data."""
    listed = list(obstacles)
    shown = [{"what": one_line(one.what), "whose": one_line(one.whose)} for one in listed[:MAX_OBSTACLES]]
    if len(listed) > MAX_OBSTACLES:
        shown[-1] = {"what": f"and {len(listed) - MAX_OBSTACLES + 1} more", "whose": ""}
    return shown


def obstacles_from_wire(field: Field) -> tuple[Obstacle, ...]:
    """Check and read what `obstacles_to_wire` wrote."""
    return tuple(Obstacle(one.key("what").text(), one.key("whose").text()) for one in field.items(MAX_OBSTACLES))


def lesser(asked: str, allowed: str) -> str:
    """Return the lesser of two permissions."""
    return RELAUNCHES[min(RELAUNCHES.index(asked), RELAUNCHES.index(allowed))]
