"""On the scheduler: brings every node to a target, in two phases, and back.

First all nodes *prepare*: they plan, build and verify their layers, and nothing that runs is changed. Only when that
went well somewhere is the target *adopted*: from then on new nodes start in it, and the others *activate* what they
have prepared. A node that fails in either phase leaves the cluster; if all fail in the first, nothing has happened. A
node whose worker could not be drained waits: it takes no tasks, and activates when its worker is free.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.environments.distribution import Distribution
from dask_pkgsync.model.reports.failure import LayerError, NodeFailure, SyncError
from dask_pkgsync.model.reports.status import LEFT_ALONE
from dask_pkgsync.model.reports.sync import SyncReport
from dask_pkgsync.node.agent import failure_of
from dask_pkgsync.node.log import logger
from dask_pkgsync.node.worker import NAME
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.process.preparation import resolve_extra
from dask_pkgsync.scheduler.dask_internals import give_new_nannies, give_new_workers, started_nannies
from dask_pkgsync.scheduler.rollout.node_steps import NodeSteps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from distributed import Scheduler

    from dask_pkgsync.model.clash import Clash
    from dask_pkgsync.model.reports.sync import NodeReport
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.rollout.drain import Drain
    from dask_pkgsync.scheduler.rollout.nodes import Node, Nodes
    from dask_pkgsync.scheduler.rollout.own_node import SchedulerNode

ROUNDS = 5
"""How often nodes that came in while a sync was under way are looked for before what is left is given up."""


class Rollout:
    """Brings the nodes of one cluster to a target.

    Parameters
    ----------
    scheduler : Scheduler
    itself : SchedulerNode
        The scheduler's own process.
    nodes : Nodes
        Receives what is done to each node.
    drain : Drain
        Sees to it that restarts lose no results.
    log_event : callable
        Receives an event (a dictionary) for every decision.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        itself: SchedulerNode,
        nodes: Nodes,
        drain: Drain,
        log_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.scheduler = scheduler
        self.itself = itself
        self.nodes = nodes
        self.drain = drain
        self.log_event = log_event
        self.steps = NodeSteps(scheduler, itself, nodes, drain, log_event)
        self.target: Target | None = None
        """What new nodes start in."""
        self.adopting = False
        """Whether nodes that come in are still to be brought to the target."""
        self.lock = asyncio.Lock()
        """Held by whoever changes the target, or a node."""
        self.later: set[asyncio.Task[None]] = set()

    async def roll_out(self, asked: Target, permit: Callable[[Collection[Clash]], Awaitable[None]]) -> SyncReport:
        """Prepare, adopt and activate; nothing has changed if this raises.

        Parameters
        ----------
        asked : Target
        permit : callable
            Looks at what nodes have found that cannot be in one environment, and raises if that keeps the target from
            being adopted.

        Raises
        ------
        SyncError
            If no node can have it, or none could be drained: then there would be nobody to run tasks.
        """
        started, before = monotonic(), self.target
        target = await self._resolve(asked)
        resolved = monotonic()
        await self._prepare_all(target)
        await permit({clash for report in self.nodes.reports.values() for clash in report.clashes})
        prepared = monotonic()
        await self._adopt(target, target.restart)
        if failures := self._nobody_works():
            await self._go_back(before)
            raise self._not_adopted(failures)
        for node in self.nodes.waiting():
            self._do_later(self._restart_when_free(node, target))
        steps = {
            "resolve": resolved - started,
            "prepare": prepared - resolved,
            "activate": monotonic() - prepared,
        }
        waiting = [node.address for node in self.nodes.waiting()]
        told = {"failed": sorted(self.nodes.failures), "waiting": waiting, "owner": asked.owner}
        self.log_event({"action": "synced", "target": target.id, **told})
        return SyncReport(target.id, self.nodes.ordered_reports(), monotonic() - started, steps)

    async def _adopt(self, target: Target, restart: str) -> None:
        self.adopting = True
        self._stop_what_was_for_later()
        self.drain.begin(restart)
        try:
            await self._activate_all(target)
        finally:  # also after what nobody expected: a worker without a nanny is verified by this plugin alone
            give_new_workers(self.scheduler, NAME, self.steps.plugin("worker", target))
            self.adopting = False

    async def _go_back(self, before: Target | None) -> None:
        """Give every node what it had: the workers still run in it, and take tasks again."""
        if before is None:
            self.drain.begin("drained", patience=0)
            await self.release(holds=False)
        else:
            self.nodes.begin()
            await self._prepare_all(before)
            await self._adopt(before, "drained")

    def _nobody_works(self) -> dict[str, NodeFailure]:
        """Return why no worker takes tasks, where every one of them waits for its restart."""
        waiting = self.nodes.waiting()
        if not waiting or len(waiting) < len(self.nodes.connected()):
            return {}
        return {node.address: _waits(self.nodes.reports[node.address]) for node in waiting}

    async def _resolve(self, asked: Target) -> Target:
        """Turn the extra requirements into exact versions, once for all nodes."""
        environment = asked.environment
        if not asked.policy.extra:
            return asked
        here = self.itself.address
        self.nodes.step(here, "scheduler", "resolve", "started")
        try:
            pins = await asyncio.to_thread(resolve_extra, asked, node_settings())
        except LayerError as error:
            raise self._not_adopted({here: failure_of(here, error)}) from None
        self.nodes.step(here, "scheduler", "resolve", "finished", f"{len(pins)} packages")
        pairs = (pin.split("==", 1) for pin in pins)
        extra = [Distribution(name, version) for name, version in pairs if name not in environment.distributions]
        more = type(environment).of(environment.interpreter, [*environment.distributions.values(), *extra])
        return asked.with_environment(more)

    async def _prepare_all(self, target: Target) -> None:
        """Let every node prepare; raise if none can."""
        nodes = self.nodes.connected()
        await asyncio.gather(self.steps.prepare_itself(target), *(self.steps.prepare(node, target) for node in nodes))
        failed = set(self.nodes.failures)
        if self.itself.address in failed or (nodes and failed.issuperset(node.address for node in nodes)):
            raise self._not_adopted(self.nodes.failures)

    def _not_adopted(self, failures: dict[str, NodeFailure]) -> SyncError:
        for failure in failures.values():
            logger.warning("not synced: %s", failure)
        self.log_event({"action": "sync-failed", "failed": sorted(failures)})
        return SyncError(failures)

    async def _activate_all(self, target: Target) -> None:
        """Adopt the target, and bring in every node, also those that came meanwhile."""
        self.target = target
        give_new_nannies(self.scheduler, NAME, self.steps.plugin("nanny", target))
        # Not yet for workers: one whose nanny began to start before this would fail its last look, instead of being
        # brought in below; and one that is in the new target already would be held against the old.
        give_new_workers(self.scheduler, NAME, None)
        await self.steps.activate_itself(target)
        for _ in range(ROUNDS):
            await started_nannies(self.scheduler)  # those that began to start before the plugin was there for them
            nodes = [node for node in self.nodes.unverified(target) if node.address not in self.nodes.failures]
            if not nodes:
                break
            await asyncio.gather(*(self.steps.bring_in(node, target) for node in nodes))
        while unverified := self.nodes.unverified(target):
            for node in unverified:
                await self.steps.expel(node)
        # Nothing is awaited from here to the end of the adoption, after which only the verified may register.

    async def release(self, *, holds: bool = True) -> list[NodeReport]:
        """Give every node its base back, the scheduler first.

        Parameters
        ----------
        holds : bool
            Whether a worker that cannot be emptied takes no tasks until it was restarted; not where it would be all.
        """
        self.target = None
        self._stop_what_was_for_later()
        give_new_nannies(self.scheduler, NAME, None)
        give_new_workers(self.scheduler, NAME, None)
        nodes = self.nodes.connected()
        reports = await asyncio.gather(*(self.steps.release(node) for node in nodes))
        left = [node for node, report in zip(nodes, reports, strict=True) if report.outcome == LEFT_ALONE]
        if holds and len(left) < len(nodes):
            reports = [replace(one, outcome="waiting") if one.outcome == LEFT_ALONE else one for one in reports]
        else:
            for node in left:
                self.drain.free(node.worker)
        self.nodes.begin_released(reports)
        for node in left if holds else ():
            self._do_later(self._release_when_free(node))
        return [self.itself.release(), *reports]

    async def _release_when_free(self, node: Node) -> None:
        """Give a node its base back that could not be emptied, once it can; whoever syncs ends this."""
        outcome, holds = LEFT_ALONE, node.worker in self.drain.held
        while outcome == LEFT_ALONE:
            await self.drain.wait_until_free(node.worker, holds=holds)
            async with self.lock:
                if node.address not in {one.address for one in self.nodes.connected()}:
                    return
                outcome = (await self.steps.release(node)).outcome
                if not holds:
                    self.drain.free(node.worker)
        self.nodes.states.pop(node.address, None)

    async def _restart_when_free(self, node: Node, target: Target) -> None:
        """Bring in a node that could not be drained, once it can; whoever comes with another target ends this."""
        while node.address in {one.address for one in self.nodes.waiting()}:
            await self.drain.wait_until_free(node.worker)
            async with self.lock:
                if node.address not in {one.address for one in self.nodes.connected()}:
                    return
                if self.nodes.is_verified(node, target):  # it died, and came back in the target
                    self.nodes.step(node.address, node.role, "activate", "finished", "restarted")
                    return
                await self.steps.prepare(
                    node, target
                )  # again: it may have prepared what somebody else asked for in vain
                if node.address in self.nodes.reports:
                    await self.steps.activate(node, target)
                if node.address in self.nodes.failures:
                    await self.steps.expel(node)

    def _do_later(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.later.add(task)
        task.add_done_callback(self.later.discard)

    def _stop_what_was_for_later(self) -> None:
        for task in self.later:
            task.cancel()


def _waits(report: NodeReport) -> NodeFailure:
    return NodeFailure(
        report.address,
        "drain",
        report.notes[-1],
        "Release what it holds (del the futures) or let its tasks end, and sync again; or restart it all the same: "
        "sync(client, restart='now').",
    )
