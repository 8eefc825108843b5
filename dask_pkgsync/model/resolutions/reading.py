"""Reads the answer of a resolver: what each of the client's packages becomes on another platform, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.environments.origin import FromConda
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.resolutions.question import ABSENT, EXACT_LEVELS, is_near, is_open, level_of, version_of
from dask_pkgsync.model.resolutions.resolution import Resolution
from dask_pkgsync.model.resolutions.substitution import Substitution
from dask_pkgsync.model.versions import same_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.policy import Policy
    from dask_pkgsync.model.resolutions.question import Pinned


NAMED = 5
"""The most packages that one reason names."""


def resolution(
    environment: Environment, policy: Policy, interpreter: Interpreter, answer: Mapping[str, Pinned]
) -> Resolution:
    """Return what a resolver's answer means for the nodes of a platform.

    Parameters
    ----------
    environment : Environment
        The client's.
    policy : Policy
    interpreter : Interpreter
        That of the node.
    answer : mapping of str to Pinned
        By canonical name, what the resolver has chosen for the `question`; empty if it was not asked.
    """
    reader = _Reader(environment, policy, interpreter, answer)
    chosen = {name: reader.choose(one) for name, one in environment.distributions.items()}
    kept = {name: one for name, one in chosen.items() if one is not None}
    added = dict(reader.added(kept))
    rows = [*reader.rows, *reader.foreign_conda()]
    made = Environment.of(interpreter, [*kept.values(), *added.values()])
    return Resolution(made, tuple(sorted(rows, key=lambda row: row.name)))


class _Reader:
    """Reads the answer of a resolver, package by package."""

    def __init__(
        self, environment: Environment, policy: Policy, interpreter: Interpreter, answer: Mapping[str, Pinned]
    ) -> None:
        self.environment, self.policy, self.answer = environment, policy, answer
        self.interpreter, self.platform = interpreter, interpreter.platform
        self.rows: list[Substitution] = []

    def choose(self, asked: Distribution) -> Distribution | None:
        """Return the distribution that the nodes get for one of the client's; None if they get none."""
        rule = self.policy.rule(asked.name, same_platform=False)
        if rule.level is Level.IGNORE and not self.policy.ignores(asked.name):
            self._tell(asked, "", rule.reason, "foreign")
            return None
        if not is_open(self.environment, asked, self.policy):
            return asked
        pinned = self.answer.get(asked.name)
        if pinned is not None and same_version(asked.version, pinned.version):
            return self._here(asked, asked.version)
        if asked.is_pure and (asked.content or pinned is None) and not isinstance(asked.origin, FromConda):
            return asked  # the client has the wheel, and it runs everywhere
        return self._substitute(asked, pinned)

    def _substitute(self, asked: Distribution, pinned: Pinned | None) -> Distribution | None:
        if pinned is None:
            self._tell(asked, "", "it has code for the client's platform, and no index is asked (transport is client)")
            return None
        level, got = level_of(self.policy, asked), pinned.version
        missing = self._what_is_missing(asked.version, got)
        if level in EXACT_LEVELS:
            needs = "the lock file has hashes of it" if asked.hashes else f"its level is {level.value}"
            needs = "Dask needs the same version everywhere" if level is Level.CRITICAL else needs
            self._tell(asked, "", f"{missing}, and {needs}", "refused")
            return None
        if is_near(asked.version, got):
            self._tell(asked, got, _why_near(asked.version, got, missing), "near")
            return self._here(asked, got)
        if level is Level.COMPATIBLE and _is_later(asked.version, got):
            self._tell(asked, got, f"{missing}, and levels allow a compatible one", "compatible")
            return self._here(asked, got)
        users = [name for name in pinned.via if name in self.environment.distributions]
        self._tell(asked, "", missing + (f"; needed by {', '.join(users[:NAMED])}" if users else ""))
        return None

    def _what_is_missing(self, asked: str, got: str) -> str:
        if got == ABSENT:
            return f"no release has a wheel for {self.platform}"
        version = version_of(asked)
        if same_version(asked.partition("+")[0], got):
            return f"the index has no build {asked}"
        if is_near(asked, got) or version is None:
            return f"no wheel of {asked} for {self.platform}"
        before = f" (the newest before is {got})" if not _is_later(asked, got) else ""
        return f"no wheel of {version.major}.{version.minor}.* for {self.platform}{before}"

    def _tell(self, asked: Distribution, got: str, why: str, kind: str = "left out") -> None:
        self.rows.append(Substitution(self.platform, asked.name, asked.version, got, why, kind))

    def _here(self, asked: Distribution, version: str) -> Distribution:
        """Return a distribution as an index has it for the platform; only pure ones have the same content."""
        if asked.is_pure and version == asked.version and not isinstance(asked.origin, FromConda):
            return asked
        return Distribution(asked.name, version, hashes=asked.hashes)

    def added(self, kept: Collection[str]) -> Iterator[tuple[str, Distribution]]:
        """Yield what the kept packages need on this platform, and the client does not have."""
        new = {name: pinned for name, pinned in self.answer.items() if name not in self.environment.distributions}
        live, extra = set(kept), self.policy.extra_names
        while True:
            found = {name for name, one in new.items() if name in extra or not live.isdisjoint(one.via)} - live
            if not found:
                break
            live |= found
        for name, pinned in sorted(new.items()):
            if name not in live or pinned.version == ABSENT:
                continue
            yield name, Distribution(name, pinned.version)
            if name not in extra:
                users = ", ".join(user for user in pinned.via if user in live)
                why = f"needed on {self.platform} by {users}" if users else "needed by what is named in extra"
                self.rows.append(Substitution(self.platform, name, "", pinned.version, why, "added"))

    def foreign_conda(self) -> Iterator[Substitution]:
        """Yield one line for all of the client's conda packages that hold no distribution."""
        packages = [one for one in self.environment.conda.values() if not one.distributions and one.name != "python"]
        if packages:
            names = ", ".join(one.name for one in packages[:NAMED])
            more = f" and {len(packages) - NAMED} more" if len(packages) > NAMED else ""
            why = f"no distributions, but libraries and programs for the client's system: {names}{more}"
            yield Substitution(self.platform, "(conda packages)", str(len(packages)), "", why, "foreign")


def _why_near(asked: str, got: str, missing: str) -> str:
    """Return why nodes get another release of the same X.Y."""
    one, two = version_of(asked), version_of(got)
    is_older = one is not None and two is not None and two.public != one.public and two < one
    return f"{missing}, and none later of its X.Y" if is_older else missing


def _is_later(asked: str, got: str) -> bool:
    """Whether a version is later than another one, with the same first number."""
    one, two = version_of(asked), version_of(got)
    if one is None or two is None:
        return False
    return (two.epoch, two.major) == (one.epoch, one.major) and two > one
