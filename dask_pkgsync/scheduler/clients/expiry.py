"""Releases what nobody uses any more, some time after the last client has gone."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from distributed import Status

from dask_pkgsync.model.text import human_time
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.scheduler import release_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed import Scheduler


class Expiry:
    """Releases what nobody uses any more, some time after the last client has gone.

    Parameters
    ----------
    scheduler : Scheduler
    is_due : callable
        Whether the target could be released: there is one, and nobody is connected.
    release : callable
        Releases it, if that is still so; returns whether it did.
    """

    def __init__(
        self, scheduler: Scheduler, is_due: Callable[[], bool], release: Callable[[], Awaitable[bool]]
    ) -> None:
        self.scheduler = scheduler
        self.is_due = is_due
        self.release = release
        self.timer: asyncio.TimerHandle | None = None
        self.releasing: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Begin to wait, or stop waiting, whenever somebody has come or gone."""
        if not self.is_due():
            self.stop()
        elif self.timer is None and (seconds := release_after()) is not None:
            self.timer = asyncio.get_running_loop().call_later(seconds, self._now)

    def stop(self) -> None:
        """Wait no longer."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None

    @property
    def note(self) -> str:
        """Say when the target will be released, if it will."""
        if self.timer is None:
            return ""
        left = self.timer.when() - asyncio.get_running_loop().time()
        return f"nobody is connected; to be released in {human_time(left)}"

    def _now(self) -> None:
        self.timer = None
        if self.scheduler.status != Status.running or not self.is_due():
            return
        if self.scheduler.tasks:  # work goes on, or published results are kept, that may need these packages
            self.look()
        else:
            self.releasing = asyncio.create_task(self._release())

    async def _release(self) -> None:
        try:
            if await self.release():
                logger.warning("released, as nobody has been connected for a while: the cluster has its own packages")
        except Exception:  # noqa: BLE001  # nobody waits for it
            logger.exception("the environment that nobody uses any more could not be released")
