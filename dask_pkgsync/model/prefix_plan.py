"""Which conda packages a node needs in a prefix of its own, to stand in the place of its base."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dask_pkgsync.model.conda_comparison import CondaDifference, conda_differences, shipped
from dask_pkgsync.model.plan import Hide, Install, Replace, Skip

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.policy import Policy

Step: TypeAlias = Install | Replace | Hide | Skip


@dataclass(frozen=True)
class PrefixPlan:
    """The prefix that a node needs for a target with conda packages."""

    packages: tuple[CondaPackage, ...]
    """What the prefix holds, in the order of their names; empty if the node's own base will do."""
    steps: tuple[Step, ...] = ()
    """How it differs from the node's base, for reports."""


def make_prefix_plan(base: Environment, target: Environment, policy: Policy) -> PrefixPlan:
    """Decide whether a node needs a prefix for a target, and what it holds.

    Parameters
    ----------
    base : Environment
        The environment that the node had before any layer.
    target : Environment
        The environment that the node has to match.
    policy : Policy
        How closely each package has to match, and whether other packages may be there.
    """
    differences = list(conda_differences(target, base, policy))
    kept = [one for one in differences if one.only_build and one.rule.builds == "warn"]
    hidden = _hidden(base, target) if policy.strict else []
    if len(kept) == len(differences) and not hidden:
        return PrefixPlan((), tuple(map(_kept, kept)))
    steps = [*map(_step, differences), *(Hide(one.name, one.label) for one in hidden)]
    return PrefixPlan(shipped(target, policy), tuple(sorted(steps, key=lambda step: step.name)))


def _hidden(base: Environment, target: Environment) -> list[CondaPackage]:
    """Return the conda packages that only the base has; none if the target is no environment of conda."""
    return [one for one in base.conda.values() if target.conda and one.name not in target.conda]


def _step(difference: CondaDifference) -> Step:
    name, label = difference.package.name, difference.package.label
    return Replace(name, label, difference.found) if difference.found else Install(name, label)


def _kept(difference: CondaDifference) -> Skip:
    package = difference.package
    reason = f"another build than the client's: here {difference.found}, on the client {package.label}; builds is warn"
    return Skip(package.name, package.label, reason)
