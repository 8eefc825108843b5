"""Whether the targets that two clients claim of one cluster conflict, and the merged target if they do not."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import MISSING, Comparison, Difference, compare
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.policy import Level, Policy
from dask_pkgsync.model.text import harmless

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dask_pkgsync.model.blobs import BlobRequest
    from dask_pkgsync.model.target import Target


INTERPRETER = "python"
MAX_OPTION_TEXT = 60
"""The most characters of an option's value that a table shows."""


@dataclass(frozen=True, slots=True)
class FileConflict:
    """Two distributions that install different files at one path, so that an environment can hold only one of them."""

    one: BlobRequest
    other: BlobRequest
    path: str
    """Path of the file, relative to ``site-packages``."""

    def between(self, current: Target, asked: Target) -> Difference | None:
        """Return a difference if one target has only one of the distributions, and the other target has the other one.

        In a merged environment the first client could get the file of the distribution that it does not have.
        """
        present = [self._in(target) for target in (current, asked)]
        for mine, theirs in (present, reversed(present)):
            if len(mine) == 1 and not theirs <= mine:
                expected, found = (
                    ", ".join(sorted(f"{request.name} {request.version}" for request in side)) for side in present
                )
                return Difference(self.path, Level.EXACT, expected, found, "different code of one name")
        return None

    def _in(self, target: Target) -> set[BlobRequest]:
        """Return which of the two distributions a target has."""
        return {request for request in (self.one, self.other) if request.is_met_in(target.environment)}


def conflict(current: Target, asked: Target, file_conflicts: Iterable[FileConflict] = ()) -> Comparison:
    """Compare two targets of one cluster and return the differences that keep them from being merged.

    A package that both targets have must be the same in both. The options must be the same too, because a node follows
    one set of options. A package that only one target has is no conflict, unless the policy that is asked for is
    ``strict`` (nothing else may be importable), or the package is known to differ in a file from one of the other
    target.

    Parameters
    ----------
    current : Target
        The target of the cluster.
    asked : Target
        The target that another client asks for.
    file_conflicts : iterable of FileConflict
        Pairs of distributions that are known to differ in a file.

    Returns
    -------
    Comparison
        False if the targets can be merged.
    """
    labels = {"expected_label": "cluster", "found_label": "yours"}
    shared = current.environment.distributions.keys() & asked.environment.distributions.keys()
    differences = compare(current.environment, asked.environment, asked.policy, **labels).without_critical_builds
    shared |= {row.name for row in differences if row.name in current.environment.conda and row.found != MISSING}
    rows = [row for row in differences if asked.policy.strict or row.name in shared or row.name == INTERPRETER]
    rows += _differing_options(current.policy, asked.policy)
    rows += filter(None, (file_conflict.between(current, asked) for file_conflict in file_conflicts))
    return Comparison(tuple(rows), **labels)


def _differing_options(current: Policy, asked: Policy) -> Iterator[Difference]:
    for option in fields(Policy):
        theirs, yours = getattr(current, option.name), getattr(asked, option.name)
        if theirs != yours:
            name = f"(option {option.name.replace('_', '-')})"
            texts = (_option_text(theirs, yours), _option_text(yours, theirs))
            yield Difference(name, Level.EXACT, *texts, "nodes follow one set of options")


def _option_text(value: object, other: object) -> str:
    """Return the value of an option for a table; of a list only the entries that the other value lacks."""
    if value is None:
        return "none"
    if not isinstance(value, frozenset | tuple):
        return str(value).lower()
    others = other if isinstance(other, frozenset | tuple) else ()
    names = [
        entry if isinstance(entry, str) else f"{entry[0]}: {entry[1].value}" for entry in value if entry not in others
    ]
    text = ", ".join(sorted(names) if isinstance(value, frozenset) else names)
    without_names = "in another order" if value and len(value) == len(others) else "without these"
    return (text if len(text) <= MAX_OPTION_TEXT else f"{text[:MAX_OPTION_TEXT]}…") or without_names


def merge(current: Target, asked: Target) -> Target:
    """Return a target with the distributions of two targets that do not conflict (see `conflict`)."""
    both = [*current.environment.distributions.values(), *asked.environment.distributions.values()]
    conda = {**asked.environment.conda, **current.environment.conda}
    return asked.with_environment(type(asked.environment).of(asked.environment.interpreter, both, (), conda.values()))


class ConflictError(PkgsyncError):
    """The environment of another client, which is still connected, conflicts with the one that this client asks for.

    Attributes
    ----------
    owner : str
        User of the other client, for example ``ann@laptop``.
    comparison : Comparison
        Every difference that keeps the cluster from having both environments.
    """

    def __init__(self, owner: str, comparison: Comparison) -> None:
        super().__init__(owner, comparison)
        self.owner, self.comparison = owner, comparison

    def __str__(self) -> str:
        """Name the other user, the differences and the user's choices."""
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
                f"{', '.join(loose)} (modules beside a script or on PYTHONPATH): if your tasks do not need yours, "
                "list\n  in modules=[...] the modules that they do need; else rename yours"
            )
        if len(loose) < len(names):
            yield "install the versions of the cluster, or name these packages in ignore"
        yield f"let {self.owner} close their client, or wait for that: on_conflict='wait'"
        yield "take their environment away: on_conflict='replace' (their workers may be restarted)"
