"""In a scheduler that was executed anew: takes over the target of the scheduler that ran in this process before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed import Scheduler

from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.target import target_from_wire
from dask_pkgsync.node.dask_internals import answer_calls, around_start
from dask_pkgsync.node.log import logger
from dask_pkgsync.scheduler.dask_internals import hold_registrations, listen_at
from dask_pkgsync.scheduler.extension import controller_of
from dask_pkgsync.scheduler.plugin import RegisteredPlugin
from dask_pkgsync.scheduler.relaunch import record_from_wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dask_pkgsync.process.guard import Relaunched


def notice(relaunched: Relaunched) -> None:
    """Let the scheduler of this process take over, before anybody registers with it.

    Parameters
    ----------
    relaunched : Relaunched
        How this process was relaunched (`process.guard`).
    """

    async def start(scheduler: Scheduler, start: Callable[[], Awaitable[Any]]) -> Any:
        if relaunched.arrived.is_set():  # another scheduler of this process
            return await start()
        return await _succeed(scheduler, start, relaunched)

    around_start(Scheduler, start)


async def _succeed(scheduler: Scheduler, start: Callable[[], Awaitable[Any]], relaunched: Relaunched) -> Any:
    """Start a scheduler at the address of the one before, with its target; whoever registers meanwhile waits.

    Where the new scheduler has failed, and what ran before runs again, it has the target that it had.
    """
    data = relaunched.state["data"]
    release = hold_registrations(scheduler)
    listen_at(scheduler, data["addresses"])
    started = await start()
    controller = controller_of(scheduler)
    record = controller.relauncher.record = record_from_wire(data["record"])
    record.scheduler_words = relaunched.failure
    answer_calls(scheduler, **controller.handlers)
    wanted = data["before"] if relaunched.failure else data["target"]
    if wanted is not None:
        target = target_from_wire(wanted)
        try:
            await controller.register(target, "")
        except PkgsyncError as error:
            if not relaunched.failure:
                raise  # the guard runs what ran before
            logger.error("the environment that this cluster had could not be taken again: %s", error)
            wanted = None
        else:
            scheduler.add_plugin(RegisteredPlugin(target, ""), name=RegisteredPlugin.name)
            controller.claims.kept = target.keep
    release()
    relaunched.arrive()
    logger.info("this scheduler has taken over the cluster%s", f", in environment {target.id:.12}" if wanted else "")
    return started
