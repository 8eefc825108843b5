"""The operator policy: what the operator of a cluster has configured about clients, workers and the target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.comparison import (
    MISSING,
    OTHER_BUILD,
    Comparison,
    Difference,
    compare,
    is_other_build,
)
from dask_pkgsync.model.errors import WarnsOnlyError
from dask_pkgsync.model.handshake import is_of_worker, may_be_on
from dask_pkgsync.model.mismatch import EnvironmentMismatchError
from dask_pkgsync.model.policy import CRITICAL, Level, Policy
from dask_pkgsync.model.versions import compatible, same_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.target import Target

NO_FINGERPRINT = (
    "This cluster lets in only clients that say what they have. Install dask-pkgsync, and put dask_pkgsync.preload "
    "into distributed.client.preload of your Dask configuration."
)
"""The refusal of a client that presents no environment. Its text must not change: clients of other releases recognise
the refusal by it (`client.connection.connected`)."""


@dataclass
class OperatorPolicy:
    """What the operator has configured. By default clients set the target, and Dask's handshake decides about clients.

    The scheduler asks the operator policy whether to admit a client or worker, and whether a client may sync.
    """

    mode: str = "sync"
    """``sync``: clients set the target. ``enforce``: the operator sets it. ``warn``: nothing is installed, and
    differences are only reported."""
    stock_clients: str = "judge"
    """What happens to clients that present no environment: ``judge`` (by the versions in Dask's handshake), ``refuse``
    or ``allow``."""
    expected: Target | None = None
    """The environment that the operator compares clients with; in mode ``enforce`` every node and client must match
    it."""
    broken: str = ""
    """Why the configuration cannot be carried out, so that no client is let in; else empty."""
    policy: Policy = field(default_factory=Policy)
    """The levels of packages that the operator has chosen, for example further critical packages."""
    own: Environment | None = None
    """The scheduler's own environment; None if the operator has named no critical packages, and does not refuse their
    builds."""
    critical_builds: str = "warn"
    """What happens to clients that have another build of Dask's critical packages than the scheduler: ``warn`` or
    ``refuse``."""
    address: Callable[[], str] = lambda: ""
    """Returns the address of the scheduler, for messages."""
    target: Callable[[], Target | None] = lambda: None
    """Returns the current target of the cluster."""

    @property
    def only_warns(self) -> bool:
        """Whether differences are only reported, so that no client or worker is refused for them."""
        return self.mode == "warn"

    @property
    def enforced(self) -> Target | None:
        """The target that the operator enforces; None if the mode is not ``enforce``."""
        return self.expected if self.mode == "enforce" else None

    def text(self, comparison: Comparison) -> str | None:
        """Return the text of the refusal, or in mode ``warn`` the table of differences; None if there are none."""
        if not comparison:
            return None
        if self.only_warns:
            return str(comparison)
        return str(EnvironmentMismatchError(comparison, "" if self.enforced is not None else self.address()))

    def lets_in(self, environment: Environment | None) -> bool:
        """Whether a client is let in without a look at its versions, because it presents no environment."""
        return self.stock_clients == "allow" and environment is None

    def judge_client(
        self, message: dict[str, Any], environment: Environment | None, critical: Comparison
    ) -> str | None:
        """Return why a client is refused, or in mode ``warn`` how it differs; None if it matches.

        Parameters
        ----------
        message : dict
            The client's handshake. The client of a task on a worker need not present an environment, because its worker
            was verified.
        environment : Environment or None
            The environment that the client presents, if it does.
        critical : Comparison
            The critical packages in which the client differs from the scheduler.
        """
        if environment is not None:
            return self.text(critical.and_also(self.differing_from(environment)))
        if not critical and self.stock_clients == "refuse" and not is_of_worker(message["client"]):
            return NO_FINGERPRINT
        return self.text(critical.and_also(self.differing_in(message)))

    def judge_worker(self, message: dict[str, Any], critical: Comparison) -> str | None:
        """Return why a worker is refused, or in mode ``warn`` how it differs; None if it matches.

        A worker is refused only for critical packages, because a sync changes its other packages.
        """
        return self.text(critical.and_also(self.differing_in(message, "worker") if self.only_warns else None))

    def differing_in(self, message: dict[str, Any], role: str = "client") -> Comparison | None:
        """Compare the few packages that Dask's handshake names with the cluster's; None if they match."""
        same_platform = self.expected is None or may_be_on(message, self.expected.environment.interpreter.platform)
        return self.differing(message["versions"]["packages"], role, same_platform=same_platform)

    def differing_from(self, environment: Environment) -> Comparison | None:
        """Compare an environment with the operator's, or by the operator's critical packages; None if they match."""
        differing = self.compare(environment) or self.differing(_versions(environment))
        return differing or self._differing_builds(environment)

    def _differing_builds(self, environment: Environment) -> Comparison | None:
        """Compare Dask's critical packages with the scheduler's by their builds, if these are refused."""
        if self.critical_builds != "refuse" or self.own is None:
            return None
        same_platform = self.own.interpreter.same_platform(environment.interpreter)
        pairs = [(self.own.distributions.get(name), environment.distributions.get(name)) for name in CRITICAL]
        rows = [
            Difference(want.name, Level.CRITICAL, want.build_label, have.build_label, OTHER_BUILD)
            for want, have in pairs
            if want and have and is_other_build(want, have, same_platform=same_platform)
        ]
        return Comparison(tuple(rows), expected_label="cluster", found_label="client") if rows else None

    @property
    def has_critical_levels(self) -> bool:
        """Whether the operator has named critical packages (``pkgsync.levels``)."""
        return any(level is Level.CRITICAL for _, level in self.policy.levels)

    def differing(
        self, versions: Mapping[str, str | None], role: str = "client", *, same_platform: bool = True
    ) -> Comparison | None:
        """Compare packages with the cluster's by their versions alone; None if they match.

        If the operator has configured an environment, all of its packages are compared, else only those that the
        operator has named as critical. Dask's own critical packages are compared elsewhere (`compare_critical`).

        Parameters
        ----------
        versions : mapping of str to str or None
            Package to version; None for a package that is not installed.
        role : str
            ``client`` or ``worker``: the heading of these versions in the table.
        same_platform : bool
            Whether the versions come from the platform of the operator's environment.
        """
        if self.expected is None and not self.has_critical_levels:
            return None
        target = self.expected or self.target()
        here = {**(_versions(self.own) if self.own else {}), **(_versions(target.environment) if target else {})}
        rows = []
        for name, version in versions.items():
            want, rule = here.get(name), self.policy.rule(name, same_platform=same_platform)
            if name in CRITICAL or want is None or rule.level is Level.IGNORE:
                continue
            if self.expected is None and (rule.level is not Level.CRITICAL or version is None):
                continue
            if version is None or not _satisfies(want, version, rule.level):
                rows.append(Difference(name, rule.level, want, version or MISSING, rule.reason))
        rows.sort(key=lambda row: (row.level is not Level.CRITICAL, row.name))
        return Comparison(tuple(rows), expected_label="cluster", found_label=role) if rows else None

    def compare(self, environment: Environment) -> Comparison | None:
        """Compare an environment with the operator's; None if they match or the operator has configured none."""
        if self.expected is None:
            return None
        expected, policy = self.expected.environment, self.expected.policy
        comparison = compare(expected, environment, policy, expected_label="cluster", found_label="client")
        return comparison.without_critical_builds or None

    def decides(self, asked: Target) -> bool:
        """Return whether the operator, not a client, sets the target.

        Parameters
        ----------
        asked : Target
            The target that a client asks for.

        Raises
        ------
        EnvironmentMismatchError
            If the client's environment does not match what the operator has configured.
        WarnsOnlyError
            If the cluster installs nothing (mode ``warn``).
        """
        if self.only_warns:
            raise WarnsOnlyError
        if (comparison := self.differing_from(asked.environment)) is not None:
            raise EnvironmentMismatchError(comparison)
        return self.enforced is not None


def _satisfies(want: str, version: str, level: Level) -> bool:
    return compatible(want, version) if level is Level.COMPATIBLE else same_version(want, version)


def _versions(environment: Environment) -> dict[str, str | None]:
    return {name: distribution.version for name, distribution in environment.distributions.items()}
