"""Which release of dask-pkgsync speaks which schemas, and who has to upgrade where two have none in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.wire.protocol import FIRST_RELEASES, OLDEST, SCHEMA
from dask_pkgsync.version import __version__

if TYPE_CHECKING:
    from typing import Any

    from dask_pkgsync.model.wire.fields import Field


@dataclass(frozen=True, slots=True)
class Release:
    """A release of dask-pkgsync, by the schemas that it speaks."""

    version: str
    """For example ``0.2.0``; empty where it did not say, as before 0.2.0."""
    oldest: int
    """The oldest schema that it reads."""
    newest: int
    """The newest schema that it reads."""

    def __str__(self) -> str:
        """Say which one it is."""
        return f"dask-pkgsync {self.version or f'before {FIRST_RELEASES[2]}'}"

    @property
    def schemas(self) -> str:
        """What it speaks, for people, for example ``schema 2`` or ``schemas 2 to 3``."""
        return f"schema {self.newest}" if self.oldest == self.newest else f"schemas {self.oldest} to {self.newest}"


THIS = Release(__version__, OLDEST, SCHEMA)
"""The release that this code is of."""
UNTOLD = Release("", 1, 1)
"""What wrote a message that says nothing of its release."""


class ReleaseMismatchError(PkgsyncError):
    """Two processes have releases of dask-pkgsync that have no schema in common.

    Attributes
    ----------
    older, newer : Release
        The two.
    place : str
        Where the older one is, for example ``the client``.
    other : str
        Where the newer one is.
    """

    def __init__(self, older: Release, newer: Release, place: str, other: str) -> None:
        super().__init__(older, newer, place, other)
        self.older, self.newer, self.place, self.other = older, newer, place, other

    def __str__(self) -> str:
        """Say who speaks what, and who has to upgrade to what."""
        wanted = FIRST_RELEASES.get(self.newer.oldest, self.newer.version)
        return (
            f"{self.older} on {self.place} speaks {self.older.schemas} of the protocol, and {self.newer} on "
            f"{self.other} speaks {self.newer.schemas}: they cannot work together. Upgrade it on {self.place} to "
            f"{wanted} or newer: pip install 'dask-pkgsync>={wanted}'."
        )


def agree(theirs: Release, *, here: str, there: str) -> int:
    """Return the newest schema that this release and another one both speak.

    Parameters
    ----------
    theirs : Release
    here, there : str
        Where the two are, for people, for example ``the client`` and ``the cluster's scheduler``.

    Raises
    ------
    ReleaseMismatchError
        If there is none.
    """
    if theirs.newest < THIS.oldest:
        raise ReleaseMismatchError(theirs, THIS, there, here)
    if theirs.oldest > THIS.newest:
        raise ReleaseMismatchError(THIS, theirs, here, there)
    return min(THIS.newest, theirs.newest)


def release_to_wire(release: Release) -> dict[str, Any]:
    """Return a release as plain data; this form never changes."""
    return {"version": release.version, "oldest": release.oldest, "newest": release.newest}


def release_from_wire(field: Field) -> Release:
    """Check and read what `release_to_wire` wrote; `UNTOLD` where there is nothing."""
    if field.value is None:
        return UNTOLD
    return Release(field.key("version").text(50), field.key("oldest").count(), field.key("newest").count())
