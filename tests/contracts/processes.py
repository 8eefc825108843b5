"""What is relied on in `multiprocessing`, which comes with Python and not with Dask."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from typing import TYPE_CHECKING, Any

from contracts.law import relied_on_by

from dask_pkgsync.process.multiprocessing_internals import change_preparation_data

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

ADDED = "/there/is/no/such/directory"


def tell_path(to: Connection) -> None:
    """Tell the parent what the search path of this process is."""
    to.send(sys.path)


@relied_on_by(change_preparation_data)
async def a_child_that_is_spawned_has_the_search_path_that_it_is_told() -> None:
    """The `sys_path` of `multiprocessing.spawn.get_preparation_data` is the search path of a child that is spawned."""

    def change(data: dict[str, Any]) -> None:
        data["sys_path"] = [*data["sys_path"], ADDED]

    original = multiprocessing.spawn.get_preparation_data
    undo = change_preparation_data(change)
    try:
        assert (await asyncio.to_thread(path_of_a_child))[-1] == ADDED
    finally:
        undo()
    assert multiprocessing.spawn.get_preparation_data is original
    assert ADDED not in original("child")["sys_path"]


def path_of_a_child() -> list[str]:
    """Return the search path of a child of this process."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=tell_path, args=(sender,))
    child.start()
    path: list[str] = receiver.recv()
    child.join()
    receiver.close()
    sender.close()
    return path
