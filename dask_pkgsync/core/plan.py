"""The steps that take a node's base to the target, each with its reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from dask_pkgsync.core.compare import compatible
from dask_pkgsync.core.environment import FromDirectory, FromIndex
from dask_pkgsync.core.policy import Level, Policy

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

    from dask_pkgsync.core.environment import Distribution, Environment, Origin


@dataclass(frozen=True, slots=True)
class Keep:
    """The base has it already."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Install:
    """The base lacks it."""

    name: str
    version: str


@dataclass(frozen=True, slots=True)
class Replace:
    """The base has another version, which the layer will hide."""

    name: str
    version: str
    old: str


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
    def pins(self) -> tuple[str, ...]:
        """What the layer will hold, as ``name==version``, sorted."""
        held = self.changes if not self.complete else (*self.changes, *self._kept())
        return tuple(sorted(f"{step.name}=={step.version}" for step in held))

    def _kept(self) -> Iterator[Keep]:
        return (step for step in self.steps if isinstance(step, Keep))

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
    if have is not None and not broken:
        loose = level is Level.COMPATIBLE
        if compatible(want.version, have.version) if loose else want.same_version(have.version):
            return Keep(want.name, have.version)
    if (reason := why_not_on_an_index(want.origin)) is not None:
        return Skip(want.name, want.version, reason)
    return Install(want.name, want.version) if have is None else Replace(want.name, want.version, have.version)


def why_not_on_an_index(origin: Origin) -> str | None:
    """Return why a distribution cannot be fetched by name and version, or None if it can."""
    match origin:
        case FromIndex():
            return None
        case FromDirectory(editable=True):
            return "an editable project: code that is on no index does not travel yet"
        case _:
            kind = type(origin).__name__.removeprefix("From").lower()
            return f"{kind} install: code that is on no index does not travel yet"
