"""The side of a worker: verifies its environment before it registers, and takes layers live."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
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
from dask_pkgsync.node.metrics import publish_metrics
from dask_pkgsync.process import activation, imports
from dask_pkgsync.process.live import take_live
from dask_pkgsync.process.resolving import part_here
from dask_pkgsync.process.state import this_process
from dask_pkgsync.process.verification import verify

if TYPE_CHECKING:
    from distributed import Worker

    from dask_pkgsync.process.preparation import Prepared

NAME = "pkgsync"
"""The name of our nanny and worker plugins, and of what a worker presents when it registers."""

Sender = Literal["scheduler", "nanny", "client's nanny"]
"""What gave the plugin to the worker. ``client's nanny`` is a nanny in the client's own process (a `LocalCluster`): it
starts its workers in the client's environment, so that nothing has to be installed."""


class WorkerSync(WorkerPlugin):
    """The worker plugin: lets no worker take tasks before its environment has been verified.

    A nanny gives it to a worker that has not registered, where an exception ends the start, and to a running worker
    that is to take a layer live, where an exception asks for a restart. A successor (`node.successor`) also waits until
    its nanny lets it register. The scheduler gives it to each worker that
    registers: in a worker with a nanny it verifies once more, and in a worker without a nanny it prepares, activates
    and verifies. Dask assigns such a worker no task before ``setup`` returns.
    """

    name = NAME

    def __init__(
        self, target: Target, layer: Layer | None = None, *, sent_by: Sender = "scheduler", waits: bool = False
    ) -> None:
        self.target, self.layer, self.sent_by, self.waits = target, layer, sent_by, waits

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle together with the source of this package."""
        factory, state = worker_parcel(target_to_wire(self.target))
        state |= {
            "layer": layer_to_wire(self.layer) if self.layer else None,
            "sent-by": self.sent_by,
            "waits": self.waits,
        }
        return carried("worker", factory, state)

    async def setup(self, worker: Worker) -> None:
        """Verify this process against the target; activate the target first, where it is not active."""
        log_in_sentences()
        tell_at_registration(worker, NAME, _presented)
        this_process().uploads = worker.local_directory
        if self.sent_by == "scheduler" and not is_own_process(self.target):
            self.target = await asyncio.to_thread(part_here, self.target)
        if is_own_process(self.target) or self.sent_by == "client's nanny":
            this_process().target = self.target.id
            WorkerAgent(worker).listen()
        elif is_before_registration(worker):
            await self._verify_before_registration(worker)
        elif self.sent_by == "nanny":
            await asyncio.to_thread(take_live, self.layer, self.target, Path(worker.local_directory))
            forget_versions()
        elif worker.nanny:
            if this_process().target != self.target.id:
                await self._verify_registered(worker)
        else:
            await self._sync_without_nanny(worker)
        await publish_metrics()

    async def _verify_before_registration(self, worker: Worker) -> None:
        if self.layer is not None:
            await asyncio.to_thread(activation.adopt, self.layer, Path(worker.local_directory))
        try:
            await asyncio.to_thread(verify, self.target)
        except Exception as error:
            await _report_failure(worker, expected(error))  # Dask only logs the error, on the node
            raise
        if self.waits and not await worker.rpc(str(worker.nanny)).pkgsync_turn(pid=os.getpid()):
            raise LayerError(
                "restart",
                "this worker was to take the place of another one, which is not to be replaced any more",
                advice="Nothing needs to be done.",
            )

    async def _verify_registered(self, worker: Worker) -> None:
        try:
            await asyncio.to_thread(verify, self.target)
        except Exception as error:  # noqa: BLE001  # Dask only logs an error, and lets the worker take tasks
            await _leave(worker, expected(error))

    async def _sync_without_nanny(self, worker: Worker) -> None:
        """Prepare the target in a worker without a nanny, and take it live; until then Dask assigns it no tasks."""
        agent = WorkerAgent(worker)
        agent.listen()
        if is_at_work(worker):
            return  # the worker runs already: the scheduler will call its agent
        async with _heartbeats(worker):
            try:
                target = await agent.resolved(self.target)
                prepared = await agent.prepare(target)
                await agent.take(target, prepared)
            except Exception as error:  # noqa: BLE001  # Dask only logs an error, and lets the worker take tasks
                await _leave(worker, expected(error))
        report = node_report(worker.address, "worker", prepared.told, outcome="started")
        await worker.scheduler.pkgsync_report(report=report_to_wire(report), target=self.target.id)


class WorkerLoads(WorkerPlugin):
    """Does nothing: a running worker that gets it imports, in a thread, what it needs when `WorkerSync` comes.

    Its nanny sends it while the layer is built.
    """

    name = NAME

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle together with the source of this package."""
        return carried("worker", f"{__name__}:worker_loads", None)

    async def setup(self, worker: Worker) -> None:
        """Do nothing."""


def worker_loads(_state: None) -> WorkerLoads:
    """Rebuild the plugin in the worker."""
    return WorkerLoads()


class WorkerAgent(NodeAgent):
    """Answers the scheduler's calls for a worker without a nanny, which takes layers live or not at all."""

    server: Worker

    async def take(self, target: Target, prepared: Prepared) -> tuple[str, str]:
        """Take a layer live, and verify.

        Raises
        ------
        LayerError
            If this process cannot take the layer live, or does not match the target with it: without a nanny it cannot
            be restarted.
        """
        if is_own_process(target):
            this_process().target = target.id
            return "left alone", ""
        self.in_force = target, prepared
        changed = prepared.layer is not None and not activation.is_active(prepared.layer)
        try:
            await asyncio.to_thread(take_live, prepared.layer, target, Path(self.server.local_directory))
        except RestartNeededError as reason:
            raise LayerError(
                "activate",
                f"a worker without a nanny cannot be restarted, and cannot take the environment live: {reason}",
                advice="Start the worker with a nanny, which restarts it in the environment; or start it again, if it "
                "has imported what differs.",
            ) from None
        forget_versions()
        return ("live" if changed else "matched"), ""

    async def handle_release(self) -> dict[str, Any]:
        """Go back to the base, as far as a running process can."""
        modules = imports.loaded_from(this_process().layer) if this_process().layer else ()
        await asyncio.to_thread(activation.deactivate)
        self.in_force = None
        forget_versions()
        still = f"the worker still has modules of the released environment: {', '.join(modules[:5])}; restart it"
        note = still if modules else ""
        return {"outcome": "live" if modules else "matched", "detail": note}


def worker_parcel(target: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the function that makes the plugin, as ``module:name``, and its argument, for a target as plain data.

    The plugin is that of the scheduler.
    """
    return f"{__name__}:worker_sync", {"target": target, "layer": None, "sent-by": "scheduler", "waits": False}


def worker_sync(state: dict[str, Any]) -> WorkerSync:
    """Rebuild the plugin in the worker from the plain data that it travelled as."""
    layer = layer_from_wire(state["layer"]) if state["layer"] else None
    return WorkerSync(target_from_wire(state["target"]), layer, sent_by=state["sent-by"], waits=state["waits"])


def _presented(_worker: Worker) -> dict[str, str]:
    """Return what the worker presents to the scheduler when it registers: the target that it was verified against."""
    return {"target": this_process().target}


async def _leave(worker: Worker, error: LayerError) -> NoReturn:
    """Report a failure to the scheduler, and close this worker; the scheduler gives its tasks to other workers."""
    await _report_failure(worker, error)
    if worker.nanny:
        os._exit(1)  # its nanny waits for the start: with Worker.close the two would wait for each other
    await worker.close(nanny=False, executor_wait=False, reason="pkgsync-not-verified")
    raise error


async def _report_failure(worker: Worker, error: LayerError) -> None:
    failure = failure_of(str(worker.nanny or worker.address), error)
    with contextlib.suppress(OSError):
        await worker.scheduler.pkgsync_failed(failure=failure_to_wire(failure))


@contextlib.asynccontextmanager
async def _heartbeats(worker: Worker) -> Any:
    """Send heartbeats, which Dask itself begins only after setup, so that ``worker-ttl`` does not evict the worker."""

    async def beat() -> None:
        while True:
            await asyncio.sleep(1)
            with contextlib.suppress(Exception):  # the next one follows in a second
                await send_heartbeat(worker)

    task = asyncio.create_task(beat())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
