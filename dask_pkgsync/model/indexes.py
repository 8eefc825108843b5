"""Where packages come from: indexes and directories of wheels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.wire.fields import Field

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_INDEXES = 50
_SCHEMES = ("https://", "http://", "file://")


@dataclass(frozen=True)
class Indexes:
    """What an installer is told about where to look. Empty: whatever it looks at by itself."""

    default: str = ""
    """URL of the main index (PEP 503)."""
    extra: tuple[str, ...] = ()
    """URLs of further ones."""
    find_links: tuple[str, ...] = ()
    """URLs of pages, or directories, with links to wheels."""
    no_index: bool = False
    """Whether indexes are not looked at."""
    equal: bool = False
    """Whether the best version of all indexes is taken, as pip does, or that of the first index which knows the
    package, as uv does (so that nobody can put a package of the same name into another index)."""

    @property
    def configured(self) -> bool:
        """Whether anything is said at all."""
        return self != OWN

    def nowhere(self) -> Indexes:
        """Return what says: look at no index."""
        return Indexes(no_index=True)


OWN = Indexes()
"""What the installer looks at by itself."""


def indexes_to_wire(indexes: Indexes) -> dict[str, Any]:
    """Return indexes as plain data."""
    return {
        "default": indexes.default,
        "extra": list(indexes.extra),
        "find-links": list(indexes.find_links),
        "no-index": indexes.no_index,
        "equal": indexes.equal,
    }


def indexes_from_wire(data: object, place: str = "indexes") -> Indexes:
    """Check and read what `indexes_to_wire` wrote: URLs, and for ``find-links`` also absolute paths."""
    field = Field(data, place)
    default = field.key("default")
    return Indexes(
        "" if default.value == "" else _url(default),
        tuple(_url(entry) for entry in _bounded(field.key("extra"))),
        tuple(_url(entry, "/") for entry in _bounded(field.key("find-links"))),
        field.key("no-index").flag(),
        field.key("equal").flag(),
    )


def _bounded(field: Field) -> Sequence[Field]:
    entries = list(field.items())
    if len(entries) > MAX_INDEXES:
        raise MessageError(field.place, f"at most {MAX_INDEXES} entries", f"{len(entries)} entries")
    return entries


def _url(field: Field, *also: str) -> str:
    found = field.text()
    if not found.startswith((*_SCHEMES, *also)) or any(character.isspace() for character in found):
        scheme, separator, _ = found.partition("://")  # the rest may hold a password
        raise MessageError(field.place, "the URL of an index", f"{scheme}{separator}…" if separator else "no URL")
    return found
