"""What a person calls with a client in hand."""

from __future__ import annotations

import asyncio
import functools
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from distributed import Client

from dask_pkgsync.carry.archive import archive
from dask_pkgsync.client.dask_internals import ask_scheduler, scheduler_versions
from dask_pkgsync.client.handshake import take_presented
from dask_pkgsync.client.plugin import PackageSync
from dask_pkgsync.client.progress_events import events_reported_to
from dask_pkgsync.client.registration import announced, join, register
from dask_pkgsync.client.session import ClientSession, sync_on_connect
from dask_pkgsync.display.reporters import make_reporter
from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.environments.environment import environment_to_wire
from dask_pkgsync.model.errors import PkgsyncError, WarnsOnlyError
from dask_pkgsync.model.handshake import versions_in
from dask_pkgsync.model.mismatch import EnvironmentMismatchWarning
from dask_pkgsync.model.policy import Policy, policy_to_wire
from dask_pkgsync.model.reports.progress import OnlyIfNeeded, Reporter
from dask_pkgsync.model.reports.status import status_from_wire
from dask_pkgsync.model.reports.sync import sync_report_from_wire
from dask_pkgsync.model.reports.verdict import LET_IN, UNGUARDED, Verdict, refused, verdict_from_wire
from dask_pkgsync.options.keywords import refuse_unknown, takes_options
from dask_pkgsync.options.person import policy_from, this_person
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from typing_extensions import Unpack

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.reports.status import ClusterStatus
    from dask_pkgsync.model.reports.sync import SyncReport
    from dask_pkgsync.options.keywords import Options


@takes_options
def sync(
    client: Client,
    environment: Environment | None = None,
    *,
    progress: bool | Reporter | None = None,
    **options: Unpack[Options],
) -> SyncReport:
    """Make every node of a cluster match this environment, and show how it goes.

    Parameters
    ----------
    client : distributed.Client
        A connected client; an asynchronous one gets an awaitable back.
    environment : Environment, optional
        What the cluster is to have; by default this interpreter, as it is now.
    **options
        Keywords of `Options`; the reference and ``help(sync)`` describe each. None: as Dask's configuration has it.
    progress : bool or Reporter, optional
        False shows nothing; by default it is shown in the way that fits the terminal or notebook.

    Returns
    -------
    SyncReport
        What was done to each node. It prints as a table.

    Raises
    ------
    EnvironmentMismatchError
        If the client differs from the scheduler in a critical package.
    ConflictError
        If another client has set an environment that conflicts with this one.
    SyncError
        If a node could not be made to match.
    """
    refuse_unknown(sync, options)
    if not isinstance(client, Client):
        raise TypeError(f"expected a distributed.Client, found {client!r:.100}; connect first: Client({client!r:.50})")
    return _sync_and_wait(client, functools.partial(PackageSync, environment, **options), progress=progress)


def _sync_and_wait(client: Client, make: Callable[[], PackageSync], *, progress: bool | Reporter | None) -> SyncReport:
    reporter = progress if isinstance(progress, Reporter) else make_reporter(progress)
    try:
        report: SyncReport = client.sync(_sync, client, make, reporter)
    except KeyboardInterrupt as error:  # the sync itself goes on, on the event loop; the terminal is the person's again
        reporter.failed(error)
        raise
    return report


async def sync_at_connection(client: Client) -> None:
    """Sync with what is configured, while ``Client(...)`` is being made, which raises what goes wrong."""
    reporter = OnlyIfNeeded(make_reporter(None))

    async def sync_or_warn() -> None:
        snapshot = await asyncio.to_thread(take_presented)  # which may scan
        try:
            await _sync(client, lambda: PackageSync.of_snapshot(snapshot), reporter)
        except WarnsOnlyError:
            verdict = await _check(client, snapshot.environment, policy_from({}))
            if verdict.differences:
                warnings.warn(EnvironmentMismatchWarning(verdict.differences), stacklevel=2)

    await sync_on_connect(client, sync_or_warn)


async def _sync(client: Client, make: Callable[[], PackageSync], reporter: Reporter) -> SyncReport:
    plugin = await asyncio.to_thread(make)
    reporter.started(plugin.target.id)
    try:
        if (joined := await join(client, plugin)) is not None:
            reporter.finished(joined)
            return joined
        await asyncio.to_thread(archive)
        async with events_reported_to(client, reporter):
            report = await register(client, plugin, plugin.name, idempotent=False)
        await _warn_of_what_stays(client, plugin)
    except OSError as error:
        reporter.failed(error)
        raise PkgsyncError(
            f"the connection to the scheduler was lost during the sync: {error}\n"
            "  what to do: look into the scheduler's log; once it runs again, connect and sync again."
        ) from error
    except PkgsyncError as error:
        reporter.failed(error)
        raise error.with_traceback(None) from None  # the scheduler's own lines say nothing to a person
    except BaseException as error:
        reporter.failed(error)  # a live display must be taken down, also on Ctrl-C
        raise
    reporter.finished(report)
    return report


async def _warn_of_what_stays(client: Client, plugin: PackageSync) -> None:
    """Where the operator decides what the cluster has, tell which local code tasks will not find."""
    told = await announced(client)
    if told is not None and told.mode == "enforce":
        verdict = await _check(client, plugin.target.environment, plugin.target.policy)
        for note in verdict.notes:
            warnings.warn(note, stacklevel=2)


def status(client: Client) -> ClusterStatus:
    """Return what the scheduler knows of every node against the target.

    Raises
    ------
    PkgsyncError
        If the cluster was never synced.
    """
    found: ClusterStatus = client.sync(_status, client)
    return found


async def _status(client: Client) -> ClusterStatus:
    return status_from_wire(await _call(client, "pkgsync_status"))


def release(client: Client) -> SyncReport:
    """Give a cluster its base back, and open the gate.

    Returns
    -------
    SyncReport
        What was done to each node; what a running process still has of the released environment is noted.
    """
    found: SyncReport = client.sync(_release, client)
    return found


async def _release(client: Client) -> SyncReport:
    report = sync_report_from_wire(await _call(client, "pkgsync_release", client=client.id, person=this_person()))
    ClientSession.end(client)
    return report


def check(client: Client, environment: Environment, policy: Policy | None = None) -> Verdict:
    """Return whether a cluster would let a client with an environment in, which would sync by a policy."""
    found: Verdict = client.sync(_check, client, environment, policy or Policy())
    return found


async def _check(client: Client, environment: Environment, policy: Policy) -> Verdict:
    wanted = {"environment": environment_to_wire(environment), "policy": policy_to_wire(policy)}
    answer = await ask_scheduler(client, "pkgsync_check", **wanted, process=this_process().token)
    if answer is not None:
        return verdict_from_wire(answer)
    here = versions_in({"versions": await scheduler_versions(client)})
    found = compare_critical(here, critical_versions(environment), expected_label="cluster", found_label="client")
    return replace(refused(found, enforced=False) if found else Verdict(LET_IN), notes=(UNGUARDED,))


async def _call(connected: Client, operation: str, /, **arguments: Any) -> Any:
    answer = await ask_scheduler(connected, operation, **arguments)
    if answer is None:  # nobody has made the scheduler know the operation
        raise PkgsyncError("nobody has synced this cluster: call sync(client) first")
    return answer
