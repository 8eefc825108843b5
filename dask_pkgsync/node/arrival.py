"""In a process that was executed anew: tells its guard and the scheduler when its workers have registered."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from distributed import Nanny, Worker

from dask_pkgsync.model.wire.texts import several_lines
from dask_pkgsync.node.dask_internals import around_start, call_scheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dask_pkgsync.process.guard import Relaunched

PAUSE = 0.1
"""Seconds between two looks whether the scheduler listens."""


def notice(relaunched: Relaunched) -> None:
    """Watch the start of this process's nannies, or of its worker, and wait until their scheduler listens. Blocks.

    Parameters
    ----------
    relaunched : Relaunched
        How this process was relaunched (`process.guard`).
    """
    arrival = Arrival(relaunched)
    around_start(Nanny, arrival.start)
    around_start(Worker, arrival.start)
    _wait_for(relaunched.state["data"]["scheduler"], relaunched.state["timeout"] / 2)


class Arrival:
    """The start of the servers of this process."""

    def __init__(self, relaunched: Relaunched) -> None:
        self.relaunched = relaunched
        self.starting = 0
        """How many servers are starting."""

    async def start(self, server: Any, start: Callable[[], Awaitable[Any]]) -> Any:
        """Start a nanny or worker, and tell the scheduler that it has returned, or why it has not."""
        if self.relaunched.failure:
            await self._tell(server, failure=several_lines(self.relaunched.failure))
        self.starting += 1
        started = await start()
        self.starting -= 1
        if not self.relaunched.failure:
            await self._tell(server)
        if not self.starting and not self.relaunched.arrived.is_set():
            self.relaunched.arrive()
        return started

    async def _tell(self, server: Any, **more: Any) -> None:
        with contextlib.suppress(Exception):  # the scheduler may be one that knows nothing of this
            address = "" if more else server.address  # a server that has not started has none
            token = self.relaunched.state["token"]
            await call_scheduler(server, "pkgsync_returned", token=token, node=address, **more)


def _wait_for(address: str, timeout: float) -> None:
    """Wait until something listens at an address with a host and a port. Blocks."""
    place, deadline = urlsplit(address), time.monotonic() + timeout
    while place.hostname and place.port and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            return socket.create_connection((place.hostname, place.port), timeout=timeout).close()
        time.sleep(PAUSE)
    return None
