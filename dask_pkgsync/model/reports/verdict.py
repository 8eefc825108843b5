"""The verdict of a check: whether a cluster would let a client with an environment in, and if not, why."""

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
from dask_pkgsync.model.wire.texts import one_line

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from dask_pkgsync.model.claims import FileConflict
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.target import Target

LET_IN, REFUSED, CONFLICT = OUTCOMES = ("let in", "refused", "conflict")

NOBODY_YET = "no environment is synced to this cluster: a sync would install this one on its nodes"
UNGUARDED = "no gate guards this cluster: Client(...) is let in with any environment; the verdict is about sync"
ONLY_WARNS = "this cluster only reports differences and installs nothing (pkgsync.mode is warn)"
MUST_PRESENT = (
    "this cluster lets in only clients that say what they have installed: add dask_pkgsync.preload to "
    "distributed.client.preload in your Dask configuration"
)
NAMED = 10
"""The most packages that a sentence names."""
MAX_NOTES = 100
"""The most notes of one verdict."""


@dataclass(frozen=True)
class Verdict:
    """Whether a cluster would let a client with a given environment in."""

    outcome: str
    """``let in``, ``refused``, or ``conflict``: the client would be let in, but its sync would conflict with the
    environment of another user."""
    reason: str = ""
    """Why the client would be refused, on one line, for people; empty for the other outcomes."""
    owner: str = ""
    """The other user of a conflict, for example ``ann@laptop``."""
    differences: Comparison = field(default_factory=lambda: Comparison((), "cluster", "client"))
    """The differences that lead to the outcome; in mode ``warn``, those that would be reported."""
    notes: tuple[str, ...] = ()
    """What else the user should know, one line each."""

    @property
    def is_let_in(self) -> bool:
        """Whether the client would be let in, and could sync without a conflict."""
        return self.outcome == LET_IN

    def page(self, where: str) -> str:
        """Return differences and notes as text, with the verdict on the last line.

        Parameters
        ----------
        where : str
            Address of the cluster, or path of the file, that was checked.
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
    """Return whether the sync of a client, which the operator policy lets in, would conflict with another client's.

    Parameters
    ----------
    asked : Target
        The target that the client would ask for.
    current : Target or None
        The target of the cluster.
    others : iterable of Target
        The targets that the connected clients of other users have claimed.
    file_conflicts : collection of FileConflict
        Pairs of distributions that are known to differ in a file.
    """
    for other in others:
        if differences := conflict(other, asked, file_conflicts):
            return Verdict(CONFLICT, "", other.owner, differences)
    return Verdict(LET_IN, notes=(NOBODY_YET,) if current is None else _changes(asked, current))


def local_code_left_out(environment: Environment, enforced: Target) -> tuple[str, ...]:
    """Return a note about the client's local code that an enforced environment lacks: tasks cannot import it."""
    names = [
        name
        for name, distribution in environment.distributions.items()
        if distribution.identity and name not in enforced.environment.distributions and name not in TOOLS
    ]
    if not names:
        return ()
    return (f"local code stays here, as the operator decides what the cluster has: {_some(names)}",)


def refused(differences: Comparison, *, enforced: bool) -> Verdict:
    """Return the verdict about an environment that is refused.

    Parameters
    ----------
    differences : Comparison
    enforced : bool
        Whether the environment must match that of the operator, or of a lock file; else only its critical packages
        must.
    """
    what = "what is enforced" if enforced else "critical packages"
    reason = f"it differs {'from' if enforced else 'in'} {what} ({_some([row.name for row in differences])})"
    return Verdict(REFUSED, reason, differences=differences)


def _changes(asked: Target, current: Target) -> tuple[str, ...]:
    """Return notes on the packages of the cluster that a sync would add, change or hide."""
    rows = list(compare(asked.environment, current.environment, asked.policy).without_critical_builds)
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
        "reason": one_line(verdict.reason, MAX_LONG_TEXT),
        "owner": one_line(verdict.owner, 200),
        "differences": comparison_to_wire(verdict.differences),
        "notes": [one_line(note, MAX_LONG_TEXT) for note in verdict.notes[:MAX_NOTES]],
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
        tuple(note.text(MAX_LONG_TEXT) for note in root.key("notes").items(MAX_NOTES)),
    )
