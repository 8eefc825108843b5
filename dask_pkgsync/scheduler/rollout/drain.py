"""On the scheduler: before a worker is restarted for a sync, what it holds goes to its peers."""

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
    from typing import TypeGuard

    from distributed import Scheduler
    from distributed.scheduler import WorkerState

_PAUSE = 0.1
"""Seconds between two looks at a worker that still runs tasks."""
_LONG_PAUSE = 1.0
"""The same where nobody waits for it."""


class Drain:
    """Lets workers that hold results or run tasks be restarted a few at a time, others at once.

    A worker that cannot be emptied is held: it ends what it was given, its peers can fetch what it has, and it is given
    nothing new.

    Parameters
    ----------
    scheduler : Scheduler
    log_event : callable
        Receives an event (a dictionary) for each worker that was drained, or could not be.
    """

    def __init__(self, scheduler: Scheduler, log_event: Callable[[dict[str, Any]], None]) -> None:
        self.scheduler = scheduler
        self.log_event = log_event
        self.began: Callable[[str], None] = lambda _: None
        """Receives the address of each node whose worker begins to be emptied."""
        self.places = asyncio.Semaphore(1)
        self.taken: set[str] = set()
        self.held: set[str] = set()
        self.timeout = 0.0
        self.at_once = False
        self.has_peers = False

    def begin(self, restart: str, *, patience: float | None = None) -> None:
        """Read how many workers at once, and for how long, at the beginning of a sync.

        Parameters
        ----------
        restart : {"drained", "now"}
            Whether what cannot be drained is held, or restarted all the same.
        patience : float, optional
            Seconds for each worker; by default ``pkgsync.drain-timeout``.
        """
        share = drain_share()
        self.timeout = drain_timeout() if patience is None else patience
        self.at_once = restart == "now"
        self.has_peers = len(self.scheduler.workers) > 1
        self.places = asyncio.Semaphore(max(1, int(share * len(self.scheduler.workers))))
        self.taken = set()

    def done(self, node: str) -> None:
        """Let the next one go: this node's worker is back, or has failed, or is held."""
        if node in self.taken:
            self.taken.remove(node)
            self.places.release()

    async def handle_drain(self, worker: str, node: str, **_: object) -> dict[str, Any]:
        """Move what a worker holds to its peers, and let it end its tasks.

        Until `done` is called for its node, it takes one of the places for those that are restarted.

        Returns
        -------
        dict
            ``go``: whether it may be restarted. ``lost``: what it still holds and runs, for people.
        """
        state = self.scheduler.workers.get(Field(worker, "worker").text())
        if (self.at_once and not self.timeout) or not _is_busy(state) or Field(node, "node").text() != state.nanny:
            return {"go": True, "lost": ""}
        await self.places.acquire()
        self.taken.add(node)
        self.began(node)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(worker), self.timeout)
        state = self.scheduler.workers.get(worker)
        lost = len(_only_there(state)) if state else 0
        running = len(state.processing) if state else 0
        parts = [f"{lost} {'result' if lost == 1 else 'results'} that no peer could take"] if lost else []
        parts += [f"{running} {'task' if running == 1 else 'tasks'} that did not end in time"] if running else []
        left = " and ".join(parts)
        go = self.at_once or not left
        self.log_event(
            {"action": "drained", "worker": worker, "node": node, "lost": lost, "running": running, "go": go}
        )
        if not go:
            logger.warning("%s cannot be restarted yet: it has %s", worker, left)
        elif left:
            logger.warning("%s is restarted; computed again, where Dask can: %s", worker, left)
        return {"go": go, "lost": left}

    async def _drain(self, worker: str) -> None:
        """Give the worker no more tasks, let it end those that it has, and move its results to its peers."""
        while (state := self.scheduler.workers.get(worker)) is not None:
            self._hold(state)
            if not state.processing:
                # (which tells the worker itself to begin no more tasks: so not before it has none)
                retired = await self.scheduler.retire_workers(workers=[worker], close_workers=False, remove=False)
                if not _only_there(state):
                    return
                if worker not in retired:  # no peer that runs, or none with room
                    if not self.has_peers:
                        return
                    await asyncio.sleep(_LONG_PAUSE)  # they may be restarting just now
            await asyncio.sleep(_PAUSE)  # Dask tells nobody when a task ends

    async def wait_until_free(self, worker: str, *, holds: bool = True) -> None:
        """Wait until a worker is gone, or has nothing any more: because nobody wants it, or because peers came."""
        while (state := self.scheduler.workers.get(worker)) is not None:
            if holds:
                self._hold(state)
            if holds and not state.processing and _only_there(state) and _has_peers(self.scheduler, state):
                await self._drain(worker)
            if not state.processing and not _only_there(state):
                return
            await asyncio.sleep(_LONG_PAUSE)

    def _hold(self, state: WorkerState) -> None:
        """Give a worker nothing new; again and again, as a worker that was short of memory says so when it is not."""
        self.held.add(state.address)
        hold_worker(self.scheduler, state, _stimulus())

    def free(self, worker: str) -> None:
        """Let a worker that was held take tasks again."""
        if worker in self.held and worker in self.scheduler.workers:
            free_worker(self.scheduler, worker, _stimulus())
        self.held = {one for one in self.held if one != worker and one in self.scheduler.workers}


def _stimulus() -> str:
    return f"pkgsync-drain-{monotonic()}"


def _is_busy(state: WorkerState | None) -> TypeGuard[WorkerState]:
    return state is not None and bool(state.has_what or state.processing)


def _has_peers(scheduler: Scheduler, state: WorkerState) -> bool:
    return any(other is not state for other in scheduler.running)


def _only_there(state: WorkerState) -> list[Any]:
    """Return the results that no other worker has."""
    return [task for task in state.has_what if len(task.who_has or ()) == 1]
