"""The steps that take a node's base to the target, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dask_pkgsync.model.comparison import satisfied
from dask_pkgsync.model.environments.origin import FromDirectory, Unrecorded
from dask_pkgsync.model.policy import Level, Policy

if TYPE_CHECKING:
    from collections.abc import Container

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.environments.origin import Origin


@dataclass(frozen=True, slots=True)
class Keep:
    """The base has it already."""

    name: str
    version: str
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Install:
    """The base lacks it."""

    name: str
    version: str
    identity: str = ""
    """What tells it apart from what an index has under this version: then only the client can give it."""


@dataclass(frozen=True, slots=True)
class Replace:
    """The base has another version, which the layer will hide."""

    name: str
    version: str
    old: str
    identity: str = ""


@dataclass(frozen=True, slots=True)
class Hide:
    """Only the base has it, and the policy is strict."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Skip:
    """It differs, and is left alone."""

    name: str
    version: str
    reason: str


Step: TypeAlias = Keep | Install | Replace | Hide | Skip


@dataclass(frozen=True)
class Plan:
    """What a node has to do. ``complete`` layers hold everything; others only what differs from the base."""

    steps: tuple[Step, ...]
    complete: bool = False

    @property
    def changes(self) -> tuple[Install | Replace, ...]:
        """The steps that put a distribution into the layer because it differs."""
        return tuple(step for step in self.steps if isinstance(step, Install | Replace))

    @property
    def hidden(self) -> tuple[Hide, ...]:
        """What a complete layer leaves behind."""
        return tuple(step for step in self.steps if isinstance(step, Hide))

    @property
    def skipped(self) -> tuple[Skip, ...]:
        """What is left alone, with reasons."""
        return tuple(step for step in self.steps if isinstance(step, Skip))

    @property
    def empty(self) -> bool:
        """Whether the base is already as the target wants it."""
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
        """Leave some changes out, for a process that cannot take them any more."""
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
        What the node has without us.
    target : Environment
        What it is to have.
    policy : Policy, optional
        Levels by package, and whether anything else may stay importable.

    Returns
    -------
    Plan
        One step for each distribution of either side, by name.
    """
    policy = policy or Policy()
    same = base.interpreter.same_platform(target.interpreter)
    steps: list[Step] = []
    for name in sorted({*base.distributions, *target.distributions}):
        want, have = target.distributions.get(name), base.distributions.get(name)
        rule = policy.rule(name, same_platform=same)
        if want is None:
            version = base.distributions[name].version
            ours = policy.strict and rule.level is not Level.IGNORE
            steps.append(Hide(name, version) if ours else Keep(name, version))
        elif rule.level is Level.IGNORE:
            same_there = have is not None and want.same_version(have.version)
            steps.append(Keep(name, want.version) if same_there else Skip(name, want.version, rule.reason))
        else:
            steps.append(_step(want, have, rule.level, broken=base.faulty(name) is not None))
    return Plan(tuple(steps), complete=any(isinstance(step, Hide) for step in steps))


def _step(want: Distribution, have: Distribution | None, level: Level, *, broken: bool) -> Step:
    if have is not None and not broken and satisfied(want, have, level):
        return Keep(want.name, have.version, want.identity)
    if (reason := why_it_cannot_travel(want.origin)) is not None:
        return Skip(want.name, want.version, reason)
    if have is None:
        return Install(want.name, want.version, want.identity)
    return Replace(want.name, want.version, have.label, want.identity)


def why_it_cannot_travel(origin: Origin) -> str | None:
    """Return why a distribution cannot travel at all, or None if it can."""
    if isinstance(origin, Unrecorded):
        return (
            "nothing records its files (installed by the system, or by an old tool): install it with pip or uv, and it "
            "travels"
        )
    if isinstance(origin, FromDirectory) and origin.editable and not origin.digest:
        return "its source directory cannot be read: install it again, or name it in ignore"
    return None
