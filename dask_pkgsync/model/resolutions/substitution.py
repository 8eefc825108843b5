"""What the nodes of another platform get in place of a package of the client, and the table of all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.text import html_table, text_table
from dask_pkgsync.model.wire.texts import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.model.wire.fields import Field


KINDS = ("near", "compatible", "left out", "foreign", "added", "refused")
"""The kinds of a `Substitution`."""


@dataclass(frozen=True, slots=True)
class Substitution:
    """A package that the nodes of a platform do not get as the client has it."""

    platform: str
    """For example ``linux-x86_64``."""
    name: str
    """Canonical name of the package."""
    asked: str
    """The client's version; empty if the client does not have the package."""
    got: str
    """The version that the nodes get; empty if they do not get the package."""
    why: str
    """The reason, for people."""
    kind: str = "near"
    """``near``: another release of the same X.Y. ``compatible``: a later X.Y, which ``levels`` allow. ``left out``:
    there is none for the platform. ``foreign``: it is for the client's operating system only. ``added``: the client
    lacks it, and another package needs it there. ``refused``: it has to be exact, and is not there."""

    @property
    def matters(self) -> bool:
        """Whether tasks may notice."""
        return self.kind in ("compatible", "left out", "refused")

    @property
    def differs(self) -> bool:
        """Whether the client has the package, and the nodes should, but not so."""
        return self.matters or self.kind == "near"


def _cells(rows: Sequence[Substitution]) -> tuple[list[str], list[list[str]]]:
    several = len({row.platform for row in rows}) > 1
    head = ["package", "asked", "got", "why", *(["platform"] if several else [])]
    return head, [
        [row.name, row.asked or "-", row.got or "left out", row.why, *([row.platform] if several else [])]
        for row in rows
    ]


def table(rows: Sequence[Substitution]) -> str:
    """Return substitutions as a table: asked, got, why."""
    return text_table(*_cells(rows))


def table_html(rows: Sequence[Substitution]) -> str:
    """Return substitutions as a table in HTML."""
    return html_table(*_cells(rows))


def substitution_to_wire(row: Substitution) -> dict[str, str]:
    """Return a substitution as plain data."""
    texts = {"platform": row.platform, "name": row.name, "asked": row.asked, "got": row.got, "why": row.why}
    return {**{key: one_line(text) for key, text in texts.items()}, "kind": row.kind}


def substitution_from_wire(field: Field) -> Substitution:
    """Check and read what `substitution_to_wire` wrote."""
    platform, name, asked, got, why = (field.key(key).text() for key in ("platform", "name", "asked", "got", "why"))
    kind = field.key("kind")
    if kind.text(20) not in KINDS:
        raise MessageError(kind.place, f"one of {', '.join(KINDS)}", kind.value)
    return Substitution(platform, name, asked, got, why, kind.text(20))
