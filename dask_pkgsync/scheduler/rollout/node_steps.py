"""The steps of a rollout on one node: prepare, activate, release, expel, each noted in `Nodes`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.environments.interpreter import Interpreter
from dask_pkgsync.model.reports.failure import LayerError, NodeFailure
from dask_pkgsync.model.reports.status import LEFT_ALONE
from dask_pkgsync.node.agent import expected, failure_of, is_own_process
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.process.resolving import lacking, resolve
from dask_pkgsync.scheduler.rollout.node_rpc import NodeFailedError, NodeRpc
from dask_pkgsync.scheduler.rollout.parcels import parcels_of
from dask_pkgsync.scheduler.rollout.resolutions import Resolutions

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler

    from dask_pkgsync.model.reports.sync import NodeReport
    from dask_pkgsync.model.resolutions.resolution import Resolution
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.rollout.drain import Drain
    from dask_pkgsync.scheduler.rollout.nodes import Node, Nodes
    from dask_pkgsync.scheduler.rollout.own_node import SchedulerNode
    from dask_pkgsync.scheduler.rollout.parcels import Parcels

WAITS = "; not restarted yet, and takes no tasks until it is"
"""The end of the note about a node whose worker could not be drained, after the reason and what the worker has."""


class NodeSteps:
    """Prepares, activates, releases and expels single nodes of one cluster.

    Parameters
    ----------
    scheduler : Scheduler
    own_node : SchedulerNode
        The scheduler's own process as a node.
    nodes : Nodes
        Notes the steps, reports and failures of each node.
    drain : Drain
        Gets back the places of workers that have restarted.
    log_event : callable
        Receives an event (a dictionary) for each node that is removed from the cluster.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        own_node: SchedulerNode,
        nodes: Nodes,
        drain: Drain,
        log_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.own_node, self.nodes, self.drain, self.log_event = own_node, nodes, drain, log_event
        self.rpc = NodeRpc(scheduler)
        self.resolutions = Resolutions()
        self.making = asyncio.Lock()
        self.made: tuple[Target, Parcels] | None = None
        """The target that was sent last, and what brings it to nodes."""
        self.in_force: tuple[Target, Parcels] | None = None
        """The same of the target that new nodes start in; None for their base."""

    async def parcels(self, target: Target) -> Parcels:
        """Return what brings a target to nodes; it is made in a thread, and once for all nodes."""
        target = self.resolutions.on(target)
        async with self.making:
            if self.made is None or self.made[0] is not target:
                self.made = target, await asyncio.to_thread(parcels_of, target)
            return self.made[1]

    async def adopt(self, target: Target) -> Parcels:
        """Answer new nodes with a target from now on; return what brings it to nodes."""
        parcels = await self.parcels(target)
        self.in_force = self.resolutions.on(target), parcels
        return parcels

    async def content(self, role: str, target: str, *, with_source: bool) -> dict[str, Any]:
        """Return what a node needs that has a reference to a target (`carry.travel.parcel`).

        Parameters
        ----------
        role : str
            ``nanny`` or ``worker``.
        target : str
            Name of the target. If it is not to be had any more, the content is that of the target in force.
        with_source : bool
            Whether the node needs the source of this package.

        Returns
        -------
        dict
            Empty if the cluster has no target.
        """
        if self.in_force is not None and self.resolutions.on(self.in_force[0]) is not self.in_force[0]:
            await self.adopt(self.in_force[0])  # it was resolved for a further platform
        known = [one for one in (self.in_force, self.made) if one is not None]
        found = next((parcels for one, parcels in known if one.id == target), None)
        if found is None and self.in_force is not None:
            found = self.in_force[1]
        return await asyncio.to_thread(found.content, role, with_source=with_source) if found is not None else {}

    async def prepare(self, node: Node, target: Target) -> None:
        """Let a node plan, and build the layer that it needs; its running processes do not change."""
        self.nodes.step(node.address, node.role, "prepare", "started")
        answer = await self.rpc.prepare(node, await self.parcels(target))
        if isinstance(answer, Interpreter):
            answer = await self._resolve_and_prepare(node, target, answer)
        if isinstance(answer, NodeFailure):
            self.nodes.fail(answer, node.role)
            return
        self.nodes.reports[node.address] = answer
        self.nodes.step(node.address, node.role, "prepare", "finished", _summary(answer))

    async def _resolve_and_prepare(
        self, node: Node, target: Target, interpreter: Interpreter
    ) -> NodeReport | NodeFailure:
        """Let a target be resolved for the platform of a node, by the first of its nodes, and let the node prepare."""
        parcels = await self.parcels(target)
        try:
            await self.resolutions.resolved(target, interpreter, lambda: self.rpc.resolve(node, parcels))
        except NodeFailedError as error:
            return replace(error.failure, node=node.address)
        answer = await self.rpc.prepare(node, await self.parcels(target))
        if isinstance(answer, Interpreter):
            problem = f"the target was resolved for {interpreter.platform}, and the node says that it was not"
            return NodeFailure(node.address, "resolve", problem, "Run the sync again.")
        return answer

    async def inspect(self, node: Node) -> tuple[str, ...]:
        """Return what has changed on a node since it took its target."""
        return await self.rpc.inspect(node)

    async def activate(self, node: Node, target: Target) -> None:
        """Let a node activate what it has prepared."""
        started = monotonic()
        self.nodes.step(node.address, node.role, "activate", "started")
        self.nodes.last_target[node.address] = target.id
        answer = await self.rpc.activate(node, target)
        self.drain.free_place(node.address)
        worker_failure = self.nodes.failures.get(node.address)  # reported by the worker: more exact than its nanny's
        match worker_failure or answer:
            case NodeFailure() as failure:
                self.nodes.fail(failure, node.role)
            case (outcome, reason):
                detail = reason + WAITS if outcome == "waiting" else reason
                report = self.nodes.reports[node.address]
                self.nodes.reports[node.address] = replace(
                    report,
                    outcome="left alone" if report.outcome == "left alone" else outcome,
                    seconds=report.seconds + monotonic() - started,
                    notes=(*report.notes, detail) if detail else report.notes,
                )
                if outcome == "waiting":
                    self.nodes.step(node.address, node.role, "activate", "waiting", detail)
                else:
                    self.drain.free(node.worker)
                    shown = self.nodes.reports[node.address].outcome
                    self.nodes.step(node.address, node.role, "activate", "finished", shown)

    async def prepare_and_activate(self, node: Node, target: Target) -> None:
        """Activate a node; prepare it first if it joined after the others were prepared."""
        if node.address not in self.nodes.reports:
            await self.prepare(node, target)
        if node.address in self.nodes.reports:
            await self.activate(node, target)

    async def release(self, node: Node) -> NodeReport:
        """Give a node its base back, if its worker can be drained."""
        report = await self.rpc.release(node)
        self.drain.free_place(node.address)
        if report.outcome != LEFT_ALONE:
            self.drain.free(node.worker)
        return report

    async def expel(self, node: Node) -> None:
        """Remove a node that could not be brought to the target from the cluster."""
        unverified = NodeFailure(
            node.address, "activate", "its worker was not verified against the target", "Start the node again."
        )
        failure = self.nodes.failures.setdefault(node.address, unverified)
        self.log_event({"action": "node-expelled", "node": node.address, "reason": str(failure)})
        logger.warning("a node was removed from the cluster: %s", failure)
        await self.rpc.expel(node)

    # -- the scheduler itself ---------------------------------------------------------------------------------------

    async def prepare_scheduler(self, target: Target) -> None:
        """Let the scheduler prepare the target, as every node does."""
        address = self.own_node.address
        self.nodes.step(address, "scheduler", "prepare", "started")
        try:
            await self._resolve_here(target)
            report = await self.own_node.prepare(self.resolutions.on(target))
        except NodeFailedError as error:
            self.nodes.fail(replace(error.failure, node=address), "scheduler")
            return
        except Exception as error:  # noqa: BLE001  # an unexpected error, too, must end the rollout in order
            self.nodes.fail(failure_of(address, expected(error)), "scheduler")
            return
        self.nodes.reports[address] = report
        self.nodes.step(address, "scheduler", "prepare", "finished", _summary(report))

    async def _resolve_here(self, target: Target) -> None:
        """Resolve a target for the scheduler's own platform, unless that was done, or a node of it does it."""
        if is_own_process(target):
            return
        if (interpreter := await asyncio.to_thread(lacking, self.resolutions.on(target))) is None:
            return

        async def resolve_here() -> Resolution:
            try:
                return await asyncio.to_thread(resolve, target, node_settings())
            except LayerError as error:
                raise NodeFailedError(failure_of(self.own_node.address, error)) from None

        await self.resolutions.resolved(target, interpreter, resolve_here)

    async def activate_scheduler(self, target: Target) -> None:
        """Let the scheduler take the layer live, as far as it can."""
        address = self.own_node.address
        self.nodes.step(address, "scheduler", "activate", "started")
        report = self.nodes.reports[address] = await self.own_node.activate(
            self.resolutions.on(target), self.nodes.reports[address]
        )
        self.nodes.step(address, "scheduler", "activate", "finished", report.outcome)


def _summary(report: NodeReport) -> str:
    if report.outcome == "left alone":
        return "this process runs in the client's own environment: nothing to do"
    counts = {"to install": report.installed, "to replace": report.replaced, "to hide": report.hidden}
    return ", ".join(f"{len(steps)} {what}" for what, steps in counts.items() if steps) or "matches"
