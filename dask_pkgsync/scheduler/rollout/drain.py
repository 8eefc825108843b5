"""The drain: before a worker is restarted for a sync, it finishes its tasks, and its results move to its peers."""

from __future__ import annotations

import asyncio
import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.scheduler import drain_share, drain_timeout
from dask_pkgsync.scheduler.dask_internals import free_worker, hold_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler
    from distributed.scheduler import WorkerState

_PAUSE = 0.1
"""Seconds between two checks of a worker that is being drained."""
_LONG_PAUSE = 1.0
"""Seconds between two checks where no node waits for the result, or where peers are restarting."""


class Drain:
    """Drains workers that hold results or run tasks, a few at a time; idle workers may be restarted at once.

    An idle worker is held until it is restarted, and so is a worker that cannot be drained: it finishes its tasks, its
    peers can fetch its results, and it gets no new tasks.

    Parameters
    ----------
    scheduler : Scheduler
    log_event : callable
        Receives an event (a dictionary) for each worker that was drained, or could not be.
    """

    def __init__(self, scheduler: Scheduler, log_event: Callable[[dict[str, Any]], None]) -> None:
        self.scheduler = scheduler
        self.log_event = log_event
        self.on_begin: Callable[[str], None] = lambda _: None
        """Receives the address of each node whose worker begins to be drained."""
        self.places = asyncio.Semaphore(1)
        """One place for each worker that may be drained and restarted at the same time."""
        self.taken: set[str] = set()
        """Addresses of the nodes that have a place."""
        self.held: set[str] = set()
        """Addresses of the workers that get no new tasks."""
        self.timeout = 0.0
        """Seconds that draining one worker may take."""
        self.at_once = False
        """Whether workers that cannot be drained are restarted all the same."""
        self.has_peers = False
        """Whether the cluster had more than one worker when the sync began."""

    def begin(self, restart: str, *, patience: float | None = None) -> None:
        """Begin a sync or release: read how many workers to drain at once, and how long each may take.

        Parameters
        ----------
        restart : {"drained", "now"}
            Whether a worker that cannot be drained is held, or restarted all the same.
        patience : float, optional
            Seconds for each worker; by default ``pkgsync.drain-timeout``.
        """
        share = drain_share()
        self.timeout = drain_timeout() if patience is None else patience
        self.at_once = restart == "now"
        self.has_peers = len(self.scheduler.workers) > 1
        self.places = asyncio.Semaphore(max(1, int(share * len(self.scheduler.workers))))
        self.taken = set()

    def free_place(self, node: str) -> None:
        """Free the place of a node whose worker has restarted, has failed, or is held."""
        if node in self.taken:
            self.taken.remove(node)
            self.places.release()

    async def handle_drain(self, worker: str, node: str, **_: object) -> dict[str, Any]:
        """Drain a worker: let it finish its tasks, and move its results to its peers.

        Its node keeps one of the places until `free_place` is called for it.

        Returns
        -------
        dict
            ``go``: whether the worker may be restarted. ``lost``: the results and tasks that it still has, as text.
        """
        state = self.scheduler.workers.get(Field(worker, "worker").text())
        if (self.at_once and not self.timeout) or state is None or Field(node, "node").text() != state.nanny:
            return {"go": True, "lost": ""}
        if not (state.has_what or state.processing):
            self._hold(state)  # in the same moment, so that it gets no task before another worker has its place
            return {"go": True, "lost": ""}
        await self.places.acquire()
        self.taken.add(node)
        self.on_begin(node)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(worker), self.timeout)
        state = self.scheduler.workers.get(worker)
        lost = len(_only_copies(state)) if state else 0
        running = len(state.processing) if state else 0
        parts = [f"{lost} {'result' if lost == 1 else 'results'} that no peer could take"] if lost else []
        parts += [f"{running} {'task' if running == 1 else 'tasks'} that did not end in time"] if running else []
        remaining = " and ".join(parts)
        go = self.at_once or not remaining
        self.log_event(
            {"action": "drained", "worker": worker, "node": node, "lost": lost, "running": running, "go": go}
        )
        if not go:
            logger.warning("worker %s is not restarted yet, and takes no new tasks: it has %s", worker, remaining)
        elif remaining:
            logger.warning("worker %s is restarted; Dask computes again, where it can: %s", worker, remaining)
        return {"go": go, "lost": remaining}

    async def _drain(self, worker: str) -> None:
        """Hold the worker, wait until it has finished its tasks, and move its results to its peers."""
        while (state := self.scheduler.workers.get(worker)) is not None:
            self._hold(state)
            if not state.processing:
                # A worker that retires begins no more tasks, so it must have finished those that it was given.
                retired = await self.scheduler.retire_workers(workers=[worker], close_workers=False, remove=False)
                if not _only_copies(state):
                    return
                if worker not in retired:  # no running peer, or none with enough memory
                    if not self.has_peers:
                        return
                    await asyncio.sleep(_LONG_PAUSE)  # the peers may be restarting
            await asyncio.sleep(_PAUSE)  # Dask calls nothing here when a task ends

    async def wait_until_free(self, worker: str, *, holds: bool = True) -> None:
        """Wait until a worker has left, or has no tasks and no result that only it holds.

        Parameters
        ----------
        worker : str
            Its address.
        holds : bool
            Whether to hold the worker, and to drain it again when it has running peers.
        """
        while (state := self.scheduler.workers.get(worker)) is not None:
            if holds:
                self._hold(state)
            if holds and not state.processing and _only_copies(state) and _has_running_peers(self.scheduler, state):
                await self._drain(worker)
            if not state.processing and not _only_copies(state):
                return
            await asyncio.sleep(_LONG_PAUSE)

    def _hold(self, state: WorkerState) -> None:
        """Assign a worker no new tasks; called repeatedly, as a worker that was paused reports itself running again."""
        self.held.add(state.address)
        hold_worker(self.scheduler, state, _stimulus())

    def free(self, worker: str) -> None:
        """Let a worker that was held take tasks again."""
        if worker in self.held and worker in self.scheduler.workers:
            free_worker(self.scheduler, worker, _stimulus())
        self.held = {address for address in self.held if address != worker and address in self.scheduler.workers}


def _stimulus() -> str:
    return f"pkgsync-drain-{monotonic()}"


def _has_running_peers(scheduler: Scheduler, state: WorkerState) -> bool:
    return any(other is not state for other in scheduler.running)


def _only_copies(state: WorkerState) -> list[Any]:
    """Return the results of which this worker has the only copy."""
    return [task for task in state.has_what if len(task.who_has or ()) == 1]
