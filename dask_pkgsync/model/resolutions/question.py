"""The question to a resolver, which versions the nodes of another platform can have.

The client's versions are a resolved set already. So each package is free of what the others say about it (an override),
and bound to its own X.Y: a resolver takes the client's version if it has a wheel for the platform, else the newest of
X.Y. For what has no such wheel, it takes an older one, or an empty wheel that we put beside the index (a stand-in); so
it always finds an answer, in one run, and everything that is not exact is known at once. What the packages need on
their new platform, and the client does not have, the resolver adds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import Unrecorded
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.wire.names import canonical

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from packaging.version import Version

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.policy import Policy


ABSENT = "0+pkgsync"
"""The version of stand-ins: lower than every release that a project makes of itself."""
EXACT_LEVELS = (Level.CRITICAL, Level.EXACT, Level.VERSION)
"""The levels under which a package may be in no other version."""


@dataclass(frozen=True)
class Question:
    """The input of one run of a resolver."""

    bounds: tuple[str, ...]
    """A requirement for each package, and in place of all that others say about it, for example ``numpy<2.2``."""
    preferences: tuple[str, ...]
    """The client's versions, which the resolver takes where it can."""
    settled: tuple[str, ...] = ()
    """Names of packages that the resolver is not to look for: a stand-in takes their place."""
    more: tuple[str, ...] = ()
    """Further requirements: the extra ones."""
    platform: str = ""
    """The platform to look for, by uv's name for it, for example ``x86_64-manylinux_2_28``; empty for that of the
    resolver's interpreter."""
    python: str = ""
    """X.Y of Python to look for; empty for that of the resolver's interpreter."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the packages that are looked for, of each of which there is a stand-in."""
        return tuple(re.split("[<=>]", bound, maxsplit=1)[0] for bound in self.bounds)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A line of a resolver's answer."""

    version: str
    via: tuple[str, ...] = ()
    """Canonical names of the packages that need it."""


def question(
    environment: Environment, policy: Policy, *, widened: Collection[str] = (), asks_index: bool = True
) -> Question:
    """Return what to ask a resolver on another platform.

    Parameters
    ----------
    environment : Environment
        The client's.
    policy : Policy
    widened : collection of str
        Packages of which a later X.Y of the same X is good, too.
    asks_index : bool
        Whether nodes may get packages from an index.
    """
    bounds, preferences, settled = [], [], []
    for name, distribution in environment.distributions.items():
        if not asks_index or not is_open(environment, distribution, policy):
            settled.append(name)
            continue
        bounds.append(f"{name}{_bound(distribution.version, level_of(policy, distribution), wide=name in widened)}")
        preferences.append(f"{name}=={distribution.version}")
        if (public := distribution.version.partition("+")[0]) != distribution.version:
            preferences.append(f"{name}=={public}")
    return Question(tuple(bounds), tuple(preferences), tuple(settled), policy.extra_requirements if asks_index else ())


def is_open(environment: Environment, distribution: Distribution, policy: Policy) -> bool:
    """Whether a resolver has to look for a package: it is not local code, not ignored, and what a version says."""
    is_ignored = policy.rule(distribution.name, same_platform=False).level is Level.IGNORE
    return not (is_ignored or _travels_as_it_is(environment, distribution) or version_of(distribution.version) is None)


def _travels_as_it_is(environment: Environment, distribution: Distribution) -> bool:
    """Whether only the client can provide a package, so that no index is asked."""
    is_loose = isinstance(distribution.origin, Unrecorded) and bool(distribution.origin.modules)
    return bool(distribution.identity) or is_loose or environment.faulty(distribution.name) is not None


def level_of(policy: Policy, distribution: Distribution) -> Level | None:
    """Return the level that was chosen for a package, or that it needs; None if nobody has chosen one.

    A package of which a lock file names the files can be no other one.
    """
    rule = policy.rule(distribution.name, same_platform=False)
    if rule.level is Level.CRITICAL or policy.has_chosen(distribution.name):
        return rule.level
    return Level.EXACT if distribution.hashes else None


def _bound(text: str, level: Level | None, *, wide: bool) -> str:
    """Return the upper bound of a package, below which there is always its stand-in."""
    version = version_of(text)
    assert version is not None  # noqa: S101  # `is_open` has parsed it
    if level in EXACT_LEVELS:
        return f"<={version.public}"
    epoch = f"{version.epoch}!" if version.epoch else ""
    end = f"{version.major + 1}" if wide else f"{version.major}.{version.minor + 1}"
    # A bound that names a prerelease allows those of this package, and only of this one (uv 0.13).
    return f"<{epoch}{end}" + (",>=0a0" if version.is_prerelease else "")


def wanting(environment: Environment, policy: Policy, answer: Mapping[str, Pinned]) -> frozenset[str]:
    """Return the packages to ask for once more, widened: nothing of X.Y is there, and ``levels`` allow a later one."""
    return frozenset(
        name
        for name, distribution in environment.distributions.items()
        if level_of(policy, distribution) is Level.COMPATIBLE
        and not distribution.is_pure
        and (pinned := answer.get(name)) is not None
        and not is_near(distribution.version, pinned.version)
    )


def is_near(asked: str, got: str) -> bool:
    """Whether two versions have the same X.Y."""
    one, two = version_of(asked), version_of(got)
    if one is None or two is None or got == ABSENT:
        return False
    return (one.epoch, one.major, one.minor) == (two.epoch, two.major, two.minor)


_LINE = re.compile(
    r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;#]+)[^#]*(?:#\s*via\s+(?P<via>.*))?"
)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")


def answer_of(text: str) -> dict[str, Pinned]:
    """Read what ``uv pip compile --annotation-style line`` has written: ``name==version  # via one, other``."""
    found = {}
    for line in text.splitlines():
        if (match := _LINE.fullmatch(line.strip())) is not None:
            parts = (part.strip() for part in (match["via"] or "").split(","))
            via = tuple(sorted(canonical(part) for part in parts if _NAME.fullmatch(part)))
            found[canonical(match["name"])] = Pinned(match["version"], via)
    return found


def version_of(text: str) -> Version | None:
    """Return a version by PEP 440; None for a text that is none."""
    from packaging.version import InvalidVersion, Version  # imported here because it is slow to import

    try:
        return Version(text)
    except InvalidVersion:
        return None
