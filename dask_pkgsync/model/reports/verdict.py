"""Whether a cluster would let an environment in, and what is in the way."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.claims import conflict
from dask_pkgsync.model.comparison import MISSING, Comparison, compare, comparison_from_wire, comparison_to_wire
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.policy import TOOLS
from dask_pkgsync.model.text import harmless
from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT, Field
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dask_pkgsync.model.claims import FileConflict
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.target import Target

LET_IN, REFUSED, CONFLICT = OUTCOMES = ("let in", "refused", "conflict")

NOBODY_YET = "nothing is synced there: a sync would bring its nodes to this environment"
UNGUARDED = "nothing guards this cluster: Client(...) is let in with any environment, and this is what sync would say"
ONLY_WARNS = "differences are only told there, and nothing is installed (pkgsync.mode is warn)"
MUST_PRESENT = (
    "only clients that present what they have are let in: with dask_pkgsync.preload in distributed.client.preload"
)
NAMED = 10
"""Packages that a sentence names."""


@dataclass(frozen=True)
class Verdict:
    """What a cluster would do with a client that has an environment."""

    outcome: str
    """``let in``, ``refused`` or ``conflict``: let in, but its sync would meet another person's environment."""
    reason: str = ""
    """Why it would be refused, on one line, for people."""
    owner: str = ""
    """Whose environment is in the way, for example ``ann@laptop``."""
    differences: Comparison = field(default_factory=lambda: Comparison((), "cluster", "client"))
    """What it is about."""
    notes: tuple[str, ...] = ()
    """What else a person should know, a line each."""

    @property
    def is_let_in(self) -> bool:
        """Whether nothing is in the way."""
        return self.outcome == LET_IN

    def page(self, where: str) -> str:
        """Lay it out for people; the last line is the verdict.

        Parameters
        ----------
        where : str
            The cluster or file that it is about.
        """
        table = [str(self.differences), ""] if self.differences else []
        return harmless("\n".join([*table, *self.notes, f"{where}: {self._sentence()}"]))

    def _sentence(self) -> str:
        match self.outcome:
            case "refused":
                return f"would be refused: {self.reason}."
            case "conflict":
                return f"would conflict with the environment of {self.owner} (on-conflict decides)."
            case _:
                return "would be let in."


def judge(
    asked: Target, current: Target | None, others: Iterable[Target], file_conflicts: Collection[FileConflict] = ()
) -> Verdict:
    """Say what becomes of an environment that no rule of the cluster keeps out.

    Parameters
    ----------
    asked : Target
    current : Target or None
        What the cluster has.
    others : iterable of Target
        What other people want who are connected.
    file_conflicts : collection of FileConflict
        Distributions that are known to have the same files.
    """
    for one in others:
        if differences := conflict(one, asked, file_conflicts):
            return Verdict(CONFLICT, "", one.owner, differences)
    return Verdict(LET_IN, notes=(NOBODY_YET,) if current is None else _changes(asked, current))


def local_code_left_out(environment: Environment, enforced: Target) -> tuple[str, ...]:
    """Say which local code a client has that the operator's environment has not: tasks cannot import it."""
    names = [
        name
        for name, one in environment.distributions.items()
        if one.identity and name not in enforced.environment.distributions and name not in TOOLS
    ]
    if not names:
        return ()
    return (f"local code stays here, as the operator decides what the cluster has: {_some(names)}",)


def refused(differences: Comparison, *, enforced: bool) -> Verdict:
    """Return the verdict about an environment that is kept out.

    Parameters
    ----------
    differences : Comparison
    enforced : bool
        Whether everything must be as the operator, or the file, says; or only what is critical.
    """
    what = "what is enforced" if enforced else "critical packages"
    reason = f"it differs {'from' if enforced else 'in'} {what} ({_some([row.name for row in differences])})"
    return Verdict(REFUSED, reason, differences=differences)


def _changes(asked: Target, current: Target) -> tuple[str, ...]:
    """Say what a sync would change in what the cluster has."""
    rows = list(compare(asked.environment, current.environment, asked.policy))
    groups = {
        "add": [f"{row.name} {row.expected}" for row in rows if row.found == MISSING],
        "change": [f"{row.name} {row.expected}" for row in rows if MISSING not in (row.expected, row.found)],
        "hide": [row.name for row in rows if row.expected == MISSING],
    }
    return tuple(f"it would {verb} {_counted(names)}: {_some(names)}" for verb, names in groups.items() if names)


def _counted(names: list[str]) -> str:
    return f"{len(names)} {'package' if len(names) == 1 else 'packages'}"


def _some(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def verdict_to_wire(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as plain data."""
    return {
        "schema": SCHEMA,
        "outcome": verdict.outcome,
        "reason": verdict.reason,
        "owner": verdict.owner,
        "differences": comparison_to_wire(verdict.differences),
        "notes": list(verdict.notes),
    }


def verdict_from_wire(data: object, place: str = "verdict") -> Verdict:
    """Check and read what `verdict_to_wire` wrote."""
    root = Field(data, place)
    root.schema()
    outcome = root.key("outcome")
    if outcome.text(20) not in OUTCOMES:
        raise MessageError(outcome.place, " or ".join(OUTCOMES), outcome.value)
    return Verdict(
        outcome.value,
        root.key("reason").text(MAX_LONG_TEXT),
        root.key("owner").text(200),
        comparison_from_wire(root.key("differences")),
        tuple(note.text(MAX_LONG_TEXT) for note in root.key("notes").items(100)),
    )
