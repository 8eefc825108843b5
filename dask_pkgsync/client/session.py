"""On the client: syncs as it connects, and again when it has come back to a scheduler that knows nothing of it."""

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
"""Seconds between two tries to sync over connections that break."""
_MEMBERSHIP = "_pkgsync_membership"


class ClientSession:
    """Keeps what a client has synced in force, for as long as the client lives.

    Parameters
    ----------
    client : distributed.Client
    sync : callable
        Syncs again, as the client has done before.
    """

    def __init__(self, client: Client, sync: Callable[[], Awaitable[Any]]) -> None:
        self.client = client
        self.sync = sync
        self.again: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Look at every new connection from now on; a membership that is there already only syncs the new way."""
        known = vars(self.client).get(_MEMBERSHIP)
        if isinstance(known, ClientSession):
            known.sync = self.sync
            return
        vars(self.client)[_MEMBERSHIP] = self
        connect_by(self.client, self._connect)
        listen_for(self.client, TOLD, _told)

    @staticmethod
    def end(client: Client) -> None:
        """Let a client connect as Dask does, from now on: what it has synced was released."""
        vars(client).pop(_MEMBERSHIP, None)
        connect_as_ever(client)

    async def _connect(self, timeout: Any = None) -> None:
        """Connect as Dask does, and let nothing be sent over a new connection before the cluster matches again."""
        if await connect_as_dask(self.client, timeout):
            hold_messages(self.client)
            self.again = asyncio.create_task(self._sync_again())

    async def _sync_again(self) -> None:
        """Sync; Dask reads the client's stream meanwhile, on which the scheduler asks for local code."""
        client = self.client
        try:
            await self._persist()
        except Exception as error:  # whatever it is, the client does not go on
            if is_lost(client):
                await self._reconnect()
            else:
                # Nobody else waits here who could be told.
                reason = "this client is closed, as the cluster that it came back to does not take its environment: %s"
                logger.exception(reason, error, exc_info=None if isinstance(error, PkgsyncError) else error)  # noqa: TRY401  # where no traceback is
                await client.close()
            return
        if is_lost(client):
            await self._reconnect()
        elif is_holding(client):
            send_held_messages(client)

    async def _persist(self) -> None:
        """Sync, over connections that may break, for as long as the one to the scheduler itself is there."""
        while not await self._try():  # noqa: ASYNC110  # each look is a try
            await asyncio.sleep(_PAUSE)

    async def _try(self) -> bool:
        try:
            with contextlib.suppress(WarnsOnlyError):  # its operator has thought better of it
                await self.sync()
        except OSError:
            if is_lost(self.client):
                raise
            return False
        return True

    async def _reconnect(self) -> None:
        """Connect once more: Dask has stopped to read from a client that was not running when its connection broke."""
        client = self.client
        reading = reading_of(client)
        if reading is not None:
            await asyncio.wait([reading])
        if not is_holding(client):
            return
        await connect_again(client)  # which comes here again
        if (is_holding(client) or is_running(client)) and (reading is None or reading.done()):
            read_stream(client)


def _told(text: object, **_: object) -> None:
    """Pass on what the scheduler tells the client's person."""
    logger.warning("%s", harmless(str(text))[:2000])


async def sync_on_connect(client: Client, sync: Callable[[], Awaitable[Any]]) -> None:
    """Sync in the midst of ``Client(...)``, which raises what goes wrong.

    Dask calls preloads of a client before it reads the client's stream, and logs what they raise. So the reading begins
    here, and what it is to be begun with afterwards either goes on with that or raises.
    """
    outcome: asyncio.Task[None] | Exception = read_stream(client)
    try:
        await sync()
    except Exception as error:  # noqa: BLE001  # `Client(...)` raises it right after this, once
        outcome = error
    if isinstance(outcome, Exception):
        await client.close()
    instead_of_reading_once(client, outcome)
