"""The public functions that take a cluster: `sync`, `status`, `release`, `check`, and `compare` for a cluster."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, overload

from distributed import Client

from dask_pkgsync.carry.archive import copy
from dask_pkgsync.client import recognition
from dask_pkgsync.client.clusters import place_of, with_client
from dask_pkgsync.client.connection import connected
from dask_pkgsync.client.dask_internals import (
    ask_scheduler,
    close,
    connected_again,
    scheduler_address,
    scheduler_at,
    scheduler_id,
    scheduler_versions,
)
from dask_pkgsync.client.handshake import presented_snapshot
from dask_pkgsync.client.looking import observed
from dask_pkgsync.client.plugin import PackageSync
from dask_pkgsync.client.progress_events import events_reported_to
from dask_pkgsync.client.registration import announced, join, register
from dask_pkgsync.client.relaunch import outcome_at, sync_at
from dask_pkgsync.client.session import ClientSession, sync_on_connect
from dask_pkgsync.client.supplies import supplies_of
from dask_pkgsync.display.reporters import make_reporter
from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.environments.environment import environment_to_wire
from dask_pkgsync.model.errors import PkgsyncError, WarnsOnlyError
from dask_pkgsync.model.handshake import versions_in
from dask_pkgsync.model.mismatch import EnvironmentMismatchWarning
from dask_pkgsync.model.policy import Policy, policy_to_wire
from dask_pkgsync.model.presentation import Presentation, short_presentation
from dask_pkgsync.model.reports.cluster_comparison import HERE, compare_nodes
from dask_pkgsync.model.reports.discrepancies import DiscrepancyWarning
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.reports.preview import preview
from dask_pkgsync.model.reports.progress import OnlyIfNeeded, Reporter
from dask_pkgsync.model.reports.status import BASE, ClusterStatus, NodeStatus, status_from_wire
from dask_pkgsync.model.reports.sync import sync_report_from_wire
from dask_pkgsync.model.reports.verdict import LET_IN, UNGUARDED, Verdict, refused, verdict_from_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import SCHEMA
from dask_pkgsync.model.wire.releases import agree
from dask_pkgsync.options.keywords import refuse_unknown, takes_options
from dask_pkgsync.options.person import cache_root, local_snapshot, policy_from, this_person
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.local_files import local_files
from dask_pkgsync.scanning.observation import CONTROLLER

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable
    from typing import Any, Literal, TypeVar

    from typing_extensions import Unpack

    from dask_pkgsync.client.clusters import ClusterName, Place
    from dask_pkgsync.client.handshake import Presented
    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.reports.cluster_comparison import ClusterComparison, ObservedNode
    from dask_pkgsync.model.reports.preview import SyncPreview
    from dask_pkgsync.model.reports.sync import SyncReport
    from dask_pkgsync.options.keywords import Options
    from dask_pkgsync.scanning.snapshot import Snapshot

    Result = TypeVar("Result")


@overload
def sync(
    client: ClusterName,
    environment: Environment | str | os.PathLike[str] | None = None,
    *,
    progress: bool | Reporter | None = None,
    dry_run: Literal[False] = False,
    **options: Unpack[Options],
) -> SyncReport: ...


@overload
def sync(
    client: ClusterName,
    environment: Environment | str | os.PathLike[str] | None = None,
    *,
    progress: bool | Reporter | None = None,
    dry_run: Literal[True],
    **options: Unpack[Options],
) -> SyncPreview: ...


@takes_options
def sync(
    client: ClusterName,
    environment: Environment | str | os.PathLike[str] | None = None,
    *,
    progress: bool | Reporter | None = None,
    dry_run: bool = False,
    **options: Unpack[Options],
) -> SyncReport | SyncPreview:
    """Make every node of a cluster match an environment, and show the progress.

    Parameters
    ----------
    client : distributed.Client, str, Path or cluster object
        A connected client. For an asynchronous client, the result is an awaitable of the report. Or the address of a
        scheduler, a scheduler file, or a cluster object such as a `LocalCluster`: a client is then opened for the sync,
        and closed after it, and the cluster keeps the environment (``keep=False`` changes that). The cluster need not
        let this client in, if it may be relaunched (``relaunch``).
    environment : Environment or path, optional
        The environment that the cluster gets, or the path of a lock file that pins it. By default, this interpreter's
        environment is scanned and used.
    **options
        Keywords of `Options`; the reference and ``help(sync)`` describe each. Dask's configuration (``pkgsync.…``)
        gives the options that are None.
    progress : bool or Reporter, optional
        False shows nothing. None and True show a live table in a terminal or notebook, and plain lines elsewhere. A
        `Reporter` receives the progress itself.
    dry_run : bool
        True: change nothing, and return what the sync would do.

    Returns
    -------
    SyncReport or SyncPreview
        What was done to each node, or would be done in a dry run. It prints as a table.

    Raises
    ------
    EnvironmentMismatchError
        If the client and the scheduler differ in a critical package.
    ConflictError
        If another connected client has set an environment that conflicts with this one (see ``on_conflict``).
    SyncError
        If a node could not be made to match. ``.failures`` gives the reason for each node.
    PolicyError
        If the options contradict each other, or if the operator has configured the cluster to install nothing.
    WheelError
        If the environment has local code whose source cannot be read.
    PkgsyncError
        If the scheduler cannot be reached, if the connection to it is lost, or for any other error of dask-pkgsync.
    TypeError
        If the client is nothing that names a cluster, or a keyword is not an option.
    """
    refuse_unknown(sync, options)
    if dry_run:
        make = functools.partial(PackageSync, environment, **options)
        result: SyncPreview = _with_scheduler(client, lambda scheduler: _preview(scheduler, make))
        return result
    if isinstance(client, Client):
        return _sync_and_wait(client, functools.partial(PackageSync, environment, **options), progress=progress)
    if options.get("keep") is None:
        options["keep"] = True
    return _sync_place(place_of(client), environment, options, progress=progress)


def _sync_place(
    place: Place,
    environment: Environment | str | os.PathLike[str] | None,
    options: Options,
    *,
    progress: bool | Reporter | None,
) -> SyncReport:
    """Make every node of the cluster at an address match an environment; relaunch it where that is needed and allowed.

    Parameters
    ----------
    place : Place
    environment, options, progress
        As for `sync`.
    """
    plugin = PackageSync(environment, **options)
    reporter = OnlyIfNeeded(progress if isinstance(progress, Reporter) else make_reporter(progress))

    def relaunch() -> SyncReport | None:
        reporter.started(plugin.target.id)
        try:
            report = asyncio.run(sync_at(place.address, place.security, plugin, reporter))
        except BaseException as error:
            reporter.failed(error)
            raise
        if report is not None:
            reporter.finished(report)
        return report

    # In a thread, as an event loop may run in this one (a notebook's).
    with ThreadPoolExecutor(1, thread_name_prefix="dask-pkgsync") as executor:
        report = executor.submit(relaunch).result()
    if report is not None:
        return report
    modules, presents = options.get("modules"), environment is None
    with connected(place.address, place.security, modules=modules, presents=presents, only_looks=False) as client:
        return _sync_and_wait(client, lambda: plugin, progress=progress)


def _sync_and_wait(
    client: Client, make_plugin: Callable[[], PackageSync], *, progress: bool | Reporter | None
) -> SyncReport:
    reporter = progress if isinstance(progress, Reporter) else make_reporter(progress)
    try:
        report: SyncReport = client.sync(_sync, client, make_plugin, reporter)
    except KeyboardInterrupt as error:  # the sync goes on, on the event loop; only its display ends
        reporter.failed(error)
        raise
    return report


async def sync_at_connection(client: Client, presented: Presented | None) -> None:
    """Sync as configured while ``Client(...)`` runs; ``Client(...)`` raises the errors of the sync.

    Parameters
    ----------
    client : distributed.Client
    presented : Presented or None
        What the client has presented in its handshake.
    """
    await sync_on_connect(client, lambda: sync_connected(client, presented))


async def sync_connected(client: Client, presented: Presented | None) -> None:
    """Sync a client that is connected, as configured, and remember that the scheduler knows its environment.

    Parameters
    ----------
    client : distributed.Client
    presented : Presented or None
        What the client has presented in its handshake. If that was not the environment itself, it is scanned here.
    """
    snapshot = await asyncio.to_thread(presented_snapshot, presented)  # in a thread, because it may scan
    plugin = await asyncio.to_thread(PackageSync.of_snapshot, snapshot)
    try:
        report = await _sync(
            client, lambda: plugin, OnlyIfNeeded(make_reporter(None)), presented=snapshot.environment.fingerprint
        )
    except WarnsOnlyError:
        verdict = await _check(client, snapshot.environment, policy_from({}))
        if verdict.differences:
            warnings.warn(EnvironmentMismatchWarning(verdict.differences), stacklevel=2)
        return
    if report.discrepancies:
        warnings.warn(DiscrepancyWarning(report.discrepancies), stacklevel=2)
    if presented is not None:
        with contextlib.suppress(LayerError, OSError):  # no cache directory can be used, or the connection broke
            await _remember(client, snapshot, plugin, presented.situation)


async def _remember(client: Client, snapshot: Snapshot, plugin: PackageSync, situation: str) -> None:
    """Remember that the scheduler knows this environment, so that the next client is recognised by its fingerprint."""
    announcement = await announced(client)
    if announcement is not None and announcement.recognises:
        short = short_presentation(Presentation(snapshot.environment, this_person()), plugin.target.id)
        situations, scheduler = [situation, recognition.situation()], scheduler_id(client)
        await asyncio.to_thread(
            lambda: recognition.remember(situations, scheduler, short, local_files(plugin.snapshot), cache_root())
        )


async def _sync(
    client: Client, make_plugin: Callable[[], PackageSync], reporter: Reporter, *, presented: str = ""
) -> SyncReport:
    plugin = await asyncio.to_thread(make_plugin)
    reporter.started(plugin.target.id)
    relaunched: SyncReport | None = None
    try:
        if plugin.target.relaunch != "never":
            address = scheduler_address(client)
            relaunched = await sync_at(address, client.security, plugin, reporter, client.id)
            if relaunched is not None:
                await connected_again(client)
        report = await join(client, plugin, presented)
        if report is None:
            await asyncio.to_thread(copy)  # cached, so that pickling the plugin does not block the event loop
            async with events_reported_to(client, reporter):
                report = await register(client, plugin, plugin.name, idempotent=False)
        if report.target != plugin.target.id:  # where a target is enforced
            await _warn_of_missing_local_code(client, plugin)
    except OSError as error:
        reporter.failed(error)
        raise PkgsyncError(
            f"the connection to the scheduler was lost during the sync: {error}\n"
            "  what to do: read the scheduler's log; when the scheduler runs again, connect and sync again."
        ) from error
    except PkgsyncError as error:
        reporter.failed(error)
        raise error.with_traceback(None) from None  # a traceback through the scheduler's code does not help the person
    except BaseException as error:
        reporter.failed(error)  # to remove a live display, also after Ctrl-C
        raise
    report = relaunched or report
    reporter.finished(report)
    return report


async def _warn_of_missing_local_code(client: Client, plugin: PackageSync) -> None:
    """In mode ``enforce``, warn of the client's local code that tasks will not find on the cluster."""
    announcement = await announced(client)
    if announcement is not None and announcement.mode == "enforce":
        verdict = await _check(client, plugin.target.environment, plugin.target.policy)
        for note in verdict.notes:
            warnings.warn(note, stacklevel=2)


def _with_scheduler(cluster: ClusterName, function: Callable[[Any], Awaitable[Result]]) -> Any:
    """Call a coroutine function with an object that calls the scheduler's handlers; no client is opened for that.

    Returns
    -------
    object
        The result; an awaitable of it for an asynchronous client.
    """
    if isinstance(cluster, Client):
        scheduler: Any = cluster.scheduler
        return cluster.sync(_named, function(scheduler), scheduler.address)
    place = place_of(cluster)

    async def call() -> Result:
        async with scheduler_at(place.address, place.security) as scheduler:
            return await function(scheduler)

    with ThreadPoolExecutor(1, "pkgsync-look") as thread:  # an event loop may run in this thread already
        return thread.submit(asyncio.run, _named(call(), place.address)).result()


async def _named(call: Awaitable[Result], address: str) -> Result:
    """Await a call of a scheduler; an error of the connection names its address."""
    try:
        return await call
    except PkgsyncError:
        raise
    except (OSError, ValueError, TypeError) as error:  # as Dask raises them for an address that is none, too
        raise PkgsyncError(f"cannot connect to {address}: {error}") from error


def compare_cluster(
    cluster: ClusterName, environment: Environment | None = None, policy: Policy | None = None, *, label: str = ""
) -> ClusterComparison:
    """Return how every node of a cluster differs from an environment, and from the other nodes; change nothing.

    Parameters
    ----------
    cluster : distributed.Client, str, Path or cluster object
    environment : Environment, optional
        By default this interpreter's.
    policy : Policy, optional
        By default as configured.
    label : str
        Heading of the column of the environment; by default ``this environment``.
    """
    comparison: ClusterComparison = _with_scheduler(
        cluster, lambda scheduler: _compare(scheduler, environment, policy, label)
    )
    return comparison


async def _compare(
    scheduler: Any, environment: Environment | None = None, policy: Policy | None = None, label: str = ""
) -> ClusterComparison:
    def own() -> tuple[Environment, Policy]:
        return environment or local_snapshot({}, verify=True).environment, policy or policy_from({})

    here, judge = await asyncio.to_thread(own)
    nodes = await observed(scheduler, here)
    return await asyncio.to_thread(lambda: compare_nodes(here, nodes, judge, label=label or HERE))


async def _preview(scheduler: Any, make_plugin: Callable[[], PackageSync]) -> SyncPreview:
    plugin = await asyncio.to_thread(make_plugin)
    target = plugin.target
    nodes = await observed(scheduler, target.environment)

    def plan() -> SyncPreview:
        comparison = compare_nodes(target.environment, nodes, target.policy)
        return preview(target, comparison, supplies_of(target, plugin.snapshot))

    return await asyncio.to_thread(plan)


def status(client: ClusterName) -> ClusterStatus:
    """Return how every node of a cluster, and every client, compares with the target.

    Nothing is changed. The scheduler answers from what it knows, and asks each node whether its layer and its base are
    still what they were. Where the cluster has no target, because nobody has synced it, every node is compared with
    this environment instead, as `compare` does it.

    Parameters
    ----------
    client : distributed.Client, str, Path or cluster object
        A connected client. For an asynchronous client, the result is an awaitable of the status. Or the address of a
        scheduler, a scheduler file, or a cluster object such as a `LocalCluster`.

    Returns
    -------
    ClusterStatus
        The state of each node and client. It prints as a table.

    Raises
    ------
    PkgsyncError
        If the scheduler cannot be reached.
    """
    cluster_status: Any = with_client(client, _status, presents=False)
    return cluster_status  # type: ignore[no-any-return]


async def _status(client: Client) -> ClusterStatus:
    if await announced(client) is not None:
        found = status_from_wire(await _call(client, "pkgsync_status"))
        if found.target:
            return found
        return replace(found, comparison=await _compare(client.scheduler))
    comparison = await _compare(client.scheduler)
    if any(_may_control(node) for node in comparison.nodes):  # it may have released the cluster
        answer = await _ask(client, "pkgsync_status")
        if answer is not None:
            return replace(status_from_wire(answer), comparison=comparison)
    workers = {node.nanny or node.address: node.address for node in comparison.nodes if node.role == "worker"}
    nodes = tuple(
        NodeStatus(
            node.address,
            node.role,
            BASE,
            node.problem,
            worker=workers.get(node.address, node.address if node.role == "worker" else ""),
        )
        for node in comparison.nodes
        if not node.nanny
    )
    return ClusterStatus("", nodes, comparison=comparison)


def _may_control(node: ObservedNode) -> bool:
    """Whether a node is a scheduler where dask-pkgsync may answer; a stock one logs a warning if it is asked."""
    return node.role == "scheduler" and (CONTROLLER in node.imported or node.is_partial or node.environment is None)


def release(client: ClusterName) -> SyncReport:
    """Give every node of a cluster its base environment back, and let clients with any environment in again.

    A cluster that was relaunched is relaunched once more, as it was before. That closes the client, whose Python or
    Dask the cluster does not have then.

    Parameters
    ----------
    client : distributed.Client, str, Path or cluster object
        A connected client. For an asynchronous client, the result is an awaitable of the report. Or the address of a
        scheduler, a scheduler file, or a cluster object such as a `LocalCluster`.

    Returns
    -------
    SyncReport
        What was done to each node. Its notes name what running processes have imported from the released environment
        and cannot unload.

    Raises
    ------
    PolicyError
        If the operator has configured what the cluster has (``pkgsync.mode`` is ``enforce`` or ``warn``).
    RelaunchRefusedError
        If the cluster was relaunched, and somebody would lose something.
    SyncError
        If the cluster was relaunched, and some nodes have not come back.
    PkgsyncError
        If the cluster was never synced.
    """
    report: Any = with_client(client, _release, presents=False)
    return report  # type: ignore[no-any-return]


async def _release(client: Client) -> SyncReport:
    released = await _call(client, "pkgsync_release", client=client.id, person=this_person(), schema=SCHEMA)
    report = sync_report_from_wire(released)
    ClientSession.end(client)
    if name := Field(released, "report").optional("relaunch", "").text(100):
        address = scheduler_address(client)
        await close(client)  # it has another Python or Dask than the cluster is about to have
        return await outcome_at(address, client.security, name)
    return report


def check(client: Client, environment: Environment, policy: Policy | None = None) -> Verdict:
    """Return whether a cluster would admit a client that has this environment and syncs under this policy."""
    verdict: Verdict = client.sync(_check, client, environment, policy or Policy())
    return verdict


async def _check(client: Client, environment: Environment, policy: Policy) -> Verdict:
    asked = {"environment": environment_to_wire(environment), "policy": policy_to_wire(policy)}
    answer = await _ask(client, "pkgsync_check", **asked, process=this_process().token)
    if answer is not None:
        return verdict_from_wire(answer)
    cluster = versions_in({"versions": await scheduler_versions(client)})
    differences = compare_critical(
        cluster, critical_versions(environment), expected_label="cluster", found_label="client"
    )
    return replace(refused(differences, enforced=False) if differences else Verdict(LET_IN), notes=(UNGUARDED,))


async def _call(asking: Client, operation: str, /, **arguments: Any) -> Any:
    if (answer := await _ask(asking, operation, **arguments)) is None:
        raise PkgsyncError("nobody has synced this cluster: call sync(client) first")
    return answer


async def _ask(asking: Client, operation: str, /, **arguments: Any) -> Any:
    """Call a handler of the scheduler's dask-pkgsync; return None if none was registered there.

    Raises
    ------
    ReleaseMismatchError
        If the scheduler has a release that the client's cannot talk to; then nothing is called.
    """
    if (announcement := await announced(asking)) is not None:
        agree(announcement.release, here="the client", there="the cluster's scheduler")
    return await ask_scheduler(asking, operation, **arguments)
