"""The one controller of a scheduler, kept among Dask's own extensions of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.scheduler.controller import Controller
from dask_pkgsync.scheduler.dask_internals import extension_of, keep_extension
from dask_pkgsync.scheduler.handlers import Handlers

if TYPE_CHECKING:
    from distributed import Scheduler

EXTENSION = "pkgsync"


def controller_of(scheduler: Scheduler) -> Controller:
    """Return the one coordinator of a scheduler; a newer copy of this package takes over from an older one."""
    found: Any = extension_of(scheduler, EXTENSION)
    if isinstance(found, Controller):
        return found
    if getattr(found, "is_permanent", False):
        raise PkgsyncError(
            "this scheduler is guarded by a dask-pkgsync of its own, of another release than this client's, and keeps "
            "it: sync with a client that has dask-pkgsync 0.2.0 or newer, or install the scheduler's release"
        )
    if found is not None:
        found.gate.open()
    controller = Controller(scheduler)
    controller.handlers = Handlers(controller).by_name()
    keep_extension(scheduler, EXTENSION, controller)
    return controller
