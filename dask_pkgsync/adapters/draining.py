"""On the scheduler: before a worker is restarted for a sync, what it holds goes to its peers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

from dask.utils import parse_timedelta

from dask_pkgsync.adapters.settings import setting

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler
    from distributed.scheduler import WorkerState

logger = logging.getLogger("dask_pkgsync")

_PAUSE = 0.1
"""Seconds between two looks at a worker that still runs tasks."""


class Draining:
    """Lets workers that hold results or run tasks be restarted a few at a time, others at once.

    Parameters
    ----------
    scheduler : Scheduler
    tell : callable
        Receives an event (a dictionary) for each worker that was drained, or could not be.
    """

    def __init__(self, scheduler: Scheduler, tell: Callable[[dict[str, Any]], None]) -> None:
        self.scheduler = scheduler
        self.tell = tell
        self.places = asyncio.Semaphore(1)
        self.held: set[str] = set()
        self.timeout = 0.0

    def begin(self) -> None:
        """Read how many workers at once, and for how long, at the beginning of a sync."""
        share = float(setting("drain-share"))
        self.timeout = float(parse_timedelta(setting("drain-timeout")))
        self.places = asyncio.Semaphore(max(1, int(share * len(self.scheduler.workers))))
        self.held = set()

    def done(self, node: str) -> None:
        """Let the next one go: this node's worker is back, or has failed."""
        if node in self.held:
            self.held.remove(node)
            self.places.release()

    async def handle_drain(self, worker: str, node: str) -> str:
        """Move what a worker holds to its peers, and let it end its tasks; return what is lost nevertheless, and why.

        Until `done` is called for its node, it takes one of the places for those that are restarted.
        """
        if not self.timeout or not _is_busy(self.scheduler.workers.get(worker)):
            return ""
        await self.places.acquire()
        self.held.add(node)
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._drain(worker), self.timeout)
        state = self.scheduler.workers.get(worker)
        lost = len(_only_there(state)) if state else 0
        running = len(state.processing) if state else 0
        parts = [f"{lost} results that no peer could take"] if lost else []
        parts += [f"{running} tasks that did not end within {self.timeout:g} s"] if running else []
        problem = f"computed again, where Dask can: {' and '.join(parts)}" if parts else ""
        self.tell({"action": "drained", "worker": worker, "node": node, "lost": lost, "running": running})
        if problem:
            logger.warning("%s is restarted for a sync; %s", worker, problem)
        return problem

    async def _drain(self, worker: str) -> None:
        """Let the worker take no more tasks, and move its results until it has none of its own."""
        while _is_busy(state := self.scheduler.workers.get(worker)):
            retired = await self.scheduler.retire_workers(workers=[worker], close_workers=False, remove=False)
            if worker not in retired:  # no peer that runs, or none with room
                return
            while state is not None and state.processing:  # noqa: ASYNC110  # Dask tells nobody when a task ends
                await asyncio.sleep(_PAUSE)
            if state is None or not _only_there(state):
                return


def _is_busy(state: WorkerState | None) -> bool:
    return state is not None and bool(state.has_what or state.processing)


def _only_there(state: WorkerState) -> list[Any]:
    """Return the results that no other worker has."""
    return [task for task in state.has_what if len(task.who_has or ()) == 1]
