"""On the scheduler: what a rollout does to one node, and what is noted of it."""

from __future__ import annotations

from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.reports.failure import NodeFailure
from dask_pkgsync.model.reports.status import LEFT_ALONE
from dask_pkgsync.node.agent import expected, failure_of
from dask_pkgsync.node.dask_internals import pickled
from dask_pkgsync.node.log import logger
from dask_pkgsync.node.nanny import NannySync
from dask_pkgsync.node.worker import WorkerSync
from dask_pkgsync.scheduler.rollout.node_rpc import NodeRpc

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler

    from dask_pkgsync.model.reports.sync import NodeReport
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.rollout.drain import Drain
    from dask_pkgsync.scheduler.rollout.nodes import Node, Nodes
    from dask_pkgsync.scheduler.rollout.own_node import SchedulerNode


class NodeSteps:
    """Prepares, activates, releases and expels the nodes of one cluster, one at a time.

    Parameters
    ----------
    scheduler : Scheduler
    itself : SchedulerNode
        The scheduler's own process.
    nodes : Nodes
        Receives what is done to each node.
    drain : Drain
        Is told which node's worker is back.
    log_event : callable
        Receives an event (a dictionary) for each node that has to leave.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        itself: SchedulerNode,
        nodes: Nodes,
        drain: Drain,
        log_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.itself, self.nodes, self.drain, self.log_event = itself, nodes, drain, log_event
        self.rpc = NodeRpc(scheduler)
        self.plugins: tuple[Target | None, dict[str, bytes]] = None, {}
        """A target, and what brings it to nannies and to workers without one."""

    def plugin(self, role: str, target: Target) -> bytes:
        """Return what brings a target to nannies, or to workers without one, as it travels."""
        known, plugins = self.plugins
        if known is not target:
            plugins = {"nanny": pickled(NannySync(target)), "worker": pickled(WorkerSync(target))}
            self.plugins = target, plugins
        return plugins[role]

    async def prepare(self, node: Node, target: Target) -> None:
        """Let a node plan, and build what it lacks; nothing that runs is changed."""
        self.nodes.step(node.address, node.role, "prepare", "started")
        answer = await self.rpc.prepare(node, target, self.plugin(node.role, target))
        if isinstance(answer, NodeFailure):
            self.nodes.fail(answer, node.role)
            return
        self.nodes.reports[node.address] = answer
        self.nodes.step(node.address, node.role, "prepare", "finished", _summary(answer))

    async def activate(self, node: Node, target: Target) -> None:
        """Let a node take what it has prepared."""
        started = monotonic()
        self.nodes.step(node.address, node.role, "activate", "started")
        self.nodes.last_target[node.address] = target.id
        answer = await self.rpc.activate(node, target)
        self.drain.done(node.address)
        told = self.nodes.failures.get(node.address)  # by the worker itself, which knows better than its nanny
        match told or answer:
            case NodeFailure() as failure:
                self.nodes.fail(failure, node.role)
            case (outcome, detail):
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

    async def bring_in(self, node: Node, target: Target) -> None:
        """Activate a node, which is prepared first if it came too late for that."""
        if node.address not in self.nodes.reports:
            await self.prepare(node, target)
        if node.address in self.nodes.reports:
            await self.activate(node, target)

    async def release(self, node: Node) -> NodeReport:
        """Give a node its base back, if its worker can be emptied."""
        report = await self.rpc.release(node)
        self.drain.done(node.address)
        if report.outcome != LEFT_ALONE:
            self.drain.free(node.worker)
        return report

    async def expel(self, node: Node) -> None:
        """Take a node out of the cluster that does not have the target."""
        never = NodeFailure(node.address, "activate", "its worker was never verified", "Start it again.")
        failure = self.nodes.failures.setdefault(node.address, never)
        self.log_event({"action": "node-expelled", "node": node.address, "reason": str(failure)})
        logger.warning("out of the cluster: %s", failure)
        await self.rpc.expel(node)

    # -- the scheduler itself ---------------------------------------------------------------------------------------

    async def prepare_itself(self, target: Target) -> None:
        """Let the scheduler plan and build, as any node."""
        here = self.itself.address
        self.nodes.step(here, "scheduler", "prepare", "started")
        try:
            report = await self.itself.prepare(target)
        except Exception as error:  # noqa: BLE001  # also what nobody expected must not leave the others half-way
            self.nodes.fail(failure_of(here, expected(error)), "scheduler")
            return
        self.nodes.reports[here] = report
        self.nodes.step(here, "scheduler", "prepare", "finished", _summary(report))

    async def activate_itself(self, target: Target) -> None:
        """Let the scheduler take live what it can."""
        here = self.itself.address
        self.nodes.step(here, "scheduler", "activate", "started")
        report = self.nodes.reports[here] = await self.itself.activate(target, self.nodes.reports[here])
        self.nodes.step(here, "scheduler", "activate", "finished", report.outcome)


def _summary(report: NodeReport) -> str:
    if report.outcome == "left alone":
        return "this process is your own: nothing to do"
    counts = {"to install": report.installed, "to replace": report.replaced, "to hide": report.hidden}
    return ", ".join(f"{len(steps)} {what}" for what, steps in counts.items() if steps) or "matches"
