"""`PackageSync`: what a client registers so that the cluster has its environment."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from distributed import Client

from dask_pkgsync.carry.travel import carried
from dask_pkgsync.client.dask_internals import register_by
from dask_pkgsync.client.registration import Registrable, register
from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.model.errors import InconsistentEnvironmentWarning, NotInstalledWarning, WheelError
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.target import Target, target_to_wire
from dask_pkgsync.options.settings import (
    client_indexes,
    install_timeout,
    keep,
    local_snapshot,
    on_conflict,
    policy_from,
    restart,
    scheduler_rule,
    store,
    this_person,
    transport,
)
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.consistency import conflicts
from dask_pkgsync.scanning.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.options.settings import Options


class PackageSync(Registrable):
    """Makes every node of a cluster match an environment, and keeps clients out that do not fit.

    ``client.register_plugin(PackageSync())`` returns when every node matches the environment of this process.

    Parameters
    ----------
    environment : Environment, optional
        What the cluster is to have; by default this interpreter, as it is when the plugin is made.
    ignore : iterable of str, optional
        Packages that are neither compared nor shipped. Critical packages cannot be ignored.
    only : iterable of str, optional
        If given, no other packages are shipped; critical ones are compared all the same.
    extra : iterable of str, optional
        Requirements (PEP 508, without URLs) that are installed on the cluster though the client lacks them.
    strict : bool, optional
        Nothing but the client's packages is importable on the workers.
    scheduler : {"warn", "refuse"}, optional
        What to do when the scheduler has already imported another version of something.
    install_timeout : float or str, optional
        Time that one installer may take on one node: seconds, or a text such as ``"10m"``.
    transport : {"auto", "index", "client"}, optional
        Where nodes get packages from. ``index``: from the index; only local code travels from this client.
        ``client``: everything that they lack travels from here, and nothing is fetched. ``auto``: from the index, and
        from here what the index does not give.
    modules : bool or iterable of str, optional
        Loose modules, those beside the script or notebook and on ``PYTHONPATH``: whether they travel, or which (names
        of modules, paths of modules, packages or directories).
    store : str, optional
        URL, of any kind that fsspec knows, where this client puts wheels and every host fetches them; by default they
        go through the scheduler.
    on_conflict : {"refuse", "wait", "replace"}, optional
        What happens where another client, which is still connected, has set an environment that conflicts with this
        one: `ConflictError`; wait until it has gone; or take its place.
    levels : mapping of str to str, optional
        Package, or pattern such as ``*-stubs``, to ``critical``, ``exact``, ``compatible`` or ``ignore``; names come
        before patterns, and patterns count in their order.
    restart : {"drained", "now"}, optional
        What happens to a worker that has to be restarted, and holds results that no other worker can take or runs tasks
        that do not end in time: it waits, and takes no tasks until then; or is restarted, and they are lost.
    keep : bool, optional
        Whether the cluster keeps this environment when its last client has gone; otherwise it is released after
        ``pkgsync.release-after``.

    Raises
    ------
    PolicyError
        If the options contradict each other. Options that are None come from Dask's configuration (``pkgsync.…``).

    Notes
    -----
    Registering raises `EnvironmentMismatchError` where the client does not fit the scheduler, and `SyncError` where a
    node cannot be made to match.
    """

    name = "pkgsync"

    def __init__(
        self,
        environment: Environment | None = None,
        *,
        ignore: Iterable[str] | None = None,
        only: Iterable[str] | None = None,
        extra: Iterable[str] | None = None,
        strict: bool | None = None,
        scheduler: str | None = None,
        install_timeout: float | str | None = None,
        transport: str | None = None,
        modules: bool | Iterable[str] | None = None,
        store: str | None = None,
        on_conflict: str | None = None,
        levels: Mapping[str, str] | None = None,
        restart: str | None = None,
        keep: bool | None = None,
    ) -> None:
        options: Options = {
            "ignore": ignore,
            "only": only,
            "extra": extra,
            "strict": strict,
            "scheduler": scheduler,
            "install_timeout": install_timeout,
            "transport": transport,
            "modules": modules,
            "store": store,
            "on_conflict": on_conflict,
            "levels": levels,
            "restart": restart,
            "keep": keep,
        }
        is_scanned = environment is None
        snapshot = Snapshot(environment) if environment is not None else local_snapshot(options)
        self._take(snapshot, options, is_scanned=is_scanned)

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot) -> PackageSync:
        """Make a plugin of what was scanned just now, with the options that are configured."""
        plugin = cls.__new__(cls)
        plugin._take(snapshot, {}, is_scanned=True)  # noqa: SLF001  # of this very class
        return plugin

    def _take(self, snapshot: Snapshot, options: Options, *, is_scanned: bool) -> None:
        self.snapshot = snapshot
        self.target = make_target(snapshot.environment, options)
        self.client = ""
        if unknown := (self.target.policy.only or frozenset()) - snapshot.environment.distributions.keys():
            warnings.warn(NotInstalledWarning(tuple(sorted(unknown))), stacklevel=3)
        if is_scanned:
            _refuse_what_cannot_be_read(self.target)
            if found := conflicts(snapshot.environment):
                warnings.warn(InconsistentEnvironmentWarning(found), stacklevel=3)

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the package's own source, and be at the scheduler what a client has registered there."""
        state = {"target": target_to_wire(self.target), "client": self.client}
        return carried("dask_pkgsync.scheduler.plugin:registered_plugin", state, yields=True)


def make_target(environment: Environment, options: Options) -> Target:
    """Return what a client asks for."""
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
    )


def _refuse_what_cannot_be_read(target: Target) -> None:
    """Raise for local code that is not there any more, before anything travels."""
    for name, one in target.environment.distributions.items():
        lost = isinstance(one.origin, FromDirectory) and one.origin.editable and not one.origin.digest
        if lost and target.policy.rule(name).level not in (Level.IGNORE, Level.CRITICAL):
            fault = target.environment.faulty(name)
            raise WheelError(
                f"{name} {one.version}",
                fault.detail if fault else "its source directory cannot be read",
                advice=f"Install it again, or name {name} in ignore.",
            )


def _teach(clients: type[Client]) -> None:
    """Let ``client.register_plugin`` do the same: Dask chooses what to do by the type of the plugin."""

    async def registered(client: Client, plugin: PackageSync, name: str | None, idempotent: bool) -> None:  # noqa: FBT001
        await register(client, plugin, name, idempotent)  # (as Dask does, without an answer)

    def register_plugin(self: Client, plugin: PackageSync, name: str | None, idempotent: bool) -> Any:  # noqa: FBT001
        return self.sync(registered, self, plugin, name, idempotent)

    register_by(clients, PackageSync, register_plugin)


_teach(Client)
