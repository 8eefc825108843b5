"""A successor: the next worker of a nanny, which starts beside the present one, and waits before it registers.

So the present worker goes on while the interpreter of the next one starts, imports Dask, and is verified. Then the two
change places. If the successor cannot start, the present worker is still there.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal
from weakref import WeakKeyDictionary

from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.node.dask_internals import (
    end_process,
    has_fixed_name,
    is_running,
    kill_process,
    put_in_place,
    second_process,
    why_not_two_workers,
)
from dask_pkgsync.node.log import logger
from dask_pkgsync.process.memory import available_memory, used_memory

if TYPE_CHECKING:
    from distributed import Nanny, WorkerPlugin

NEEDED = 300_000_000
"""Bytes of memory that must be available for a second worker: it has imported Dask and what its environment's plugins
import, and holds no results."""
START_TIMEOUT = 120.0
"""Seconds in which a successor must be ready to register, and then have registered."""
END_TIMEOUT = 5.0
"""Seconds in which a worker must close before it is killed, as in `Nanny.kill`."""

_successors: WeakKeyDictionary[Nanny, Successor] = WeakKeyDictionary()
"""By nanny, the worker that starts beside the present one."""

Outcome = Literal["took over", "restarted meanwhile", "failed"]


async def why_none(nanny: Nanny, name: str) -> str:
    """Return why no successor can start beside the present worker of a nanny; empty if one can.

    Parameters
    ----------
    nanny : Nanny
    name : str
        The name of our plugins.
    """
    if reason := why_not_two_workers(nanny, name):
        return reason
    used = await asyncio.to_thread(used_memory, nanny.pid) if nanny.pid else 0
    needed = max(NEEDED, used) * (1 + len(_successors))
    available = await asyncio.to_thread(available_memory)
    if available < needed:
        return f"{available / 1e6:.0f} MB of memory are available, and two workers at once need {needed / 1e6:.0f} MB"
    return ""


class Successor:
    """The next worker of a nanny.

    Parameters
    ----------
    nanny : Nanny
    name : str
        The name of our plugins.
    plugin : WorkerPlugin
        What verifies the worker before it registers, and then waits for its turn (`turn_of`).
    """

    def __init__(self, nanny: Nanny, name: str, plugin: WorkerPlugin) -> None:
        self.nanny = nanny
        self.before = nanny.process, nanny.pid
        self.process = second_process(nanny, name, [plugin])
        self.is_ready = asyncio.Event()
        self.may_register: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        _successors[nanny] = self
        self.started = asyncio.ensure_future(self.process.start())
        self.started.add_done_callback(_note_error)

    async def wait_until_ready(self) -> bool:
        """Wait until it could register; return False if its process has ended without an error, for example killed.

        Raises
        ------
        LayerError
            If it raised an error, for example as it does not have the target.
        """
        ready = asyncio.ensure_future(self.is_ready.wait())
        try:
            await asyncio.wait({ready, self.started}, timeout=START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ready.cancel()
        if self.is_ready.is_set():
            return True
        if self.started.done() and (error := self.started.exception()) is not None:
            raise LayerError(
                "restart",
                f"a worker that was started in the new environment failed, beside the present one: {error!r}",
                advice="Look into the log of this nanny.",
            )
        return False

    async def take_over(self, reason: str) -> Outcome:
        """Let it register in place of the present worker, which closes.

        Returns
        -------
        {"took over", "restarted meanwhile", "failed"}
            ``restarted meanwhile``: somebody else has restarted the nanny's worker, which therefore is another one.
            ``failed``: it does not run, and the nanny's worker is the present one, or none.
        """
        former = self.nanny.process
        if self._is_restarted():
            return "restarted meanwhile"
        if self.started.done():  # for example `death_timeout` was over before its turn came
            return "failed"
        if has_fixed_name(self.nanny):  # the scheduler refuses a second worker of one name
            put_in_place(self.nanny, self.process)
            await self._end(former, reason)
            return "took over" if await self._registers() else "failed"
        if not await self._registers():
            return "restarted meanwhile" if self._is_restarted() else "failed"
        if self._is_restarted():
            return "restarted meanwhile"
        put_in_place(self.nanny, self.process)
        await self._end(former, reason)
        return "took over"

    async def _registers(self) -> bool:
        """Let it register; return whether it then runs."""
        self.may_register.set_result(True)
        await asyncio.wait({self.started}, timeout=START_TIMEOUT)
        return is_running(self.process)

    async def _end(self, process: Any, reason: str) -> None:
        try:
            await end_process(process, END_TIMEOUT, reason)
        except Exception as error:  # noqa: BLE001  # it was killed, and another worker has its place
            logger.warning("the former worker did not end in order: %r", error)

    def _is_restarted(self) -> bool:
        return (self.nanny.process, self.nanny.pid) != self.before

    async def discard(self) -> None:
        """End its process, unless it has taken over; more calls change nothing."""
        if _successors.get(self.nanny) is self:
            del _successors[self.nanny]
        if self.nanny.process is not self.process:
            if not self.may_register.done():
                self.may_register.set_result(False)  # so that it removes its directory
                await asyncio.wait({self.started}, timeout=END_TIMEOUT)
            await kill_process(self.process)


def _note_error(started: asyncio.Future[Any]) -> None:
    """Let asyncio know that the error of a start is no surprise, where nobody asks for it any more."""
    if not started.cancelled():
        started.exception()


async def discard_of(nanny: Nanny) -> None:
    """End the successor of a nanny, if there is one."""
    if (successor := _successors.get(nanny)) is not None:
        await successor.discard()


async def turn_of(nanny: Nanny, pid: int) -> bool:
    """Wait until the successor of a nanny may register; return False if it must not.

    Parameters
    ----------
    nanny : Nanny
    pid : int
        Its process id.
    """
    successor = _successors.get(nanny)
    if successor is None or successor.process.pid != pid:
        return False
    successor.is_ready.set()
    return await asyncio.shield(successor.may_register)
