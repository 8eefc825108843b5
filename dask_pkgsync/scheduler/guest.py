"""A guest: somebody who is no client of Dask's, and is served on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed.comm.core import Comm


class Guest:
    """Sends messages to a guest, in their order, for as long as its connection lasts.

    Parameters
    ----------
    comm : Comm
    client : str
        Dask's name of the client that the guest has as well; empty if it has none.
    """

    def __init__(self, comm: Comm, client: str = "") -> None:
        self.comm, self.client = comm, client
        self.name = f"pkgsync-guest-{uuid4().hex}"
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.stays = False
        """Whether what the guest has asked for is done although it has gone."""

    def send(self, message: dict[str, Any]) -> None:
        """Send a message, once those before it have been sent."""
        self.messages.put_nowait(message)

    async def serve(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work while the guest is there, and send what `send` is given meanwhile.

        Raises
        ------
        OSError
            If the guest goes before the work is done; the work is then cancelled.
        """
        working = asyncio.ensure_future(work())
        sending, listening = asyncio.create_task(self._send()), asyncio.create_task(self._listen())
        try:
            await asyncio.wait({working, listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and not self.stays:
                working.cancel()
                raise ConnectionResetError("the client has gone")
            await working
            await self.sent()
        finally:
            for task in (working, sending, listening):
                task.cancel()
            with contextlib.suppress(BaseException):
                await asyncio.gather(working, sending, listening, return_exceptions=True)

    async def sent(self) -> None:
        """Wait until all messages have been sent, unless the guest has gone."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self.messages.join(), 10)

    async def _send(self) -> None:
        while True:
            message = await self.messages.get()
            try:
                await self.comm.write(message)
            finally:
                self.messages.task_done()

    async def _listen(self) -> None:
        """Wait until the guest goes: it sends nothing more on this connection."""
        with contextlib.suppress(OSError):
            while True:
                await self.comm.read()
