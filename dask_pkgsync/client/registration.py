"""How a client asks a cluster for its environment: by joining, by a message, or by the plugin that it brings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_pkgsync.client.blob_provider import BlobProvider
from dask_pkgsync.client.dask_internals import ask_scheduler, register_at_scheduler
from dask_pkgsync.client.session import ClientSession
from dask_pkgsync.model.announcement import announcement_from_wire
from dask_pkgsync.model.errors import PkgsyncError, WarnsOnlyError
from dask_pkgsync.model.reports.answer import error_from_wire
from dask_pkgsync.model.reports.failure import SyncError
from dask_pkgsync.model.reports.sync import sync_report_from_wire
from dask_pkgsync.model.target import own_to_wire, target_to_wire
from dask_pkgsync.model.wire.protocol import ONLY_WARNS, TOPIC
from dask_pkgsync.model.wire.releases import THIS, ReleaseMismatchError, agree

if TYPE_CHECKING:
    from distributed import Client

    from dask_pkgsync.model.announcement import Announcement
    from dask_pkgsync.model.reports.sync import SyncReport
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scanning.snapshot import Snapshot


class Registrable(SchedulerPlugin):
    """What a client registers (`client.plugin.PackageSync`)."""

    name: str
    target: Target
    snapshot: Snapshot
    client: str
    """Dask's name of the client that registers it."""


async def announced(client: Client) -> Announcement | None:
    """Return what the scheduler says of itself; None where no dask-pkgsync is at work there."""
    return announcement_from_wire(await client.get_metadata([TOPIC], default=None))


async def join(client: Client, plugin: Registrable) -> SyncReport | None:
    """Take part in what the cluster has, if that is just what this client wants; None if it is not.

    It costs two short messages, where the plugin has to bring its source.

    Raises
    ------
    WarnsOnlyError
        If nothing is ever installed there.
    """
    told = await announced(client)
    if told is None or not (told.mode == "warn" or told.target == plugin.target.id) or not _can_talk(told):
        return None
    BlobProvider(client, plugin.snapshot, plugin.target.store).listen()
    plugin.client = client.id
    own = own_to_wire(plugin.target)
    answer = await ask_scheduler(client, "pkgsync_join", client=client.id, target=plugin.target.id, rest=own)
    if answer == ONLY_WARNS:
        raise WarnsOnlyError
    if answer is None:
        return None
    ClientSession(client, lambda: register(client, plugin, None, idempotent=False)).begin()
    return sync_report_from_wire(answer)


async def register(client: Client, plugin: Registrable, name: str | None, idempotent: bool) -> SyncReport:  # noqa: FBT001  # as Dask calls it
    """Let the cluster have what the plugin asks for, with the client answering for what nodes cannot get elsewhere.

    Raises
    ------
    EnvironmentMismatchError, ConflictError, SyncError
        As for `client.api.sync`.
    ReleaseMismatchError
        If the scheduler is guarded by a dask-pkgsync that this one cannot talk to.
    """

    async def again() -> SyncReport:
        return await _ask(client, plugin, name, idempotent=idempotent)

    BlobProvider(client, plugin.snapshot, plugin.target.store).listen()
    plugin.client = client.id
    is_set = False
    try:
        report = await again()
        is_set = True
    except SyncError as error:
        is_set = error.adopted
        raise
    finally:
        if is_set:
            ClientSession(client, again).begin()
    return report


async def _ask(client: Client, plugin: Registrable, name: str | None, *, idempotent: bool) -> SyncReport:
    """Ask by a message where a dask-pkgsync is at work that is to stay, else bring the plugin."""
    told = await announced(client)
    if told is not None and _is_to_stay(told):
        report = await _by_message(client, plugin)
        if report is not None:
            return report
    await register_at_scheduler(client, plugin, name or plugin.name, idempotent)
    return sync_report_from_wire(await ask_scheduler(client, "pkgsync_last", client=client.id))


def _is_to_stay(told: Announcement) -> bool:
    """Whether the scheduler's dask-pkgsync is not to be replaced by this client's.

    Raises
    ------
    ReleaseMismatchError
        If it is to stay, and this release cannot talk to it.
    """
    if told.is_guarded:
        agree(told.release, here="the client", there="the cluster's scheduler")
        return True
    return told.release.version != THIS.version and _can_talk(told)


def _can_talk(told: Announcement) -> bool:
    try:
        agree(told.release, here="the client", there="the cluster's scheduler")
    except ReleaseMismatchError:
        return False
    return True


async def _by_message(client: Client, plugin: Registrable) -> SyncReport | None:
    """Ask for a sync; None where nothing of ours is at work any more."""
    target = target_to_wire(plugin.target)
    match await ask_scheduler(client, "pkgsync_sync", target=target, client=client.id):
        case None:
            return None
        case {"error": error}:
            raise error_from_wire(error)
        case {"report": report}:
            return sync_report_from_wire(report)
    raise PkgsyncError("the scheduler's dask-pkgsync gave an answer that this one does not know: install the same one")
