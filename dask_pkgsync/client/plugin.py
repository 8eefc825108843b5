"""`PackageSync`: the plugin that a client registers to give the cluster its environment."""

from __future__ import annotations

import os
import sys
import warnings
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from distributed import Client

from dask_pkgsync.carry.travel import carried
from dask_pkgsync.client.dask_internals import register_by
from dask_pkgsync.client.registration import Registrable, register
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.errors import InconsistentEnvironmentWarning, PolicyError, WheelError
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.reports.discrepancies import DiscrepancyWarning, faults_of
from dask_pkgsync.model.target import Target, target_to_wire
from dask_pkgsync.options.keywords import refuse_unknown, takes_options
from dask_pkgsync.options.lock_file import locked_environment, refuse_unpinned
from dask_pkgsync.options.person import (
    client_indexes,
    install_timeout,
    keep,
    local_snapshot,
    on_conflict,
    policy_from,
    relaunch,
    restart,
    scheduler_rule,
    store,
    this_person,
    transport,
    with_imported_modules,
)
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.conda_meta import with_sizes
from dask_pkgsync.scanning.consistency import conflicts
from dask_pkgsync.scanning.snapshot import Snapshot, missing_files, verified

if TYPE_CHECKING:
    from typing import Any

    from typing_extensions import Unpack

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.options.keywords import Options


@takes_options
class PackageSync(Registrable):
    """Makes every node of a cluster match an environment, and refuses clients with critical mismatches.

    ``client.register_plugin(PackageSync())`` returns when every node matches the environment of this process.

    Parameters
    ----------
    environment : Environment or path, optional
        The environment that the cluster gets, or the path of a lock file that pins it. By default, this interpreter's
        environment is scanned when the plugin is made.
    **options
        Keywords of `Options`; the reference and ``help(PackageSync)`` describe each. Dask's configuration
        (``pkgsync.…``) gives the options that are None.

    Raises
    ------
    PolicyError
        If the options contradict each other, or the lock file cannot be read, does not cover this platform, or does not
        pin what Dask needs.
    WheelError
        If the environment has local code whose source cannot be read.
    TypeError
        If a keyword is not an option.

    Notes
    -----
    Registering raises what `sync` raises: `EnvironmentMismatchError` if the client and the scheduler differ in a
    critical package, `ConflictError` if another client has set a conflicting environment, and `SyncError` if a node
    cannot be made to match.
    """

    name = "pkgsync"

    def __init__(
        self, environment: Environment | str | os.PathLike[str] | None = None, **options: Unpack[Options]
    ) -> None:
        refuse_unknown(PackageSync.__init__, options)
        if isinstance(environment, str | os.PathLike):
            path = os.fspath(environment)
            environment = locked_environment(path, options)
            refuse_unpinned(path, environment)
        snapshot = local_snapshot(options, verify=True) if environment is None else Snapshot(environment)
        self._take(snapshot, options, is_scanned=environment is None)

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot) -> PackageSync:
        """Make a plugin from a snapshot that was just scanned, with the configured options. Blocks."""
        plugin = cls.__new__(cls)
        looked_at = replace(snapshot, environment=verified(snapshot.environment))
        plugin._take(looked_at, {}, is_scanned=True)  # noqa: SLF001  # of this very class
        return plugin

    def _take(self, snapshot: Snapshot, options: Options, *, is_scanned: bool) -> None:
        policy = policy_from(options)
        self.discrepancies = faults_of(snapshot.environment, policy)
        if is_scanned:
            snapshot, discrepancies = with_imported_modules(snapshot, options, policy)
            self.discrepancies = (*discrepancies, *missing_files(snapshot, policy), *self.discrepancies)
        names = chain(snapshot.environment.distributions, *(one.names for one in snapshot.environment.conda.values()))
        policy.refuse_unknown_only(frozenset(names))
        if policy.extra_conda and not snapshot.environment.conda:
            raise PolicyError(
                f"extra: {', '.join(policy.extra_conda)} can only be added to an environment of conda, and this is none"
            )
        if is_scanned and snapshot.environment.conda:
            path = [entry for entry in sys.path if isinstance(entry, str)]
            snapshot = replace(snapshot, environment=with_sizes(snapshot.environment, path))
        self.snapshot = snapshot
        self.target = make_target(snapshot.environment, options)
        self.client = ""
        if is_scanned:
            _refuse_unreadable_sources(self.target)
            if unsatisfied := conflicts(snapshot.environment):
                warnings.warn(InconsistentEnvironmentWarning(unsatisfied), stacklevel=3)

    def __repr__(self) -> str:
        """Say in one line which target the plugin asks for."""
        return f"<PackageSync {self.target.id[:12]}…: {self.target.environment!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as this package's source and a call that makes the `RegisteredPlugin` on the scheduler."""
        state = {"target": target_to_wire(self.target), "client": self.client}
        return carried("scheduler", "dask_pkgsync.scheduler.plugin:registered_plugin", state, yields=True)


def make_target(environment: Environment, options: Options) -> Target:
    """Return the target that a client asks for: its environment, its options, and the configuration for the rest."""
    return Target(
        environment,
        policy_from(options),
        scheduler_rule(options),
        install_timeout(options),
        this_process().token,
        transport(options),
        client_indexes(),
        store(options),
        on_conflict(options),
        restart(options),
        keep(options),
        this_person(),
        relaunch=relaunch(options),
    )


def _refuse_unreadable_sources(target: Target) -> None:
    """Raise `WheelError` for an editable project whose source cannot be read, before anything is sent."""
    for name, distribution in target.environment.distributions.items():
        origin = distribution.origin
        lost = isinstance(origin, FromDirectory) and origin.editable and not origin.digest
        if lost and target.policy.rule(name).level not in (Level.IGNORE, Level.CRITICAL):
            fault = target.environment.faulty(name)
            raise WheelError(
                f"{name} {distribution.version}",
                fault.detail if fault else "its source directory cannot be read",
                advice=f"Install it again, or name {name} in ignore.",
            )


def _handle_registrations(clients: type[Client]) -> None:
    """Make ``client.register_plugin(PackageSync())`` call `register`: Dask dispatches on the class of the plugin."""

    async def registered(client: Client, plugin: PackageSync, name: str | None, idempotent: bool) -> None:  # noqa: FBT001
        report = await register(client, plugin, name, idempotent)
        if report.discrepancies:  # the caller gets None, as for Dask's own plugins
            warnings.warn(DiscrepancyWarning(report.discrepancies), stacklevel=2)

    def register_plugin(self: Client, plugin: PackageSync, name: str | None, idempotent: bool) -> Any:  # noqa: FBT001
        return self.sync(registered, self, plugin, name, idempotent)

    register_by(clients, PackageSync, register_plugin)


_handle_registrations(Client)
