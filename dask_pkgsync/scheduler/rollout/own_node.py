"""The scheduler's own process as a node: it unpickles graphs, so it needs the packages, and takes a layer live."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.model.reports.sync import NodeReport, node_report
from dask_pkgsync.node.agent import is_own_process
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.process import activation
from dask_pkgsync.process.imports import altered, loaded_from
from dask_pkgsync.process.live import take_partly
from dask_pkgsync.process.preparation import TOO_LATE, Prepared, changes_since, prepare_running
from dask_pkgsync.process.resolving import part_here
from dask_pkgsync.process.state import this_process
from dask_pkgsync.process.verification import refuse_uploads, settle

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_pkgsync.model.reports.sync import Outcome
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.blobs.service import BlobService


LACKS = "the scheduler takes this only when it is started again: {}"
KEEPS_BASE = "strict applies to the workers only: a running scheduler keeps its base behind the layer"


class SchedulerNode:
    """The process that the controller runs in."""

    def __init__(self, scheduler: Scheduler, blob_service: BlobService) -> None:
        self.scheduler = scheduler
        self.blob_service = blob_service
        self.prepared: Prepared | None = None
        self.in_force: tuple[Target, Prepared] | None = None
        """The target that this process has, and what was prepared for it."""

    @property
    def address(self) -> str:
        """The address on which the scheduler listens."""
        return str(self.scheduler.address)

    async def prepare(self, target: Target) -> NodeReport:
        """Build a layer with the packages that this running process can still take live.

        Raises
        ------
        LayerError
            If building fails, if a client has uploaded a file that hides a package of the target, or if the process has
            imported another version of a package and the target says ``scheduler="refuse"``.
        """
        started = monotonic()
        self.prepared = None
        if is_own_process(target):
            return NodeReport(self.address, "scheduler", "left alone")
        this_process().uploads = self.scheduler.local_directory
        target = await asyncio.to_thread(part_here, target)
        self.prepared = prepared = await asyncio.to_thread(
            prepare_running, target, node_settings(), self.blob_service.own_fetch()
        )
        late = [step for step in prepared.plan.skipped if step.reason == TOO_LATE]
        if late and target.scheduler == "refuse":
            names = ", ".join(f"{step.name} {step.version}" for step in late)
            raise LayerError(
                "activate",
                f"the scheduler has imported other versions already of: {names}",
                advice="Start the scheduler with these versions, or choose scheduler='warn'.",
            )
        layer = prepared.layer
        if layer is not None:
            await asyncio.to_thread(refuse_uploads, layer)
        return node_report(
            self.address,
            "scheduler",
            prepared.plan,
            notes=(*(layer.notes if layer else ()), *([KEEPS_BASE] if target.policy.strict else [])),
            seconds=monotonic() - started,
            fetched=layer.fetched if layer else 0,
            layer=layer.digest if layer else "",
            clashes=layer.clashes if layer else (),
        )

    async def inspect(self) -> tuple[str, ...]:
        """Return what has changed since this process took its target: in its layer, or in its base."""
        return await asyncio.to_thread(changes_since, *self.in_force) if self.in_force else ()

    async def activate(self, target: Target, report: NodeReport) -> NodeReport:
        """Take the layer live; the report notes a layer that a running process cannot take."""
        if self.prepared is None:
            return report
        target = await asyncio.to_thread(part_here, target)
        self.in_force = target, self.prepared
        layer = self.prepared.layer
        if modules := altered(layer):
            note = f"the scheduler has imported files of its layer that had been changed: {', '.join(modules[:5])}"
            report = replace(report, notes=(*report.notes, f"{note}; restart the scheduler"))
        before = this_process().layer
        if layer is not None and layer.complete:
            note = "a layer that stands alone cannot be taken by a running scheduler, which keeps its base"
            return replace(report, notes=(*report.notes, note))
        skipped = {step.name for step in self.prepared.plan.skipped}
        lacks = await asyncio.to_thread(take_partly, layer, target, known=skipped, programs=True)
        await asyncio.to_thread(settle, target)
        this_process().target = target.id
        outcome: Outcome = "matched" if this_process().layer == before else "live"
        notes = [LACKS.format("; ".join(lacks))] if lacks else []
        return replace(report, outcome=outcome, notes=(*report.notes, *notes))

    def release(self) -> NodeReport:
        """Go back to the base, as far as a running process can."""
        modules = loaded_from(this_process().layer) if this_process().layer else ()
        activation.deactivate()
        self.prepared = self.in_force = None
        notes = (f"the scheduler still has modules of the released environment: {', '.join(modules[:5])}",)
        return NodeReport(self.address, "scheduler", "live" if modules else "matched", notes=notes if modules else ())
