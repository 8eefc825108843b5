"""The steps that take a node's base to the target, one for each distribution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dask_pkgsync.model.comparison import is_other_build, satisfied
from dask_pkgsync.model.conda_comparison import owner_of
from dask_pkgsync.model.environments.origin import FromDirectory, Unrecorded
from dask_pkgsync.model.policy import Level, Policy

if TYPE_CHECKING:
    from collections.abc import Container

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.origin import Origin
    from dask_pkgsync.model.policy import Rule


@dataclass(frozen=True, slots=True)
class Keep:
    """The base has the distribution already."""

    name: str
    version: str
    identity: str = ""
    """As for `Install`."""
    content: str = ""
    """As for `Install`."""
    hashes: tuple[str, ...] = ()
    """As for `Install`."""


@dataclass(frozen=True, slots=True)
class Install:
    """The base lacks the distribution: the layer gets it."""

    name: str
    version: str
    identity: str = ""
    """The commit or digest that tells it from a distribution of this name and version on an index. If there is one,
    only the client can provide the distribution."""
    content: str = ""
    """The content digest that it must have; empty if any build will do."""
    hashes: tuple[str, ...] = ()
    """SHA-256 digests of the files that it may be installed from; empty if any file will do."""


@dataclass(frozen=True, slots=True)
class Replace:
    """The base has the distribution in another version: the layer gets the target's version, which hides the base's."""

    name: str
    version: str
    """The target's version."""
    old: str
    """The base's version."""
    identity: str = ""
    """As for `Install`."""
    content: str = ""
    """As for `Install`."""
    hashes: tuple[str, ...] = ()
    """As for `Install`."""


@dataclass(frozen=True, slots=True)
class Hide:
    """Only the base has the distribution, and the policy is strict: it must not be importable."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Skip:
    """The distribution differs, and the node keeps what it has."""

    name: str
    version: str
    """The target's version."""
    reason: str
    """Why the node does not get it, for people."""
    ignored: bool = False
    """Whether the policy ignores the distribution, so that it need not match."""


Step: TypeAlias = Keep | Install | Replace | Hide | Skip


@dataclass(frozen=True)
class Plan:
    """The steps that a node has to take to match the target."""

    steps: tuple[Step, ...]
    complete: bool = False
    """Whether the layer holds all distributions and stands alone; else only those that differ from the base."""

    @property
    def changes(self) -> tuple[Install | Replace, ...]:
        """The steps that put a distribution into the layer because it differs."""
        return tuple(step for step in self.steps if isinstance(step, Install | Replace))

    @property
    def hidden(self) -> tuple[Hide, ...]:
        """The steps for distributions of the base that a complete layer leaves out."""
        return tuple(step for step in self.steps if isinstance(step, Hide))

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """The steps for distributions that differ and stay as they are."""
        return tuple(step for step in self.steps if isinstance(step, Skip))

    @property
    def empty(self) -> bool:
        """Whether the base matches the target already, so that no layer is needed."""
        return not self.changes and not self.hidden

    @property
    def held(self) -> tuple[Install | Replace | Keep, ...]:
        """The steps whose distributions the layer will hold, by name."""
        kinds = (Install, Replace, Keep) if self.complete else (Install, Replace)
        return tuple(step for step in self.steps if isinstance(step, kinds))

    @property
    def pins(self) -> tuple[str, ...]:
        """What the layer will hold, as ``name==version``, sorted."""
        return tuple(sorted(pin(step) for step in self.held))

    def completed(self) -> Plan:
        """Return the same plan for a layer that stands alone: what the base has and is kept goes into it as well."""
        return Plan(self.steps, complete=True)

    def without(self, names: Container[str], reason: str) -> Plan:
        """Return the plan with the changes of some packages skipped, for a process that cannot activate them.

        Parameters
        ----------
        names : container of str
            Canonical names of the packages.
        reason : str
            Why they are skipped, for people.
        """
        steps: list[Step] = []
        for step in self.steps:
            if isinstance(step, Install | Replace) and step.name in names:
                steps.append(Skip(step.name, step.version, reason))
            else:
                steps.append(step)
        return Plan(tuple(steps), self.complete)


def pin(step: Install | Replace | Keep) -> str:
    """Return a step as a requirement, for example ``numpy==2.1.0``."""
    return f"{step.name}=={step.version}"


def make_plan(base: Environment, target: Environment, policy: Policy | None = None) -> Plan:
    """Decide what a node has to do so that it matches the target.

    Parameters
    ----------
    base : Environment
        The environment that the node had before any layer.
    target : Environment
        The environment that the node has to match.
    policy : Policy, optional
        How closely each package has to match, and whether other packages may stay importable.

    Returns
    -------
    Plan
        One step for each distribution of either environment, in the order of their names.
    """
    policy = policy or Policy()
    same_platform = base.interpreter.same_platform(target.interpreter)
    steps: list[Step] = []
    for name in sorted({*base.distributions, *target.distributions}):
        want, have = target.distributions.get(name), base.distributions.get(name)
        rule = policy.rule(name, same_platform=same_platform)
        if want is None:
            version = base.distributions[name].version
            owner = owner_of(name, base)
            is_of_target = owner is not None and owner.name in target.conda
            is_hidden = policy.strict and rule.level is not Level.IGNORE and not is_of_target
            steps.append(Hide(name, version) if is_hidden else Keep(name, version))
        elif rule.level is Level.IGNORE:
            is_same = have is not None and want.same_version(have.version)
            steps.append(Keep(name, want.version) if is_same else Skip(name, want.version, rule.reason, ignored=True))
        else:
            broken = base.faulty(name) is not None
            steps.append(_step(want, have, rule, broken=broken, same_platform=same_platform))
    return Plan(tuple(steps), complete=any(isinstance(step, Hide) for step in steps))


def _step(want: Distribution, have: Distribution | None, rule: Rule, *, broken: bool, same_platform: bool) -> Step:
    is_held = rule.builds == "replace" and (same_platform or want.is_pure) and not want.identity
    content = want.content if is_held else ""
    is_satisfied = have is not None and not broken and satisfied(want, have, rule.level)
    if have is not None and is_satisfied:
        if rule.builds == "ignore" or not is_other_build(want, have, same_platform=same_platform):
            return Keep(
                want.name, have.version, want.identity, content if want.same_version(have.version) else "", want.hashes
            )
        if rule.builds == "warn" or rule.level is Level.CRITICAL:
            return Skip(want.name, want.version, _why_kept(want, have, rule))
    if (reason := why_it_cannot_travel(want.origin)) is not None:
        return Skip(want.name, want.version, reason)
    if have is None:
        return Install(want.name, want.version, want.identity, content, want.hashes)
    old = have.build_label if is_satisfied else have.label
    return Replace(want.name, want.version, old, want.identity, content, want.hashes)


def _why_kept(want: Distribution, have: Distribution, rule: Rule) -> str:
    """Return why a node keeps its own build of a package."""
    reason = "Dask has imported it already" if rule.level is Level.CRITICAL else "builds is warn"
    return f"another build than the client's: here {have.build_label}, on the client {want.build_label}; {reason}"


def why_it_cannot_travel(origin: Origin) -> str | None:
    """Return why a distribution cannot be copied to a node, or None if it can."""
    if isinstance(origin, Unrecorded) and not origin.modules:
        return (
            "nothing records its files (installed by the system, or by an old tool), and no module of its name was "
            "found: install it with pip or uv, and it is shipped"
        )
    if isinstance(origin, FromDirectory) and origin.editable and not origin.digest:
        return "its source directory cannot be read: install it again, or name it in ignore"
    return None
