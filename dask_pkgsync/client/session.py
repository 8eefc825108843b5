"""On the client: syncs when it connects, and again whenever it has reconnected."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from dask_pkgsync.client.dask_internals import (
    connect_again,
    connect_as_dask,
    connect_as_ever,
    connect_by,
    hold_messages,
    instead_of_reading_once,
    is_holding,
    is_lost,
    is_running,
    listen_for,
    read_stream,
    reading_of,
    send_held_messages,
)
from dask_pkgsync.model.errors import PkgsyncError, WarnsOnlyError
from dask_pkgsync.model.text import harmless
from dask_pkgsync.model.wire.protocol import TOLD

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed import Client

logger = logging.getLogger("dask_pkgsync")

_PAUSE = 1.0
"""Seconds before another try to sync, after a connection of the sync broke."""
_SESSION = "_pkgsync_session"
"""The attribute of a client under which its session is kept."""


class ClientSession:
    """Syncs again whenever a client that has synced reconnects, for as long as the client lives.

    Parameters
    ----------
    client : distributed.Client
    sync : callable
        Repeats the client's last sync.
    """

    def __init__(self, client: Client, sync: Callable[[], Awaitable[Any]]) -> None:
        self.client = client
        self.sync = sync
        self.again: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch for new connections from now on; if the client has a session already, that one gets the new sync."""
        existing = vars(self.client).get(_SESSION)
        if isinstance(existing, ClientSession):
            existing.sync = self.sync
            return
        vars(self.client)[_SESSION] = self
        connect_by(self.client, self._connect)
        listen_for(self.client, TOLD, _log_message)

    @staticmethod
    def end(client: Client) -> None:
        """End a client's session after a release: from now on it reconnects as Dask does, without a sync."""
        vars(client).pop(_SESSION, None)
        connect_as_ever(client)

    async def _connect(self, timeout: Any = None) -> None:
        """Connect as Dask does, and hold back what the client sends until the cluster matches again."""
        if await connect_as_dask(self.client, timeout):
            hold_messages(self.client)
            self.again = asyncio.create_task(self._sync_again())

    async def _sync_again(self) -> None:
        """Sync, then send what was held back; close the client if the sync fails.

        Dask reads the client's stream meanwhile, so that the scheduler can ask the client for packages.
        """
        client = self.client
        try:
            await self._persist()
        except Exception as error:  # after any error: the client must not run tasks on a cluster that does not match
            if is_lost(client):
                await self._reconnect()
            else:
                # No caller waits for this task, so the error is logged and not raised.
                reason = "this client is closed: it reconnected, and syncing its environment to the cluster failed: %s"
                logger.exception(reason, error, exc_info=None if isinstance(error, PkgsyncError) else error)  # noqa: TRY401  # our own errors have no traceback in the log
                await client.close()
            return
        if is_lost(client):
            await self._reconnect()
        elif is_holding(client):
            send_held_messages(client)

    async def _persist(self) -> None:
        """Sync again if a connection of the sync breaks, for as long as the client's own stream is there."""
        while not await self._try():  # noqa: ASYNC110  # not polling: each turn of the loop tries to sync
            await asyncio.sleep(_PAUSE)

    async def _try(self) -> bool:
        try:
            with contextlib.suppress(WarnsOnlyError):  # the scheduler that came back is in mode warn
                await self.sync()
        except OSError:
            if is_lost(self.client):
                raise
            return False
        return True

    async def _reconnect(self) -> None:
        """Connect once more, after the stream broke while messages were held: Dask has then stopped reading it."""
        client = self.client
        reading = reading_of(client)
        if reading is not None:
            await asyncio.wait([reading])
        if not is_holding(client):
            return
        await connect_again(client)  # this calls `_connect` again
        if (is_holding(client) or is_running(client)) and (reading is None or reading.done()):
            read_stream(client)


def _log_message(text: object, **_: object) -> None:
    """Log a message that the scheduler sends for the person at this client."""
    logger.warning("%s", harmless(str(text))[:2000])


async def sync_on_connect(client: Client, sync: Callable[[], Awaitable[Any]]) -> None:
    """Sync while ``Client(...)`` runs the client's preloads, and let ``Client(...)`` raise the error of the sync.

    Dask calls the preloads before it reads the client's stream, and only logs what they raise. So this function begins
    to read the stream itself. When Dask would begin to read it, Dask gets this reading, or the error of the sync.
    """
    outcome: asyncio.Task[None] | Exception = read_stream(client)
    try:
        await sync()
    except Exception as error:  # noqa: BLE001  # `Client(...)` raises it right after this function
        outcome = error
    instead_of_reading_once(client, outcome)
    if isinstance(outcome, Exception):
        with contextlib.suppress(asyncio.TimeoutError):  # what `Client(...)` has to raise is the error of the sync
            await client.close()
