"""Compares the conda packages of an environment with what another environment has, package by package.

A conda package and its distributions are one package: a policy that names any of them means all of them, so that
``ignore=["msgpack"]`` also means the conda package ``msgpack-python``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import FromConda
from dask_pkgsync.model.policy import CRITICAL, Level, Rule
from dask_pkgsync.model.versions import compatible, same_version

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.policy import Policy


@dataclass(frozen=True, slots=True)
class CondaDifference:
    """A conda package that another environment does not have so."""

    package: CondaPackage
    rule: Rule
    found: str
    """Version and build of the package there, or the version of its distribution that pip or uv has installed there;
    empty if neither is there."""
    only_build: bool = False
    """Whether the version is the same, and only the build differs."""


def conda_rule(package: CondaPackage, policy: Policy) -> Rule:
    """Return how closely a conda package has to match; never ``critical``, as its distributions are judged for that."""
    rules = {name: policy.rule(name) for name in sorted(package.names)}
    ignoring = [rule for name, rule in rules.items() if rule.level is Level.IGNORE and is_ignored(name, policy)]
    matching = [rule for rule in rules.values() if rule.level is not Level.IGNORE]
    chosen = next(iter((*ignoring, *matching, *rules.values())))
    return replace(chosen, level=Level.EXACT) if chosen.level is Level.CRITICAL else chosen


def is_ignored(name: str, policy: Policy) -> bool:
    """Whether a policy says that a package is ignored: it is not only a tool, or not named in ``only``."""
    rule = policy.rule(name)
    return rule.level is Level.IGNORE and (name in policy.ignore or rule.reason.startswith("levels:"))


def conda_differences(expected: Environment, found: Environment, policy: Policy) -> Iterator[CondaDifference]:
    """Yield the conda packages of an expected environment that another one does not have as a policy wants them."""
    for package in expected.conda.values():
        rule = conda_rule(package, policy)
        if rule.level is not Level.IGNORE and (found_one := _difference(package, rule, expected, found)) is not None:
            yield found_one


def _difference(package: CondaPackage, rule: Rule, expected: Environment, found: Environment) -> CondaDifference | None:
    """Return how a conda package differs from what an environment has of it; None if that is as the rule wants it."""
    have = found.conda.get(package.name)
    if have is not None:
        if not _satisfied(package.version, have.version, rule.level):
            return CondaDifference(package, rule, have.label)
        if rule.builds == "ignore" or have.version != package.version or package.is_same_build(have):
            return None
        return CondaDifference(package, rule, _distinct(package, have), only_build=True)
    names = [name for name in package.distributions if name in expected.distributions]
    others = [found.distributions[name] for name in names if name in found.distributions]
    if not others:
        return CondaDifference(package, rule, "")
    wanted = [expected.distributions[one.name].version for one in others]
    is_satisfied = all(_satisfied(want, one.version, rule.level) for want, one in zip(wanted, others, strict=True))
    if rule.builds == "ignore" and is_satisfied and len(others) == len(package.distributions):
        return None
    return CondaDifference(package, rule, _installed_by_others(others))


def _satisfied(want: str, have: str, level: Level) -> bool:
    if want == have or same_version(want, have):
        return True
    return level is Level.COMPATIBLE and compatible(want, have)


def _distinct(package: CondaPackage, have: CondaPackage) -> str:
    """Return the label of another build; with its digest if the labels are equal."""
    return have.label if have.label != package.label else f"{have.label} ({have.identity[:8] or have.subdir})"


def _installed_by_others(distributions: list[Distribution]) -> str:
    return ", ".join(f"{one.label} ({one.installer or 'unknown installer'})" for one in distributions)


def owner_of(name: str, environment: Environment) -> CondaPackage | None:
    """Return the conda package that a distribution of an environment belongs to; None if it belongs to none."""
    distribution = environment.distributions.get(name)
    if distribution is None or not isinstance(distribution.origin, FromConda):
        return None
    return environment.conda.get(distribution.origin.package)


def shipped(environment: Environment, policy: Policy) -> tuple[CondaPackage, ...]:
    """Return the conda packages that a prefix for an environment holds, in the order of their names.

    These are all that the policy does not ignore; tools such as pip are included, as an interpreter may need them. With
    ``only``, they are the named packages, what Dask needs, and what these depend on: a library that numpy needs is part
    of numpy.
    """
    packages = [one for one in environment.conda.values() if not any(is_ignored(name, policy) for name in one.names)]
    if policy.only is None:
        return tuple(packages)
    by_name = {package.name: package for package in packages}
    wanted = policy.only.union(CRITICAL, {"python"})
    left = [package.name for package in packages if package.names & wanted]
    reached: set[str] = set()
    while left:
        name = left.pop()
        if name in by_name and name not in reached:
            reached.add(name)
            left += map(_name_in, by_name[name].depends)
    return tuple(package for package in packages if package.name in reached)


def _name_in(spec: str) -> str:
    """Return the name in a match spec, for example ``numpy`` of ``numpy >=1.23,<3``."""
    name = spec.strip().split(" ", 1)[0].rpartition("::")[2]
    for separator in "=<>!~[":
        name = name.partition(separator)[0]
    return name.lower()
