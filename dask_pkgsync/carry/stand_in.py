"""Plugins that arrive in place of ours, load ours in a thread, and become it. This file travels as text, by itself.

Dask unpickles plugins on the event loop of a scheduler, nanny or worker. Importing our package there would hold the
loop for up to a second. So what is unpickled is a stand-in, which is made from this text alone (see `carry.travel`).
This file imports nothing of ours, and must run on every Python and every Dask that we support.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
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
        The text of `carry.bootstrap`; empty if it has to be asked for.
    arguments : dict
        The arguments of its function `load`, which returns the plugin. If they have to be asked for, only ``target``.
    """

    name = "pkgsync"
    role = ""

    def __init__(self, bootstrap: str, arguments: dict[str, Any]) -> None:
        self.bootstrap, self.arguments = bootstrap, arguments

    async def become(self, ask: Any = None) -> bool:
        """Load the plugin in a thread, and become it: Dask keeps this object among its plugins.

        Parameters
        ----------
        ask : callable, optional
            The scheduler's handler that gives what this object only refers to.

        Returns
        -------
        bool
            False if the cluster has no target any more, so that there is nothing to become.
        """
        if not self.bootstrap and not await self._receive(ask):
            return False
        plugin = await asyncio.to_thread(self._load)
        self.__class__, self.__dict__ = type(plugin), vars(plugin)
        return True

    async def _receive(self, ask: Any) -> bool:
        """Ask the scheduler for the content of this plugin, and for the source where this host does not have it."""
        target = self.arguments["target"]
        for with_source in (False, True):
            parcel = await ask(role=self.role, target=target, with_source=with_source)
            if parcel is None:
                message = "the scheduler has sent a plugin of dask-pkgsync, and does not answer what is in it"
                raise ImportError(message)
            if not parcel:
                return False
            self.bootstrap, self.arguments = parcel["bootstrap"], parcel["arguments"]
            if with_source or await asyncio.to_thread(self._has_source):
                break
        return True

    def _has_source(self) -> bool:
        return bool(self._bootstrap()["is_here"](self.arguments["digest"]))

    def _load(self) -> Any:
        return self._bootstrap()["load"](**self.arguments)

    def _bootstrap(self) -> dict[str, Any]:
        names: dict[str, Any] = {"__name__": "dask_pkgsync_bootstrap"}
        exec(compile(self.bootstrap, "dask_pkgsync/carry/bootstrap.py", "exec"), names)  # noqa: S102  # our own text
        return names


class SchedulerStandIn(StandIn, SchedulerPlugin):
    """Stands in for a plugin of a scheduler; what loading raises reaches the client."""

    async def start(self, scheduler: Scheduler) -> None:
        """Become the plugin, and start it."""
        await self.become()
        await self.start(scheduler)  # that of the plugin


class NannyStandIn(StandIn, NannyPlugin):
    """Stands in for a plugin of a nanny; where loading fails, the scheduler's gate lets no worker of it register."""

    role = "nanny"

    async def setup(self, nanny: Nanny) -> None:
        """Become the plugin, and set it up."""
        if await self.become(nanny.scheduler.pkgsync_parcel):
            await self.setup(nanny)


class WorkerStandIn(StandIn, WorkerPlugin):
    """Stands in for a plugin of a worker; where loading fails, the worker takes no tasks."""

    role = "worker"

    async def setup(self, worker: Worker) -> None:
        """Become the plugin, and set it up; a worker that its nanny has verified against the same target needs none."""
        if worker.nanny and not self.bootstrap and _verified_against() == self.arguments["target"]:
            return
        try:
            is_there = await self.become(worker.scheduler.pkgsync_parcel)
        except Exception as error:
            if worker.status == Status.running and not worker.periodic_callbacks["heartbeat"].is_running():
                await _leave(
                    worker, error
                )  # it has just registered: Dask would only log the error, and let it take tasks
            raise
        if is_there:
            await self.setup(worker)


def _verified_against() -> str:
    """Return the name of the target that this process was verified against (`process.state`); empty if none."""
    state = getattr(sys.modules.get("_dask_pkgsync_process"), "state", None)
    return getattr(state, "target", "")


async def _leave(worker: Worker, error: Exception) -> None:
    """Close a worker that has registered, and cannot be verified."""
    logging.getLogger("distributed.pkgsync").error("this worker could not be verified, and leaves: %s", error)
    if worker.nanny:
        os._exit(1)  # its nanny waits for the start: with Worker.close the two would wait for each other
    await worker.close(nanny=False, executor_wait=False, reason="pkgsync-not-verified")


STAND_INS = {"scheduler": SchedulerStandIn, "nanny": NannyStandIn, "worker": WorkerStandIn}
"""The stand-in for a plugin of each role."""
