"""The expiry of an unused target: it is released some time after the last client has disconnected."""

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
    """Releases the target when no client has been connected for ``pkgsync.release-after``.

    Parameters
    ----------
    scheduler : Scheduler
    is_due : callable
        Returns whether the target may be released: there is one, and no client is connected.
    release : callable
        Releases the target if it still may be; returns whether it did.
    """

    def __init__(
        self, scheduler: Scheduler, is_due: Callable[[], bool], release: Callable[[], Awaitable[bool]]
    ) -> None:
        self.scheduler = scheduler
        self.is_due = is_due
        self.release = release
        self.timer: asyncio.TimerHandle | None = None
        self.releasing: asyncio.Task[None] | None = None

    def update(self) -> None:
        """Start or stop the timer; called whenever a client has connected or disconnected."""
        if not self.is_due():
            self.stop()
        elif self.timer is None and (seconds := release_after()) is not None:
            self.timer = asyncio.get_running_loop().call_later(seconds, self._expire)

    def stop(self) -> None:
        """Stop the timer."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None

    @property
    def note(self) -> str:
        """Return a text that says when the target will be released; empty if it will not be."""
        if self.timer is None:
            return ""
        left = self.timer.when() - asyncio.get_running_loop().time()
        return f"no client is connected; the environment will be released in {human_time(left)}"

    def _expire(self) -> None:
        self.timer = None
        if self.scheduler.status != Status.running or not self.is_due():
            return
        if self.scheduler.tasks:  # running tasks or published datasets may need these packages: wait again
            self.update()
        else:
            self.releasing = asyncio.create_task(self._release())

    async def _release(self) -> None:
        try:
            if await self.release():
                logger.warning(
                    "released, as nobody has been connected for a while: the cluster has its own packages again"
                )
        except Exception:  # noqa: BLE001  # no caller would see the error
            logger.exception(
                "the unused environment could not be released automatically: release it with pkgsync.release(client)"
            )
