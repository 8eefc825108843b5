"""How a client asks a cluster to have its environment: it joins the target, sends a message, or brings the plugin."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_pkgsync.client.blob_provider import BlobProvider
from dask_pkgsync.client.dask_internals import ask_scheduler, register_at_scheduler
from dask_pkgsync.client.session import ClientSession
from dask_pkgsync.model.announcement import announcement_from_wire
from dask_pkgsync.model.errors import PkgsyncError, WarnsOnlyError
from dask_pkgsync.model.reports.answer import error_from_wire
from dask_pkgsync.model.reports.failure import SyncError
from dask_pkgsync.model.reports.sync import SyncReport, sync_report_from_wire
from dask_pkgsync.model.target import own_to_wire, target_to_wire
from dask_pkgsync.model.wire.protocol import ONLY_WARNS, TOPIC
from dask_pkgsync.model.wire.releases import THIS, ReleaseMismatchError, agree

if TYPE_CHECKING:
    from distributed import Client

    from dask_pkgsync.model.announcement import Announcement
    from dask_pkgsync.model.reports.discrepancies import Discrepancy
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scanning.snapshot import Snapshot


class Registrable(SchedulerPlugin):
    """The interface of the plugin that a client registers (`client.plugin.PackageSync`)."""

    name: str
    target: Target
    snapshot: Snapshot
    discrepancies: tuple[Discrepancy, ...]
    """What the nodes will not have as it is in the client's process and environment."""
    client: str
    """Dask's id of the client that registers it; empty before."""


async def announced(client: Client) -> Announcement | None:
    """Return the scheduler's announcement (mode, release, target); None if no dask-pkgsync is at work there."""
    return announcement_from_wire(await client.get_metadata([TOPIC], default=None))


async def join(client: Client, plugin: Registrable, presented: str = "") -> SyncReport | None:
    """Add this client's claim to the cluster's target, if the two are equal; return None if they are not.

    Where the operator enforces a target, a client joins it with any environment that the gate has let in. This costs
    two short messages, while registering the plugin sends its source.

    Parameters
    ----------
    client : distributed.Client
    plugin : Registrable
    presented : str
        Fingerprint of the environment that the client has presented in its handshake; empty if it has presented none.

    Raises
    ------
    WarnsOnlyError
        If the operator has configured the cluster to install nothing (mode ``warn``).
    """
    announcement = await announced(client)
    if announcement is None or not _can_talk(announcement):
        return None
    is_enforced = announcement.mode == "enforce" and bool(presented)
    if announcement.mode != "warn" and not is_enforced and announcement.target != plugin.target.id:
        return None
    BlobProvider(client, plugin.snapshot, plugin.target.store).listen()
    plugin.client = client.id
    own = own_to_wire(plugin.target)
    answer = await ask_scheduler(
        client, "pkgsync_join", client=client.id, target=plugin.target.id, rest=own, fingerprint=presented
    )
    if answer == ONLY_WARNS:
        raise WarnsOnlyError
    if answer is None:
        return None
    ClientSession(client, lambda: register(client, plugin, None, idempotent=False)).begin()
    return replace(sync_report_from_wire(answer), here=plugin.discrepancies)


async def register(client: Client, plugin: Registrable, name: str | None, idempotent: bool) -> SyncReport:  # noqa: FBT001  # as Dask calls it
    """Sync the cluster with the plugin's target, while the client provides the packages that no index has.

    When the target is set, the client's session begins: the client syncs again whenever it has reconnected.

    Raises
    ------
    EnvironmentMismatchError, ConflictError, SyncError
        As for `client.api.sync`.
    ReleaseMismatchError
        If the scheduler is guarded by a release of dask-pkgsync that the client's release cannot talk to.
    """

    async def sync() -> SyncReport | None:
        return await _ask(client, plugin, name, idempotent=idempotent)

    BlobProvider(client, plugin.snapshot, plugin.target.store).listen()
    plugin.client = client.id
    is_set = False
    try:
        report = await sync()
        is_set = True
    except SyncError as error:
        is_set = error.adopted
        raise
    finally:
        if is_set:
            ClientSession(client, sync).begin()
    if report is None:
        answer = await ask_scheduler(client, "pkgsync_last", client=client.id)
        report = sync_report_from_wire(answer) if answer is not None else SyncReport(plugin.target.id, ())
    return replace(report, here=plugin.discrepancies)


async def _ask(client: Client, plugin: Registrable, name: str | None, *, idempotent: bool) -> SyncReport | None:
    """Sync by a message if the scheduler keeps the dask-pkgsync that it has; else register the plugin, and return None.

    Raises
    ------
    PkgsyncError
        Also if the scheduler is guarded by a release that says nothing of itself, and keeps that.
    """
    announcement = await announced(client)
    if announcement is not None and is_to_stay(announcement):
        report = await _by_message(client, plugin)
        if report is not None:
            return report
    try:
        await register_at_scheduler(client, plugin, name or plugin.name, idempotent)
    except PkgsyncError:
        raise
    except ImportError as error:  # of `carry.bootstrap`, which cannot raise errors of ours
        raise PkgsyncError(str(error)) from None
    return None


def is_to_stay(announcement: Announcement) -> bool:
    """Whether the scheduler keeps its dask-pkgsync, instead of getting this client's.

    It does if the operator guards the scheduler with it, or if it is another release that this one can talk to.

    Raises
    ------
    ReleaseMismatchError
        If the operator guards the scheduler with a release that this one cannot talk to.
    """
    if announcement.is_guarded:
        agree(announcement.release, here="the client", there="the cluster's scheduler")
        return True
    return announcement.release.version != THIS.version and _can_talk(announcement)


def _can_talk(announcement: Announcement) -> bool:
    try:
        agree(announcement.release, here="the client", there="the cluster's scheduler")
    except ReleaseMismatchError:
        return False
    return True


async def _by_message(client: Client, plugin: Registrable) -> SyncReport | None:
    """Ask the scheduler's dask-pkgsync for a sync; return None if none is at work any more."""
    target = target_to_wire(plugin.target)
    match await ask_scheduler(client, "pkgsync_sync", target=target, client=client.id):
        case None:
            return None
        case {"error": error}:
            raise error_from_wire(error)
        case {"report": report}:
            return sync_report_from_wire(report)
    raise PkgsyncError(
        "the scheduler's dask-pkgsync answered in a way that this client's does not understand: "
        "install the same release on both sides"
    )
