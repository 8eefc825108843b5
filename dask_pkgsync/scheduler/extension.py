"""Finds the one controller of a scheduler, which is kept among Dask's scheduler extensions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.scheduler.controller import Controller
from dask_pkgsync.scheduler.dask_internals import EXTENSION, extension_of, keep_extension
from dask_pkgsync.scheduler.handlers import Handlers
from dask_pkgsync.scheduler.pages import Pages

if TYPE_CHECKING:
    from distributed import Scheduler


def controller_of(scheduler: Scheduler) -> Controller:
    """Return the one controller of a scheduler, made here if this copy of the package has none there yet.

    The controller of another copy of the package is replaced; its gate is opened first.

    Raises
    ------
    PkgsyncError
        If the operator has configured the other copy's gate, which therefore stays.
    """
    known: Any = extension_of(scheduler, EXTENSION)
    if isinstance(known, Controller):
        return known
    if getattr(known, "is_permanent", False):
        raise PkgsyncError(
            "the operator of this scheduler has configured another release of dask-pkgsync than this client has, and "
            "the scheduler keeps it: use dask-pkgsync 0.2.0 or newer on the client, or the scheduler's own release"
        )
    if known is not None:
        known.gate.open()
    controller = Controller(scheduler)
    controller.handlers = Handlers(controller).by_name()
    controller.pages = Pages(scheduler)
    keep_extension(scheduler, EXTENSION, controller)
    return controller
