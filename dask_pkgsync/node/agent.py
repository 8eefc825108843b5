"""The agent of a node: answers the scheduler's calls in a nanny, or in a worker without a nanny."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from dask_pkgsync.model.environments.interpreter import interpreter_to_wire
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.plan import Plan
from dask_pkgsync.model.reports.failure import LayerError, NodeFailure, failure_to_wire
from dask_pkgsync.model.reports.sync import node_report, report_to_wire
from dask_pkgsync.model.resolutions.resolution import resolution_from_wire, resolution_to_wire
from dask_pkgsync.model.target import Target, target_from_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.texts import one_line, several_lines
from dask_pkgsync.node import relaunch
from dask_pkgsync.node.blob_fetcher import BlobFetcher
from dask_pkgsync.node.chunk_server import ChunkServer
from dask_pkgsync.node.dask_internals import answer_calls
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.process.preparation import Prepared, changes_since, is_other_interpreter, prepare
from dask_pkgsync.process.resolving import lacking, part_here, resolve
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Nanny, Worker
    from distributed.comm.core import Comm
    from distributed.core import Server

    from dask_pkgsync.model.reports.sync import NodeReport, Outcome


_in_force: WeakKeyDictionary[Server, tuple[Target, Prepared]] = WeakKeyDictionary()
"""By server, the target that its worker has, or starts in, and what the node has prepared for it. It outlives the
agents, of which every sync makes a new one."""


_preparations: dict[Any, asyncio.Task[Prepared]] = {}
"""The preparations that are under way in this process."""

_inspections: dict[Any, asyncio.Task[tuple[str, ...]]] = {}
"""The inspections that are under way in this process."""


class NodeAgent:
    """Answers the scheduler's calls for one node: prepare and inspect, which change no process; activate; release."""

    role = "worker"
    """``nanny`` or ``worker``, for reports."""

    def __init__(self, server: Nanny | Worker) -> None:
        self.server = server
        self.ready: dict[str, tuple[Target, Prepared]] = {}
        """By name of the target, the one that this node has prepared and can activate."""

    def listen(self) -> None:
        """Answer the scheduler's calls from now on."""
        answer_calls(
            self.server,
            pkgsync_prepare=self.handle_prepare,
            pkgsync_resolve=self.handle_resolve,
            pkgsync_inspect=self.handle_inspect,
            pkgsync_activate=self.handle_activate,
            pkgsync_release=self.handle_release,
            pkgsync_ready=self.handle_ready,
            pkgsync_leave=self.handle_leave,
            pkgsync_chunk=ChunkServer(node_settings).handle_chunk,
        )

    async def handle_prepare(self, target: object) -> dict[str, Any]:
        """Plan, and build the layer that is missing; answer with a report or a failure.

        Where the target is not resolved for this node's platform, answer with the interpreter.
        """
        started = monotonic()
        try:
            checked = await asyncio.to_thread(target_from_wire, target)
            if not is_own_process(checked):
                if (interpreter := await asyncio.to_thread(lacking, checked)) is not None:
                    return {"unresolved": interpreter_to_wire(interpreter)}
                checked = await asyncio.to_thread(part_here, checked)
            prepared = await self.prepare(checked)
        except (LayerError, MessageError) as error:
            return {"failure": failure_to_wire(failure_of(self.server.address, error))}
        outcome: Outcome = "left alone" if is_own_process(checked) else "matched"
        report = self.report(prepared, outcome=outcome, seconds=monotonic() - started)
        return {"report": report_to_wire(report)}

    async def handle_resolve(self, target: object) -> dict[str, Any]:
        """Resolve a target for this node's platform; answer with the resolution, or with a failure."""
        try:
            checked = await asyncio.to_thread(target_from_wire, target)
            resolution = await asyncio.to_thread(resolve, checked, node_settings())
        except (LayerError, MessageError) as error:
            return {"failure": failure_to_wire(failure_of(self.server.address, error))}
        return {"resolution": await asyncio.to_thread(resolution_to_wire, resolution)}

    async def resolved(self, target: Target) -> Target:
        """Return the part of a target for this node; the first node of its platform resolves it, for all of them.

        Raises
        ------
        LayerError
            If it cannot be resolved, or the policy does not allow what it is resolved to.
        """
        if is_own_process(target):
            return target
        if await asyncio.to_thread(lacking, target) is not None:
            found = await asyncio.to_thread(resolve, target, node_settings())
            told = {"target": target.id, "resolution": await asyncio.to_thread(resolution_to_wire, found)}
            scheduler: Any = self.server.scheduler
            kept = await asyncio.to_thread(resolution_from_wire, await scheduler.pkgsync_resolved(**told))
            target = replace(target, resolutions=(*target.resolutions, kept))
        return await asyncio.to_thread(part_here, target)

    def report(self, prepared: Prepared, *, outcome: Outcome, seconds: float = 0.0) -> NodeReport:
        """Make the report of this node on what it has prepared."""
        layer = prepared.layer
        return node_report(
            self.server.address,
            self.role,
            prepared.told,
            outcome=outcome,
            notes=layer.notes if layer else (),
            seconds=seconds,
            fetched=layer.fetched if layer else 0,
            layer=layer.digest if layer else "",
            clashes=layer.clashes if layer else (),
        )

    async def prepare(self, target: Target) -> Prepared:
        """Prepare a target, and keep the result for `handle_activate`."""
        prepared = await self.prepared(target)
        self.ready = {target.id: (target, prepared)}
        return prepared

    async def prepared(self, target: Target) -> Prepared:
        """Prepare a target: plan, and build the layer that is missing."""
        if is_own_process(target):
            return Prepared(Plan(()), None)
        return await self.prepare_together("children", prepare, target)

    async def prepare_with(self, function: Callable[..., Prepared], target: Target) -> Prepared:
        """Call a function of `process.preparation` with this node's settings, in a thread."""
        settings = node_settings()
        fetch = BlobFetcher(self.server, settings, target.install_timeout)
        return await asyncio.to_thread(function, target, settings, fetch)

    async def prepare_together(self, what: str, function: Callable[..., Prepared], target: Target) -> Prepared:
        """Do what `prepare_with` does, once for all nannies of this process that ask at the same time.

        Where it fails, each of the others does it by itself: only the first one may have lost its scheduler.

        Parameters
        ----------
        what : str
            Tells functions apart.
        function, target
            As for `prepare_with`.
        """
        options = target.install_timeout, target.transport, target.store, target.indexes
        key = asyncio.get_running_loop(), what, target.id, options
        if (preparation := _preparations.get(key)) is not None:
            with contextlib.suppress(Exception):
                return await asyncio.shield(preparation)
            return await self.prepare_with(function, target)
        preparation = asyncio.create_task(self.prepare_with(function, target))
        preparation.add_done_callback(lambda _: _preparations.pop(key, None))
        _preparations[key] = preparation
        return await asyncio.shield(preparation)

    @property
    def in_force(self) -> tuple[Target, Prepared] | None:
        """The target that this node's worker has, or starts in, and what the node has prepared for it."""
        return _in_force.get(self.server)

    @in_force.setter
    def in_force(self, value: tuple[Target, Prepared] | None) -> None:
        if value is None:
            _in_force.pop(self.server, None)
        else:
            _in_force[self.server] = value

    async def handle_inspect(self) -> dict[str, Any]:
        """Answer with what has changed on this node since it took its target: in its layer, or in its base."""
        changes = await inspected(*self.in_force) if self.in_force else ()
        return {"changes": [one_line(change) for change in changes]}

    async def handle_activate(self, target: str) -> dict[str, Any]:
        """Activate a prepared target; answer with the outcome, or with a failure."""
        if target not in self.ready:
            problem = "the node was asked to activate a target that it has not prepared"
            failure = NodeFailure(self.server.address, "activate", problem, "Run the sync again.")
            return {"failure": failure_to_wire(failure)}
        try:
            outcome, detail = await self.take(*self.ready[target])
        except LayerError as error:
            return {"failure": failure_to_wire(failure_of(self.server.address, error))}
        return {"outcome": outcome, "detail": several_lines(detail)}

    async def handle_ready(self, target: object, scheduler: object) -> dict[str, Any]:
        """Prepare this process to be executed anew; answer with a token, or with a failure.

        Parameters
        ----------
        target : dict or None
            None: it is to be what it was first started as.
        scheduler : str
            The address of the scheduler.
        """
        try:
            checked = await asyncio.to_thread(target_from_wire, target) if target is not None else None
            ready = await self.ready_to_leave(checked, Field(scheduler, "scheduler").text())
        except (LayerError, MessageError) as error:
            return {"failure": failure_to_wire(failure_of(self.server.address, error))}
        return {
            "token": ready.relaunch.token,
            "python": one_line(ready.relaunch.new.python),
            "notes": [one_line(note) for note in ready.notes],
        }

    async def ready_to_leave(self, target: Target | None, scheduler: str) -> relaunch.Ready:
        """Prepare this process to be executed anew, once for all nannies of the process."""
        timeout = target.install_timeout if target is not None else 0.0
        fetch = BlobFetcher(self.server, node_settings(), timeout)
        return await relaunch.ready_for(target, self.server, fetch, scheduler)

    async def relaunch_if_needed(self, target: Target) -> None:
        """Execute this process anew where no layer can bring it to a target, and the target allows a relaunch.

        Raises
        ------
        LayerError
            If it cannot be prepared for that, or was executed anew for this target before, in vain.
        """
        if target.relaunch == "never" or is_own_process(target):
            return
        if await asyncio.to_thread(is_other_interpreter, target):
            relaunch.refuse_second_try(target)
            ready = await self.ready_to_leave(target, str(self.server.scheduler.address))
            path = await asyncio.to_thread(relaunch.written, ready)
            await relaunch.end_workers()
            relaunch.go(path)

    async def handle_leave(self, comm: Comm, token: object) -> Any:
        """End the workers of this process, answer, and execute it anew."""
        ready = relaunch.prepared_as(Field(token, "token").text(100))
        if ready is None:
            problem = "the node was asked to leave for an environment that it has not prepared"
            return {"failure": failure_to_wire(NodeFailure(self.server.address, "relaunch", problem, "Sync again."))}
        path = await asyncio.to_thread(relaunch.written, ready)
        await relaunch.end_workers()
        await comm.write({"left": ready.relaunch.token})
        return relaunch.go(path)

    async def take(self, target: Target, prepared: Prepared) -> tuple[str, str]:
        """Activate the target on this node; return the outcome, and a detail for the user."""
        raise NotImplementedError

    async def handle_release(self) -> dict[str, Any]:
        """Give the node its base back."""
        raise NotImplementedError


async def inspected(target: Target, prepared: Prepared) -> tuple[str, ...]:
    """Return what has changed since a node was prepared (`process.preparation.changes_since`).

    All nannies of one process are asked at about the same time: those with the same layer share one look at the files.
    """
    layer, base = prepared.layer, prepared.base
    key = asyncio.get_running_loop(), target.id, layer and (layer.root, layer.built), base and base.fingerprint
    if (inspection := _inspections.get(key)) is None:
        inspection = asyncio.create_task(asyncio.to_thread(changes_since, target, prepared))
        inspection.add_done_callback(lambda _: _inspections.pop(key, None))
        _inspections[key] = inspection
    return await asyncio.shield(inspection)


def is_own_process(target: Target) -> bool:
    """Whether this is the process of the target's client (a `LocalCluster`), in which nothing is ever changed."""
    return bool(target.client_process) and target.client_process == this_process().token


def expected(error: Exception) -> LayerError:
    """Return an error as a `LayerError`; one of another type is named with its type, and fails closed all the same."""
    if isinstance(error, LayerError):
        return error
    return LayerError(
        "unexpected",
        f"{type(error).__name__}: {error}",
        advice="Please report this to dask-pkgsync, with the node's log.",
    )


def failure_of(node: str, error: LayerError | MessageError) -> NodeFailure:
    """Return an error as the failure of a node."""
    if isinstance(error, MessageError):
        return NodeFailure(
            node, "receive", str(error), "Install the same release of dask-pkgsync on the scheduler and on this node."
        )
    return NodeFailure(node, error.step, error.problem, error.advice, error.last_words, error.packages)
