"""Relaunches the process of a node: prepares it, ends its workers, and executes it anew in another interpreter."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from distributed import Nanny

from dask_pkgsync.cache.directory import open_cache
from dask_pkgsync.carry.archive import source_digest, unpacked
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.node.dask_internals import end_worker, preloads_of, servers_here
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.node import node_settings, relaunch_timeout
from dask_pkgsync.process.brought import with_needs
from dask_pkgsync.process.commands import NoDaskCommandError, own_command
from dask_pkgsync.process.probe import is_module, probe
from dask_pkgsync.process.relaunch import (
    back_to_origin,
    execute,
    execute_again,
    prepare_relaunch,
    relaunched,
    write_state,
)
from dask_pkgsync.process.whole import whole_environment

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

    from distributed.core import Server

    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.relaunch import Relaunch

ARRIVALS = {
    "node": ("dask_pkgsync.node.arrival:notice", "register", 2),
    "scheduler": ("dask_pkgsync.scheduler.succession:notice", "listen", 1),
}
"""By role: the function by which the new process notices that it has arrived, what it has to do, and for how many times
`relaunch_timeout` it may take."""
END_TIMEOUT = 5.0
"""Seconds in which a worker must have ended."""


@dataclass(frozen=True)
class Ready:
    """A process that has prepared, and can be executed anew."""

    relaunch: Relaunch
    source: str
    """The directory with a copy of this package."""
    notes: tuple[str, ...]
    """What the user should know of the environment."""


def make_ready(
    role: Literal["node", "scheduler"],
    target: Target | None,
    fetch: Fetch,
    preloads: list[str],
    data: Mapping[str, Any],
) -> Ready:
    """Build or find the whole environment of a target, and look whether this process's command would run in it. Blocks.

    Parameters
    ----------
    role : {"node", "scheduler"}
    target : Target or None
        None: the process is to be what it was first started as.
    fetch : callable
        Returns wheels that the client provides.
    preloads : list of str
        The preloads of the command.
    data : mapping
        What the new process needs to know.

    Raises
    ------
    LayerError
        If this process was started by no command of Dask's, or the environment cannot be built, or the command would
        not run in it.
    """
    arrival, aim, times = ARRIVALS[role]
    timeout, source = times * relaunch_timeout(), unpacked()
    try:
        if target is None:
            return Ready(back_to_origin(arrival=arrival, aim=aim, timeout=timeout, data=data), source, ())
        command = own_command()  # first: it raises where a build would be in vain
        modules = [command.entry, *filter(is_module, preloads)]
        extended, brought = with_needs(target, modules)
        if brought and target.policy.strict:  # its workers would not start, as the target does not have it
            raise LayerError(
                "prepare",
                "strict leaves nothing but the client's packages, and the command of this node needs more: "
                f"{'; '.join(brought)}",
                advice="Install these in the client's environment, or sync without strict.",
            )
        whole = whole_environment(extended, node_settings(), fetch)
        relaunch = prepare_relaunch(whole, arrival=arrival, aim=aim, timeout=timeout, data=data)
    except NoDaskCommandError as error:
        raise LayerError("relaunch", str(error), advice="Start it with a command of Dask's.") from None
    probe(relaunch.new, source, preloads, os.environ)
    return Ready(relaunch, source, (*whole.notes, *brought))


_ready: dict[str, asyncio.Task[Ready]] = {}
"""By name of the target, what this process has prepared, once for all of its nannies."""
_leaving: list[asyncio.Task[None]] = []
"""Ends the workers of this process; empty while it is not to leave."""


def refuse_second_try(target: Target) -> None:
    """Raise `LayerError` if this process was executed anew for a target already, and its command did not run there."""
    known = relaunched()
    if known is not None and known.failure and known.state["data"].get("wanted") == target.id:
        *earlier, problem = known.failure.splitlines()
        raise LayerError(
            "relaunch",
            f"the command of this process did not run in the new environment: {problem}",
            advice="Look into the log of this node.",
            last_words="\n".join(earlier),
        )


async def ready_for(target: Target | None, server: Server, fetch: Fetch, scheduler: str) -> Ready:
    """Prepare this process for a target, once for all of its nannies.

    Raises
    ------
    LayerError
        As for `make_ready`.
    """
    name = target.id if target is not None else ""
    task = _ready.get(name)
    if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
        names = dict.fromkeys(name for one in {server, *servers_here()} for name in preloads_of(one))
        data = {"scheduler": scheduler, "wanted": name}
        task = asyncio.create_task(asyncio.to_thread(make_ready, "node", target, fetch, list(names), data))
        _ready.clear()
        _ready[name] = task
    return await asyncio.shield(task)


def prepared_as(token: str) -> Ready | None:
    """Return what this process has prepared under a token; None if it has not."""
    for task in _ready.values():
        if task.done() and not task.cancelled() and task.exception() is None and task.result().relaunch.token == token:
            return task.result()
    return None


async def end_workers() -> None:
    """End the workers of all nannies of this process; further calls wait for the first one."""
    if not _leaving:
        _leaving.append(asyncio.create_task(_end_workers()))
    await asyncio.shield(_leaving[0])


async def _end_workers() -> None:
    nannies = [server for server in servers_here() if isinstance(server, Nanny)]
    reason = "pkgsync: this process is executed anew in another interpreter"
    await asyncio.gather(*(end_worker(nanny, END_TIMEOUT, reason) for nanny in nannies), return_exceptions=True)


def written(ready: Ready) -> str:
    """Write what the new process needs; return the path of the file. Blocks."""
    return write_state(ready.relaunch, open_cache(node_settings().cache_directory), ready.source, source_digest())


def go(path: str) -> NoReturn:
    """Execute this process anew, by what `written` has written; where that fails, what it runs now, once more."""
    try:
        execute(path)
    except Exception as error:  # noqa: BLE001  # whatever it is, this process has no workers any more
        logger.exception("this process could not be executed anew")
        execute_again(path, f"{type(error).__name__}: {error}")
