"""What is relied on in `multiprocessing` and `importlib`, which come with Python and not with Dask."""

from __future__ import annotations

import asyncio
import importlib
import multiprocessing
import sys
import threading
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

from contracts.law import relied_on_by

from dask_pkgsync.process.import_internals import being_imported
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


class MakesModulesLater:
    """Finds one module, and makes it when it is told to."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.asked, self.may_go_on = threading.Event(), threading.Event()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Find the module."""
        return ModuleSpec(name, self) if name == self.name else None  # type: ignore[arg-type]

    def create_module(self, _: ModuleSpec) -> None:
        """Wait."""
        self.asked.set()
        self.may_go_on.wait()

    def exec_module(self, _: object) -> None:
        """Do nothing."""


@relied_on_by(being_imported)
async def an_import_has_a_lock_before_its_module_is_there() -> None:
    """A module that another thread imports is in `importlib._bootstrap._module_locks` before it is in `sys.modules`."""
    name = "contract_of_an_import"
    finder = MakesModulesLater(name)
    sys.meta_path.insert(0, finder)  # type: ignore[arg-type]
    try:
        assert name not in being_imported()
        importing = asyncio.ensure_future(asyncio.to_thread(importlib.import_module, name))
        await asyncio.to_thread(finder.asked.wait)
        found = name in being_imported(), name in sys.modules
        finder.may_go_on.set()
        await importing
        assert found == (True, False)
        assert name not in being_imported()
    finally:
        finder.may_go_on.set()
        sys.meta_path.remove(finder)  # type: ignore[arg-type]
        sys.modules.pop(name, None)
