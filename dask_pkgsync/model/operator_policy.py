"""On the scheduler: what the operator has configured, beside which clients have no say."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.comparison import MISSING, Comparison, Difference, compare, compatible, same_version
from dask_pkgsync.model.errors import WarnsOnlyError
from dask_pkgsync.model.handshake import is_of_worker, may_be_on
from dask_pkgsync.model.mismatch import EnvironmentMismatchError
from dask_pkgsync.model.policy import CRITICAL, Level, Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.target import Target

NO_FINGERPRINT = (
    "This cluster lets in only clients that say what they have. Install dask-pkgsync, and put dask_pkgsync.preload "
    "into distributed.client.preload of your Dask configuration."
)


@dataclass
class OperatorPolicy:
    """Who has a say. By default clients set the target, and stock ones are judged by Dask's own handshake."""

    mode: str = "sync"
    """``sync``, ``enforce`` or ``warn``."""
    stock_clients: str = "judge"
    """Clients that present nothing: ``judge``, ``refuse`` or ``allow``."""
    expected: Target | None = None
    """What the operator compares everybody with; in mode ``enforce`` everybody must have it."""
    broken: str = ""
    """Why nobody at all is let in; empty while the configuration can be carried out."""
    policy: Policy = field(default_factory=Policy)
    """Which packages are critical here, besides Dask's own."""
    own: Mapping[str, str] = field(default_factory=dict)
    """Versions of what the scheduler has, by name; empty where no other package is critical."""
    target: Callable[[], Target | None] = lambda: None
    """Returns what the cluster has."""

    @property
    def only_warns(self) -> bool:
        """Whether differences are told and nobody is refused for them."""
        return self.mode == "warn"

    @property
    def enforced(self) -> Target | None:
        """What everybody must have; None where clients have a say, or nobody."""
        return self.expected if self.mode == "enforce" else None

    def told(self, comparison: Comparison) -> str | None:
        """Return differences for people: why somebody is refused, or only how they differ."""
        if not comparison:
            return None
        return str(comparison) if self.only_warns else str(EnvironmentMismatchError(comparison))

    def lets_in(self, environment: Environment | None) -> bool:
        """Whether a client that presents this, or nothing, is let in whatever versions its handshake names."""
        return self.stock_clients == "allow" and environment is None

    def judge_client(
        self, message: dict[str, Any], environment: Environment | None, critical: Comparison
    ) -> str | None:
        """Say why a client may not register, or how it differs.

        Parameters
        ----------
        message : dict
            Its handshake. That of a task on a worker has nothing to present: its worker was verified.
        environment : Environment or None
            What it presents, if it does.
        critical : Comparison
            How it differs from the scheduler in what Dask needs to be the same.
        """
        if environment is not None:
            return self.told(critical.and_also(self.differing_from(environment)))
        if not critical and self.stock_clients == "refuse" and not is_of_worker(message["client"]):
            return NO_FINGERPRINT
        return self.told(critical.and_also(self.differing_in(message)))

    def judge_worker(self, message: dict[str, Any], critical: Comparison) -> str | None:
        """Say why a worker may not register, or how it differs; one that is synced differs only in what is critical."""
        return self.told(critical.and_also(self.differing_in(message, "worker") if self.only_warns else None))

    def differing_in(self, message: dict[str, Any], who: str = "client") -> Comparison | None:
        """Return what differs from the cluster of the few packages that Dask's own handshake names."""
        is_same = self.expected is None or may_be_on(message, self.expected.environment.interpreter.platform)
        return self.differing(message["versions"]["packages"], who, same_platform=is_same)

    def differing_from(self, environment: Environment) -> Comparison | None:
        """Return how an environment differs from what the operator expects, or in what is critical here."""
        return self.compare(environment) or self.differing(_versions(environment))

    @property
    def has_critical_levels(self) -> bool:
        """Whether the operator has named packages that are critical here."""
        return any(level is Level.CRITICAL for _, level in self.policy.levels)

    def differing(
        self, versions: Mapping[str, str | None], who: str = "client", *, same_platform: bool = True
    ) -> Comparison | None:
        """Return what differs, besides Dask's own critical packages, by versions alone; None if nothing does.

        What counts is all that the operator expects, else what is critical here.
        """
        if self.expected is None and not self.has_critical_levels:
            return None
        target = self.expected or self.target()
        here = {**self.own, **(_versions(target.environment) if target else {})}
        rows = []
        for name, version in versions.items():
            want, rule = here.get(name), self.policy.rule(name, same_platform=same_platform)
            if name in CRITICAL or want is None or rule.level is Level.IGNORE:
                continue
            if self.expected is None and (rule.level is not Level.CRITICAL or version is None):
                continue
            if version is None or not _will_do(want, version, rule.level):
                rows.append(Difference(name, rule.level, want, version or MISSING, rule.reason))
        rows.sort(key=lambda row: (row.level is not Level.CRITICAL, row.name))
        return Comparison(tuple(rows), expected_label="cluster", found_label=who) if rows else None

    def compare(self, environment: Environment) -> Comparison | None:
        """Return how an environment differs from the operator's; None where there is none, or where it matches."""
        if self.expected is None:
            return None
        expected, policy = self.expected.environment, self.expected.policy
        return compare(expected, environment, policy, expected_label="cluster", found_label="client") or None

    def decides(self, asked: Target) -> bool:
        """Return whether the operator, and no client, says what the cluster has; raise if this client wants otherwise.

        Raises
        ------
        EnvironmentMismatchError
            If the client does not match the operator's environment.
        WarnsOnlyError
            If nothing is ever installed here.
        """
        if self.only_warns:
            raise WarnsOnlyError
        if (comparison := self.differing_from(asked.environment)) is not None:
            raise EnvironmentMismatchError(comparison)
        return self.enforced is not None


def _will_do(want: str, version: str, level: Level) -> bool:
    return compatible(want, version) if level is Level.COMPATIBLE else same_version(want, version)


def _versions(environment: Environment) -> dict[str, str | None]:
    return {name: one.version for name, one in environment.distributions.items()}
