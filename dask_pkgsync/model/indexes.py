"""Which package indexes and directories of wheels an installer uses."""

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
    """The indexes that an installer uses. An empty one leaves the choice to the installer's own configuration."""

    default: str = ""
    """URL of the main index (PEP 503)."""
    extra: tuple[str, ...] = ()
    """URLs of additional indexes."""
    find_links: tuple[str, ...] = ()
    """URLs of pages, or absolute paths of directories, that list wheels."""
    no_index: bool = False
    """Whether the installer uses no index at all."""
    equal: bool = False
    """True: the installer takes the best version of all indexes, as pip does. False: it takes a version of the first
    index that has the package, as uv does, so that nobody can supply a package of that name on another index."""

    @property
    def configured(self) -> bool:
        """Whether any of the settings differs from its default."""
        return self != OWN

    def nowhere(self) -> Indexes:
        """Return settings that keep an installer from using any index."""
        return Indexes(no_index=True)


OWN = Indexes()
"""No settings: the installer uses the indexes of its own configuration."""


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
    url = field.text()
    if not url.startswith((*_SCHEMES, *also)) or any(character.isspace() for character in url):
        scheme, separator, _ = url.partition("://")  # the error must not show the rest, which may hold a password
        raise MessageError(field.place, "the URL of an index", f"{scheme}{separator}…" if separator else "no URL")
    return url
