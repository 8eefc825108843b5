"""On the client: syncs as it connects, and again when it has come back to a scheduler that knows nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

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
        vars(self.client)["_ensure_connected"] = self._ensure_connected
        self.client._stream_handlers[TOLD] = _told  # noqa: SLF001  # no public way to be told anything

    @staticmethod
    def end(client: Client) -> None:
        """Let a client connect as Dask does, from now on: what it has synced was released."""
        vars(client).pop(_MEMBERSHIP, None)
        vars(client).pop("_ensure_connected", None)

    async def _ensure_connected(self, timeout: Any = None) -> None:
        """Connect as Dask does, and let nothing be sent over a new connection before the cluster matches again."""
        before = self.client.scheduler_comm
        await type(self.client)._ensure_connected(self.client, timeout)  # noqa: SLF001  # what we stand in front of
        if self.client.status != "running" or self.client.scheduler_comm is before:
            return
        self.client.status = "connecting"  # tasks are kept until it runs (distributed 2026.8.0)
        self.again = asyncio.create_task(self._sync_again())

    async def _sync_again(self) -> None:
        """Sync; Dask reads the client's stream meanwhile, on which the scheduler asks for local code."""
        client = self.client
        try:
            await self._persist()
        except Exception as error:  # whatever it is, the client does not go on
            if self._is_lost:
                await self._reconnect()
            else:
                # Nobody else waits here who could be told.
                reason = "this client is closed, as the cluster that it came back to does not take its environment: %s"
                logger.exception(reason, error, exc_info=None if isinstance(error, PkgsyncError) else error)  # noqa: TRY401  # where no traceback is
                await client._close()  # noqa: SLF001  # what Dask does with one that is refused
            return
        if self._is_lost:
            await self._reconnect()
        elif client.status == "connecting":
            self._run()

    async def _persist(self) -> None:
        """Sync, over connections that may break, for as long as the one to the scheduler itself is there."""
        while not await self._try():  # noqa: ASYNC110  # each look is a try
            await asyncio.sleep(_PAUSE)

    async def _try(self) -> bool:
        try:
            with contextlib.suppress(WarnsOnlyError):  # its operator has thought better of it
                await self.sync()
        except OSError:
            if self._is_lost:
                raise
            return False
        return True

    @property
    def _is_lost(self) -> bool:
        """Whether the stream has broken, or Dask reads from it no more."""
        comm, reading = self.client.scheduler_comm, self.client._handle_report_task  # noqa: SLF001
        return comm is None or comm.closed() or (reading is not None and reading.done())

    async def _reconnect(self) -> None:
        """Connect once more: Dask has stopped to read from a client that was not running when its connection broke."""
        client = self.client
        reading = client._handle_report_task  # noqa: SLF001
        if reading is not None:
            await asyncio.wait([reading])
        if client.status != "connecting":
            return
        if (comm := client.scheduler_comm) is not None and not comm.closed():
            comm.abort()  # one that the scheduler has ended, and Dask reads no more
        await client._reconnect()  # noqa: SLF001  # which comes here again
        if client.status in ("connecting", "running") and (reading is None or reading.done()):
            client._handle_report_task = asyncio.create_task(client._handle_report())  # noqa: SLF001

    def _run(self) -> None:
        """Send what was kept, as Dask does when it has connected."""
        self.client.status = "running"
        kept, self.client._pending_msg_buffer[:] = list(self.client._pending_msg_buffer), []  # noqa: SLF001
        for message in kept:
            self.client._send_to_scheduler_safe(message)  # noqa: SLF001  # at once: what comes now is to come after


def _told(text: object, **_: object) -> None:
    """Pass on what the scheduler tells the client's person."""
    logger.warning("%s", harmless(str(text))[:2000])


async def sync_on_connect(client: Client, sync: Callable[[], Awaitable[Any]]) -> None:
    """Sync in the midst of ``Client(...)``, which raises what goes wrong.

    Dask calls preloads of a client before it reads the client's stream, and logs what they raise. So the reading begins
    here, and what it is to be begun with afterwards either goes on with that or raises (distributed 2026.8.0).
    """
    reading = client._handle_report_task = asyncio.create_task(client._handle_report())  # noqa: SLF001
    outcome: asyncio.Task[None] | Exception = reading
    try:
        await sync()
    except Exception as error:  # noqa: BLE001  # `Client(...)` raises it right after this, once
        outcome = error
    if isinstance(outcome, Exception):
        await client._close()  # noqa: SLF001
    _instead(client, outcome)


def _instead(client: Client, outcome: asyncio.Task[None] | Exception) -> None:
    """Answer the next call of ``_handle_report``, and that one only."""

    def handle_report() -> Any:
        del vars(client)["_handle_report"]
        if isinstance(outcome, Exception):
            raise outcome
        return _follow(outcome)

    vars(client)["_handle_report"] = handle_report


async def _follow(reading: asyncio.Task[None]) -> None:
    await reading
