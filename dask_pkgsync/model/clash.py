"""Two distributions that install different files at one path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.texts import one_line

if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Clash:
    """Two distributions that install different files at one path, so that an environment can hold only one of them."""

    one: str
    """Canonical name of one distribution."""
    other: str
    """Canonical name of the other distribution."""
    path: str
    """The first path in which they differ, or the path of a module that is a package in the other distribution."""
    more: int = 0
    """Number of further paths in which they differ."""

    def __str__(self) -> str:
        """Name the two distributions and the paths in which they differ."""
        more = f" (and {self.more} more file{'s' * (self.more > 1)})" if self.more else ""
        return f"{self.one} and {self.other} differ in {self.path}{more}, and only one of them is there"


MAX_CLASHES = 1_000
"""The most pairs of distributions that one report names."""


def clash_to_wire(clash: Clash) -> dict[str, Any]:
    """Return a clash as plain data."""
    return {"one": clash.one, "other": clash.other, "path": one_line(clash.path), "more": clash.more}


def clash_from_wire(data: object, place: str = "clash") -> Clash:
    """Check and read what `clash_to_wire` wrote."""
    field = Field(data, place)
    more = field.optional("more", 0).count()
    return Clash(field.key("one").name(), field.key("other").name(), field.key("path").text(), more)
