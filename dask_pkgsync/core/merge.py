"""Whether what two clients want of one cluster goes together, and what it is then."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from dask_pkgsync.core.compare import Comparison, Difference, compare
from dask_pkgsync.core.policy import Level, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dask_pkgsync.core.messages import Target
    from dask_pkgsync.core.parcels import Request

INTERPRETER = "python"
LONGEST = 60
"""Characters of the value of an option that a table shows."""


@dataclass(frozen=True, slots=True)
class Apart:
    """Two distributions that one environment cannot hold: each has other files of the same path."""

    one: Request
    other: Request
    path: str

    def between(self, current: Target, asked: Target) -> Difference | None:
        """Return what is in the way where each target has one of them; None where neither, or one of them has both."""
        here, there = (target.environment.distributions for target in (current, asked))
        for one, other in ((self.one, self.other), (self.other, self.one)):
            mine, theirs = here.get(one.name), there.get(other.name)
            if one.is_met_by(mine) and other.is_met_by(theirs) and other.name not in here and one.name not in there:
                expected, found = (f"{request.name} {request.version}" for request in (one, other))
                return Difference(self.path, Level.EXACT, expected, found, "different code of one name")
        return None


def conflict(current: Target, asked: Target, apart: Iterable[Apart] = ()) -> Comparison:
    """Return what keeps a second client from having its environment beside the first one's; false if nothing does.

    Packages that both have must be the same; so must the options, as nodes follow one set of them. What only one has is
    no conflict, unless nothing else may be importable (``strict``), or it is known to have the other's files.
    """
    labels = {"expected_label": "cluster", "found_label": "yours"}
    shared = current.environment.distributions.keys() & asked.environment.distributions.keys()
    found = compare(current.environment, asked.environment, asked.policy, **labels)
    rows = [row for row in found if asked.policy.strict or row.name in shared or row.name == INTERPRETER]
    rows += _other_options(current.policy, asked.policy)
    rows += filter(None, (one.between(current, asked) for one in apart))
    return Comparison(tuple(rows), **labels)


def _other_options(current: Policy, asked: Policy) -> Iterator[Difference]:
    for one in fields(Policy):
        theirs, yours = (_shown(getattr(policy, one.name)) for policy in (current, asked))
        if theirs != yours:
            name = f"(option {one.name.replace('_', '-')})"
            yield Difference(name, Level.EXACT, theirs, yours, "nodes follow one set of options")


def _shown(value: object) -> str:
    """Return the value of an option for a table."""
    match value:
        case frozenset():
            text = ", ".join(sorted(value))
        case tuple():
            text = ", ".join(one if isinstance(one, str) else f"{one[0]}: {one[1].value}" for one in value)
        case None | bool():
            text = str(value).lower() if value is not None else ""
        case _:
            text = str(value)
    return (text if len(text) <= LONGEST else f"{text[:LONGEST]}…") or "none"


def merge(current: Target, asked: Target) -> Target:
    """Return a target that has what both want, where they do not conflict."""
    both = [*current.environment.distributions.values(), *asked.environment.distributions.values()]
    return asked.with_environment(type(asked.environment).of(asked.environment.interpreter, both))
