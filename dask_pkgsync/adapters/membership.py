"""On the client: syncs as it connects, and again when it has come back to a scheduler that knows nothing of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from dask_pkgsync.core.errors import PkgsyncError, WarnsOnlyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed import Client

logger = logging.getLogger("dask_pkgsync")

_MEMBERSHIP = "_pkgsync_membership"


class Membership:
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
        if isinstance(known, Membership):
            known.sync = self.sync
            return
        vars(self.client)[_MEMBERSHIP] = self
        vars(self.client)["_ensure_connected"] = self._ensure_connected

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
        client, comm = self.client, self.client.scheduler_comm
        try:
            await self.sync()
        except (OSError, PkgsyncError) as error:
            if comm is None or comm.closed():
                await self._reconnect()
                return
            # Nobody waits here who could be told with a traceback.
            logger.error("closed: the cluster that this client came back to does not take it: %s", error)  # noqa: TRY400
            await client._close()  # noqa: SLF001  # what Dask does with one that is refused
            return
        if client.status == "connecting":
            self._run()

    async def _reconnect(self) -> None:
        """Connect once more: Dask has stopped to read from a client that was not running when its connection broke."""
        client = self.client
        if (reading := client._handle_report_task) is not None:  # noqa: SLF001
            await asyncio.wait([reading])
        if client.status != "connecting":
            return
        await client._reconnect()  # noqa: SLF001  # which comes here again
        if client.status == "connecting":
            client._handle_report_task = asyncio.create_task(client._handle_report())  # noqa: SLF001

    def _run(self) -> None:
        """Send what was kept, as Dask does when it has connected."""
        self.client.status = "running"
        kept, self.client._pending_msg_buffer[:] = list(self.client._pending_msg_buffer), []  # noqa: SLF001
        for message in kept:
            self.client._send_to_scheduler(message)  # noqa: SLF001


async def sync_on_connect(client: Client, sync: Callable[[], Awaitable[Any]]) -> None:
    """Sync in the midst of ``Client(...)``, which raises what goes wrong.

    Dask calls preloads of a client before it reads the client's stream, and logs what they raise. So the reading begins
    here, and what it is to be begun with afterwards either goes on with that or raises (distributed 2026.8.0).
    """
    reading = client._handle_report_task = asyncio.create_task(client._handle_report())  # noqa: SLF001
    try:
        with contextlib.suppress(WarnsOnlyError):
            await sync()
    except BaseException as error:
        await client._close()  # noqa: SLF001
        _instead(client, error)
        raise
    _instead(client, reading)


def _instead(client: Client, outcome: asyncio.Task[None] | BaseException) -> None:
    """Answer the next call of ``_handle_report``, and that one only."""

    def handle_report() -> Any:
        del vars(client)["_handle_report"]
        if isinstance(outcome, BaseException):
            raise outcome
        return _follow(outcome)

    vars(client)["_handle_report"] = handle_report


async def _follow(reading: asyncio.Task[None]) -> None:
    await reading
