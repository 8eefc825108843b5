"""Whether what two clients want of one cluster goes together, and what it is then."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.core.compare import Comparison, Difference, compare
from dask_pkgsync.core.policy import Level

if TYPE_CHECKING:
    from dask_pkgsync.core.messages import Target

INTERPRETER = "python"


def conflict(current: Target, asked: Target) -> Comparison:
    """Return what keeps a second client from having its environment beside the first one's; false if nothing does.

    Packages that both have must be the same; so must the options, as nodes follow one set of them. What only one has is
    no conflict, unless nothing else may be importable (``strict``).
    """
    labels = {"expected_label": "cluster", "found_label": "yours"}
    shared = current.environment.distributions.keys() & asked.environment.distributions.keys()
    found = compare(current.environment, asked.environment, asked.policy, **labels)
    rows = [row for row in found if asked.policy.strict or row.name in shared or row.name == INTERPRETER]
    if current.policy != asked.policy:
        rows.append(Difference("(options)", Level.EXACT, "the owner's", "others", "nodes follow one set of options"))
    return Comparison(tuple(rows), **labels)


def merge(current: Target, asked: Target) -> Target:
    """Return a target that has what both want, where they do not conflict."""
    both = [*current.environment.distributions.values(), *asked.environment.distributions.values()]
    return asked.with_environment(type(asked.environment).of(asked.environment.interpreter, both))
