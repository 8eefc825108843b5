"""In a worker: verifies the environment before the worker registers, and takes layers live."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from distributed.diagnostics.plugin import WorkerPlugin

from dask_pkgsync.carry.travel import carried
from dask_pkgsync.layers.layer import Layer, layer_from_wire, layer_to_wire
from dask_pkgsync.model.errors import RestartNeededError
from dask_pkgsync.model.reports.failure import LayerError, failure_to_wire
from dask_pkgsync.model.reports.sync import node_report, report_to_wire
from dask_pkgsync.model.target import Target, target_from_wire, target_to_wire
from dask_pkgsync.node.agent import NodeAgent, expected, failure_of, is_own_process
from dask_pkgsync.node.dask_internals import (
    forget_versions,
    is_at_work,
    is_before_registration,
    send_heartbeat,
    tell_at_registration,
)
from dask_pkgsync.node.log import log_in_sentences
from dask_pkgsync.process import activation, imports
from dask_pkgsync.process.state import this_process
from dask_pkgsync.process.verification import verify

if TYPE_CHECKING:
    from distributed import Worker

    from dask_pkgsync.process.preparation import Prepared

NAME = "pkgsync"

Sender = Literal["scheduler", "nanny", "client's nanny"]
"""Who gave the plugin to the worker. A nanny in the person's own process (a `LocalCluster`) starts its workers in the
person's environment, where there is nothing to do."""


class WorkerSync(WorkerPlugin):
    """Lets no worker take tasks before its environment has been verified.

    Sent by a nanny it arrives in two moments: before the worker registers (where an exception fails the start), and in
    a running worker that is to take a layer live (where an exception asks for a restart). Sent by the scheduler, it is
    the last look at a worker with a nanny, and does everything for a worker without one: Dask hands such a worker no
    task before ``setup`` returns.
    """

    name = NAME

    def __init__(self, target: Target, layer: Layer | None = None, *, sent_by: Sender = "scheduler") -> None:
        self.target, self.layer, self.sent_by = target, layer, sent_by

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the package's own source."""
        layer = layer_to_wire(self.layer) if self.layer else None
        state = {"target": target_to_wire(self.target), "layer": layer, "sent-by": self.sent_by}
        return carried(f"{__name__}:worker_sync", state)

    async def setup(self, worker: Worker) -> None:
        """Verify, or bring about, the target in this process."""
        log_in_sentences()
        tell_at_registration(worker, NAME, _presentation)
        if is_own_process(self.target) or self.sent_by == "client's nanny":
            this_process().target = self.target.id
            WorkerAgent(worker).listen()
        elif is_before_registration(worker):
            await self._before_registration(worker)
        elif self.sent_by == "nanny":
            await self._go_live()
        elif worker.nanny:
            if this_process().target != self.target.id:
                await self._last_look(worker)
        else:
            await self._alone(worker)

    async def _before_registration(self, worker: Worker) -> None:
        if self.layer is not None:
            activation.adopt(self.layer)
        try:
            await asyncio.to_thread(verify, self.target)
        except Exception as error:
            await _tell(worker, expected(error))  # Dask itself only logs this, on the node
            raise

    async def _go_live(self) -> None:
        if changed := await asyncio.to_thread(imports.stale, self.target):
            raise RestartNeededError(f"imported before an edit: {', '.join(changed)}")
        lacking = await asyncio.to_thread(imports.remaining, self.target)
        if not lacking.empty or str(self.layer.root if self.layer else "") != this_process().layer:
            if reason := await asyncio.to_thread(activation.why_restart, self.layer, lacking):
                raise RestartNeededError(reason)
            _switch(self.layer)
        try:
            await asyncio.to_thread(verify, self.target)
        except LayerError as error:
            raise RestartNeededError(str(error)) from None
        forget_versions()

    async def _last_look(self, worker: Worker) -> None:
        try:
            await asyncio.to_thread(verify, self.target)
        except Exception as error:  # noqa: BLE001  # Dask would log it, and let the worker take tasks
            await _leave(worker, expected(error))

    async def _alone(self, worker: Worker) -> None:
        """Prepare and go live in a worker without a nanny, whose registration waits for us meanwhile."""
        agent = WorkerAgent(worker)
        agent.listen()
        if is_at_work(worker):
            return  # it is at work already: the scheduler will ask the agent
        async with _heartbeats(worker):
            try:
                prepared = await agent.prepare(self.target)
                await agent.take(self.target, prepared)
            except Exception as error:  # noqa: BLE001  # Dask would log it, and let the worker take tasks
                await _leave(worker, expected(error))
        report = node_report(worker.address, "worker", prepared.plan, outcome="started")
        await worker.scheduler.pkgsync_report(report=report_to_wire(report), target=self.target.id)


class WorkerAgent(NodeAgent):
    """Answers the scheduler for a worker without a nanny, which takes layers live or not at all."""

    async def take(self, target: Target, prepared: Prepared) -> tuple[str, str]:
        """Take a layer live and verify; raises `LayerError` if this process cannot: nobody could restart it."""
        if is_own_process(target):
            this_process().target = target.id
            return "left alone", ""
        if stale := await asyncio.to_thread(imports.stale, target):
            raise LayerError(
                "activate",
                f"a worker without a nanny cannot be restarted, and has imported before an edit: {', '.join(stale)}",
                advice="Start the worker again, or start it with a nanny.",
            )
        changed = prepared.layer is not None and str(prepared.layer.root) != this_process().layer
        if changed:
            lacking = await asyncio.to_thread(imports.remaining, target)
            if reason := await asyncio.to_thread(activation.why_restart, prepared.layer, lacking):
                raise LayerError(
                    "activate",
                    f"a worker without a nanny cannot be restarted, and cannot take the environment live: {reason}",
                    advice="Start the worker again, or start it with a nanny.",
                )
        _switch(prepared.layer)
        await asyncio.to_thread(verify, target)
        forget_versions()
        return ("live" if changed else "matched"), ""

    async def handle_release(self) -> dict[str, Any]:
        """Go back to the base, as far as a running process can."""
        still = imports.loaded_from(this_process().layer) if this_process().layer else ()
        activation.deactivate()
        forget_versions()
        note = f"still has modules of the released environment: {', '.join(still[:5])}; restart it" if still else ""
        return {"outcome": "live" if still else "matched", "detail": note}


def worker_sync(state: dict[str, Any]) -> WorkerSync:
    """Make the plugin again at the other end."""
    layer = layer_from_wire(state["layer"]) if state["layer"] else None
    return WorkerSync(target_from_wire(state["target"]), layer, sent_by=state["sent-by"])


def _presentation(_worker: Worker) -> dict[str, str]:
    """Return what the worker tells the scheduler when it registers."""
    return {"target": this_process().target}


def _switch(layer: Layer | None) -> None:
    if layer is None:
        activation.deactivate()
    else:
        activation.activate(layer)


async def _leave(worker: Worker, error: LayerError) -> NoReturn:
    """Take a worker out of the cluster, told to the scheduler first; tasks that it was given go elsewhere."""
    await _tell(worker, error)
    if worker.nanny:
        os._exit(1)  # its nanny waits for it to start: closing both from here would have each wait for the other
    await worker.close(nanny=False, executor_wait=False, reason="pkgsync-not-verified")
    raise error


async def _tell(worker: Worker, error: LayerError) -> None:
    failure = failure_of(str(worker.nanny or worker.address), error)
    with contextlib.suppress(OSError):
        await worker.scheduler.pkgsync_failed(failure=failure_to_wire(failure))


@contextlib.asynccontextmanager
async def _heartbeats(worker: Worker) -> Any:
    """Send the heartbeats that Dask itself begins only after setup, so that ``worker-ttl`` evicts nobody meanwhile."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(1)
            with contextlib.suppress(Exception):  # one that is lost is made up for by the next
                await send_heartbeat(worker)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
