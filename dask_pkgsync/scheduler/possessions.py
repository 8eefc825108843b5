"""What people have on a scheduler that a relaunch would end or lose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.model.handshake import is_of_worker, only_looks
from dask_pkgsync.model.presentation import presented_person
from dask_pkgsync.model.relaunch import Obstacle
from dask_pkgsync.model.text import counted
from dask_pkgsync.node.worker import NAME
from dask_pkgsync.scheduler.dask_internals import (
    connection_of,
    has_connection,
    holders_of_tasks,
    named_objects,
    registered_plugins,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from distributed import Scheduler


def obstacles(scheduler: Scheduler, *, without: str = "") -> tuple[Obstacle, ...]:
    """Return what a relaunch of a cluster would end or lose: connected clients, results, published names, plugins.

    Parameters
    ----------
    scheduler : Scheduler
    without : str
        Dask's name of a client whose connection does not count; its results do.
    """
    return tuple(_obstacles(scheduler, without))


def _obstacles(scheduler: Scheduler, without: str) -> Iterator[Obstacle]:
    for name in scheduler.clients:
        if name != without and has_connection(scheduler, name) and not is_of_worker(name) and not only_looks(name):
            yield Obstacle("a connected client", _whose(scheduler, name))
    for client, (tasks, results, actors) in sorted(holders_of_tasks(scheduler).items()):
        what = [(tasks, "task"), (results, "result"), (actors, "actor")]
        listed = ", ".join(counted(count, word) for count, word in what if count)
        yield Obstacle(listed, _whose(scheduler, client))
    for kind, name in named_objects(scheduler):
        yield Obstacle(f"{kind} {name}")
    for kind, name in registered_plugins(scheduler):
        if name != NAME:
            yield Obstacle(f"{kind} {name}")


def _whose(scheduler: Scheduler, client: str) -> str:
    """Return the person of a client and where it connects from, as far as the scheduler knows."""
    state = scheduler.clients.get(client)
    person = presented_person(state.versions) if state is not None else ""
    comm = connection_of(scheduler, client)
    return person or (f"{client} at {comm.peer_address}" if comm is not None else client)
