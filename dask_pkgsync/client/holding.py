"""Holds what a recognised client sends until it has been verified, so that ``Client(...)`` itself need not wait for it.

A scheduler that recognises a client by its fingerprint lets it in at once (`client.recognition`). Whether its
environment, and every node of the cluster, are still what they were is verified afterwards, at the latest when the
client sends its first message: that message, whatever it asks for, waits for the result.

This module is imported by every client's preload, so it imports nothing that takes time.
"""

from __future__ import annotations

import asyncio
import logging
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from dask_pkgsync.client.dask_internals import fail_futures, intercept, is_closing

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed import Client

logger = logging.getLogger("dask_pkgsync")

QUIET = 0.25
"""Seconds after which a client that has sent nothing is verified all the same, while its user does something else."""
PAUSE = 1.0
"""Seconds before another try, after the connection broke."""
_passes: ContextVar[bool] = ContextVar("passes", default=False)
"""Whether what is sent in this context belongs to the verification itself, so that it must not wait for it."""


class Hold:
    """Holds the messages and calls of one client until it is verified.

    Parameters
    ----------
    client : distributed.Client
    verify : callable
        Verifies the client; syncs the cluster if that is needed. Raises what ``Client(...)`` would have raised.
    """

    def __init__(self, client: Client, verify: Callable[[Client], Awaitable[None]]) -> None:
        self.client = weakref.ref(client)
        self.verify = verify
        self.held: list[Any] = []
        """Messages for the stream, in their order."""
        self.verification: asyncio.Task[None] | None = None
        self.error: Exception | None = None
        """Why this client must not send anything."""
        self.undo = intercept(client, self.send, self.wait)
        self.timer = asyncio.get_running_loop().call_later(QUIET, self.begin)

    def begin(self) -> None:
        """Begin to verify, once."""
        client = self.client()
        if self.verification is None and client is not None and not is_closing(client):
            token = _passes.set(True)
            self.verification = asyncio.create_task(self._verify(client))
            _passes.reset(token)

    def send(self, send: Callable[[Any], None], message: Any) -> None:
        """Send a message of the client, or hold it."""
        client = self.client()
        if _passes.get() or client is None or is_closing(client) or self.is_verified:
            send(message)
        elif self.error is None:
            self.held.append(message)
            self.begin()
        else:
            fail_futures(client, self.error)

    @property
    def is_verified(self) -> bool:
        """Whether the verification has ended well: messages that were on their way to `send` then need not wait."""
        return self.verification is not None and self.verification.done() and self.error is None

    async def wait(self) -> None:
        """Wait until a call of the client may be made.

        Raises
        ------
        Exception
            What the verification has raised.
        """
        client = self.client()
        if _passes.get() or client is None or is_closing(client):
            return
        self.begin()
        if self.verification is not None:
            await asyncio.shield(self.verification)
        if self.error is not None:
            raise self.error

    async def _verify(self, client: Client) -> None:
        self.timer.cancel()
        try:
            await self._persist(client)
        except Exception as error:  # noqa: BLE001  # after any error: nothing may be sent to a cluster that does not match
            if is_closing(client):
                return
            self.error, self.held = error, []
            logger.error("this client can send nothing, as syncing its environment to the cluster failed: %s", error)  # noqa: TRY400  # errors of ours have no traceback in the log
            fail_futures(client, error)
            return
        send = self.undo()
        for message in self.held:
            send(message)

    async def _persist(self, client: Client) -> None:
        """Verify again if the connection breaks, for as long as the client reconnects."""
        while True:
            try:
                return await self.verify(client)
            except Exception as error:
                lost = isinstance(error, OSError) or isinstance(error.__cause__, OSError)
                if not lost or is_closing(client):
                    raise
            await asyncio.sleep(PAUSE)
