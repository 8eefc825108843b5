"""Plugins that arrive in place of ours, load ours in a thread, and become it. This file travels as text, by itself.

Dask unpickles plugins on the event loop of a scheduler, nanny or worker. Importing our package there would hold the
loop for up to a second. So what is unpickled is a stand-in, which is made from this text alone (see `carry.travel`).
This file imports nothing of ours, and must run on every Python and every Dask that we support.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from distributed import Status
from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin

if TYPE_CHECKING:
    from typing import Any

    from distributed import Nanny, Scheduler, Worker


class StandIn:
    """Stands in for a plugin of ours until Dask sets it up.

    Parameters
    ----------
    bootstrap : str
        The text of `carry.bootstrap`.
    arguments : dict
        The arguments of its function `load`, which returns the plugin.
    """

    name = "pkgsync"

    def __init__(self, bootstrap: str, arguments: dict[str, Any]) -> None:
        self.bootstrap, self.arguments = bootstrap, arguments

    async def become(self) -> None:
        """Load the plugin in a thread, and become it: Dask keeps this object among its plugins."""
        plugin = await asyncio.to_thread(self._load)
        self.__class__, self.__dict__ = type(plugin), vars(plugin)

    def _load(self) -> Any:
        names: dict[str, Any] = {"__name__": "dask_pkgsync_bootstrap"}
        exec(compile(self.bootstrap, "dask_pkgsync/carry/bootstrap.py", "exec"), names)  # noqa: S102  # our own text
        return names["load"](**self.arguments)


class SchedulerStandIn(StandIn, SchedulerPlugin):
    """Stands in for a plugin of a scheduler; what loading raises reaches the client."""

    async def start(self, scheduler: Scheduler) -> None:
        """Become the plugin, and start it."""
        await self.become()
        await self.start(scheduler)  # that of the plugin


class NannyStandIn(StandIn, NannyPlugin):
    """Stands in for a plugin of a nanny; where loading fails, the scheduler's gate lets no worker of it register."""

    async def setup(self, nanny: Nanny) -> None:
        """Become the plugin, and set it up."""
        await self.become()
        await self.setup(nanny)


class WorkerStandIn(StandIn, WorkerPlugin):
    """Stands in for a plugin of a worker; where loading fails, the worker takes no tasks."""

    async def setup(self, worker: Worker) -> None:
        """Become the plugin, and set it up."""
        try:
            await self.become()
        except Exception as error:
            if worker.status == Status.running and not worker.periodic_callbacks["heartbeat"].is_running():
                await _leave(
                    worker, error
                )  # it has just registered: Dask would only log the error, and let it take tasks
            raise
        await self.setup(worker)


async def _leave(worker: Worker, error: Exception) -> None:
    """Close a worker that has registered, and cannot be verified."""
    logging.getLogger("distributed.pkgsync").error("this worker could not be verified, and leaves: %s", error)
    if worker.nanny:
        os._exit(1)  # its nanny waits for the start: with Worker.close the two would wait for each other
    await worker.close(nanny=False, executor_wait=False, reason="pkgsync-not-verified")


STAND_INS = {"scheduler": SchedulerStandIn, "nanny": NannyStandIn, "worker": WorkerStandIn}
"""The stand-in for a plugin of each role."""
