"""Whether what two clients want of one cluster goes together, and what it is then."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import Comparison, Difference, compare
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.policy import Level, Policy
from dask_pkgsync.model.text import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dask_pkgsync.model.blobs import BlobRequest
    from dask_pkgsync.model.target import Target


INTERPRETER = "python"
LONGEST = 60
"""Characters of the value of an option that a table shows."""


@dataclass(frozen=True, slots=True)
class FileConflict:
    """Two distributions of which one environment holds only the one or the other: they differ in a file of one path."""

    one: BlobRequest
    other: BlobRequest
    path: str

    def between(self, current: Target, asked: Target) -> Difference | None:
        """Return what is in the way where somebody has just one of them, and would get the file of the other."""
        has = [self._in(target) for target in (current, asked)]
        for mine, theirs in (has, reversed(has)):
            if len(mine) == 1 and not theirs <= mine:
                expected, found = (", ".join(sorted(f"{one.name} {one.version}" for one in side)) for side in has)
                return Difference(self.path, Level.EXACT, expected, found, "different code of one name")
        return None

    def _in(self, target: Target) -> set[BlobRequest]:
        there = target.environment.distributions
        return {one for one in (self.one, self.other) if one.is_met_by(there.get(one.name))}


def conflict(current: Target, asked: Target, file_conflicts: Iterable[FileConflict] = ()) -> Comparison:
    """Return what keeps a second client from having its environment beside the first one's; false if nothing does.

    Packages that both have must be the same; so must the options, as nodes follow one set of them. What only one has is
    no conflict, unless nothing else may be importable (``strict``), or it is known to have the other's files.
    """
    labels = {"expected_label": "cluster", "found_label": "yours"}
    shared = current.environment.distributions.keys() & asked.environment.distributions.keys()
    found = compare(current.environment, asked.environment, asked.policy, **labels)
    rows = [row for row in found if asked.policy.strict or row.name in shared or row.name == INTERPRETER]
    rows += _other_options(current.policy, asked.policy)
    rows += filter(None, (one.between(current, asked) for one in file_conflicts))
    return Comparison(tuple(rows), **labels)


def _other_options(current: Policy, asked: Policy) -> Iterator[Difference]:
    for one in fields(Policy):
        theirs, yours = getattr(current, one.name), getattr(asked, one.name)
        if theirs != yours:
            name = f"(option {one.name.replace('_', '-')})"
            shown = (_shown(theirs, yours), _shown(yours, theirs))
            yield Difference(name, Level.EXACT, *shown, "nodes follow one set of options")


def _shown(value: object, other: object) -> str:
    """Return the value of an option for a table; of a list what the other one does not have."""
    if value is None:
        return "none"
    if not isinstance(value, frozenset | tuple):
        return str(value).lower()
    besides = other if isinstance(other, frozenset | tuple) else ()
    names = [one if isinstance(one, str) else f"{one[0]}: {one[1].value}" for one in value if one not in besides]
    text = ", ".join(sorted(names) if isinstance(value, frozenset) else names)
    nothing = "in another order" if value and len(value) == len(besides) else "without these"
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]}…") or nothing


def merge(current: Target, asked: Target) -> Target:
    """Return a target that has what both want, where they do not conflict."""
    both = [*current.environment.distributions.values(), *asked.environment.distributions.values()]
    return asked.with_environment(type(asked.environment).of(asked.environment.interpreter, both))


class ConflictError(PkgsyncError):
    """Another client has set what the cluster is to have, is still connected, and it does not go together with this.

    Attributes
    ----------
    owner : str
        Who that is, for example ``ann@laptop``.
    comparison : Comparison
        Every difference that is in the way.
    """

    def __init__(self, owner: str, comparison: Comparison) -> None:
        super().__init__(owner, comparison)
        self.owner, self.comparison = owner, comparison

    def __str__(self) -> str:
        """Say who, what, and which choices there are."""
        return harmless(
            f"This cluster has the environment of {self.owner}, who is still connected, and yours conflicts with it. "
            f"Nothing was changed.\n\n{self.comparison}\n\n"
            "Your choices (for Client(...) configure pkgsync.on-conflict, pkgsync.modules, pkgsync.ignore):\n"
            + "\n".join(f"- {choice}" for choice in self._choices())
        )

    def _choices(self) -> Iterator[str]:
        names = [row.name for row in self.comparison]
        loose = [name for name in names if name.startswith("module-")]
        if loose:
            yield (
                f"{', '.join(loose)}, from beside a script or from PYTHONPATH: where your tasks do not need yours, "
                "name\n  in modules=[...] what they need, else give yours another name"
            )
        if len(loose) < len(names):
            yield "install the versions of the cluster, or name these packages in ignore"
        yield f"let {self.owner} close their client, or wait for that: on_conflict='wait'"
        yield "take their environment away: on_conflict='replace' (their workers may be restarted)"
