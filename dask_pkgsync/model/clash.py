"""Two distributions with different files of one path, of which an environment can hold only one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.wire.fields import Field

if TYPE_CHECKING:
    from typing import Any


@dataclass(frozen=True, slots=True, order=True)
class Clash:
    """Two distributions that have different files of one path, of which an environment can hold only one."""

    one: str
    other: str
    path: str
    """The first of them, or that of a module whose name is a package in the other."""
    more: int = 0
    """How many there are besides."""

    def __str__(self) -> str:
        """Say what differs."""
        more = f" (and {self.more} more file{'s' * (self.more > 1)})" if self.more else ""
        return f"{self.one} and {self.other} differ in {self.path}{more}, and only one of them is there"


MAX_CLASHES = 1_000
"""Pairs of distributions that one report names."""


def clash_to_wire(clash: Clash) -> dict[str, Any]:
    """Return a clash as plain data."""
    return {"one": clash.one, "other": clash.other, "path": clash.path, "more": clash.more}


def clash_from_wire(data: object, place: str = "clash") -> Clash:
    """Check and read what `clash_to_wire` wrote."""
    field = Field(data, place)
    more = field.optional("more", 0).count()
    return Clash(field.key("one").name(), field.key("other").name(), field.key("path").text(), more)
