"""The rollout: brings every node of a cluster to a target in two phases, or back to its base.

First all nodes *prepare*: they plan, build and verify their layers, and no running process changes. If that succeeds on
at least one node, the target is *adopted*: new nodes start in it from then on, and the others *activate* what they have
prepared. A node that fails in either phase is removed from the cluster; if all nodes fail to prepare, nothing has
changed. A node whose worker could not be drained waits: it takes no tasks, and activates when its worker is free.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from dask_pkgsync.model.reports.failure import LayerError, NodeFailure, SyncError
from dask_pkgsync.model.reports.status import LEFT_ALONE
from dask_pkgsync.model.reports.sync import SyncReport
from dask_pkgsync.node.agent import failure_of
from dask_pkgsync.node.log import logger
from dask_pkgsync.node.worker import NAME
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.process.tools import resolve_extra, resolve_extra_conda
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scheduler.dask_internals import give_new_nannies, give_new_workers, started_nannies
from dask_pkgsync.scheduler.rollout.node_steps import WAITS, NodeSteps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from distributed import Scheduler

    from dask_pkgsync.model.clash import Clash
    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.reports.sync import NodeReport
    from dask_pkgsync.model.resolutions.substitution import Substitution
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.node_settings import NodeSettings
    from dask_pkgsync.scheduler.rollout.drain import Drain
    from dask_pkgsync.scheduler.rollout.nodes import Node, Nodes
    from dask_pkgsync.scheduler.rollout.own_node import SchedulerNode

ROUNDS = 5
"""How often a rollout looks for nodes that joined meanwhile, before it removes those that are still unverified."""

Resolved = TypeVar("Resolved")


class Rollout:
    """Brings the nodes of one cluster to a target.

    Parameters
    ----------
    scheduler : Scheduler
    own_node : SchedulerNode
        The scheduler's own process as a node.
    nodes : Nodes
        Notes the steps, reports and failures of each node.
    drain : Drain
        Drains workers before they are restarted, so that no results are lost.
    log_event : callable
        Receives an event (a dictionary) for every sync that succeeded or failed, and every node that is removed.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        own_node: SchedulerNode,
        nodes: Nodes,
        drain: Drain,
        log_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self.scheduler = scheduler
        self.own_node = own_node
        self.nodes = nodes
        self.drain = drain
        self.log_event = log_event
        self.steps = NodeSteps(scheduler, own_node, nodes, drain, log_event)
        self.target: Target | None = None
        """The target that new nodes start in; None for their base."""
        self.adopting = False
        """Whether a target is being adopted: until that ends, the rollout brings nodes that join to the target, too."""
        self.lock = asyncio.Lock()
        """Held while the target or a node is being changed."""
        self.deferred: set[asyncio.Task[None]] = set()
        """Tasks that restart or release nodes once their workers are free."""

    async def inspect(self) -> dict[str, tuple[str, ...]]:
        """Return, by address, what has changed on nodes since they took the target: in their layers, or in their bases.

        Nodes on which nothing has changed are left out.
        """
        nodes = self.nodes.connected() if self.target else []
        found = await asyncio.gather(self.own_node.inspect(), *(self.steps.inspect(node) for node in nodes))
        addresses = (self.own_node.address, *(node.address for node in nodes))
        return {address: changes for address, changes in zip(addresses, found, strict=True) if changes}

    async def roll_out(
        self,
        asked: Target,
        permit: Callable[[Collection[Clash]], Awaitable[None]],
        changes: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> SyncReport:
        """Prepare, adopt and activate a target; if this raises, the cluster has what it had.

        Parameters
        ----------
        asked : Target
        permit : callable
            Receives the clashes that nodes have found in the prepared layers; raises if they forbid the target.
        changes : mapping of str to sequence of str
            If the nodes have the target already: what has changed on them since, as `inspect` returns it.

        Raises
        ------
        SyncError
            If no node could prepare, or no worker could be drained: then no worker would run tasks.
        """
        started, before = monotonic(), self.target
        target = self._again(asked) if changes else await self._resolve(asked)
        resolved = monotonic()
        await self._prepare_all(target)
        self.nodes.note_changes(changes)
        await permit({clash for report in self.nodes.reports.values() for clash in report.clashes})
        prepared = monotonic()
        await self._adopt(target, target.restart)
        if failures := self._failures_if_all_wait():
            await self._roll_back(before)
            raise self._not_adopted(failures)
        for node in self.nodes.waiting():
            self._defer(self._activate_when_free(node, target))
        steps = {
            "resolve": resolved - started,
            "prepare": prepared - resolved,
            "activate": monotonic() - prepared,
        }
        waiting = [node.address for node in self.nodes.waiting()]
        details = {"failed": sorted(self.nodes.failures), "waiting": waiting, "owner": asked.owner}
        self.log_event({"action": "synced", "target": target.id, **details})
        return SyncReport(
            target.id,
            self.nodes.ordered_reports(),
            monotonic() - started,
            steps,
            substitutions=self.substitutions,
        )

    @property
    def substitutions(self) -> tuple[Substitution, ...]:
        """What nodes of other platforms than the client's have in place of its packages, if there is a target."""
        resolutions = self.steps.resolutions.on(self.target).resolutions if self.target else ()
        return tuple(dict.fromkeys(row for one in resolutions for row in one.substitutions))

    async def _adopt(self, target: Target, restart: str) -> None:
        """Let new nodes start in the target, and bring all others to it."""
        parcels = await self.steps.adopt(target)
        self.adopting = True
        self._cancel_deferred()
        self.drain.begin(restart)
        try:
            await self._activate_all(target, parcels.nanny)
        finally:  # after an unexpected error, too: only this plugin verifies a worker without a nanny
            give_new_workers(self.scheduler, NAME, parcels.worker)
            self.adopting = False

    async def _roll_back(self, before: Target | None) -> None:
        """Bring every node back to the target before, in which the workers still run; they take tasks again."""
        if before is None:
            self.drain.begin("drained", patience=0)
            await self.release(holds=False)
        else:
            self.nodes.begin()
            await self._prepare_all(before)
            await self._adopt(before, "drained")

    def _failures_if_all_wait(self) -> dict[str, NodeFailure]:
        """Return a failure for each node if all of them wait for a restart, so that no worker takes tasks."""
        waiting = self.nodes.waiting()
        if not waiting or len(waiting) < len(self.nodes.connected()):
            return {}
        return {node.address: _not_drained(self.nodes.reports[node.address]) for node in waiting}

    def _again(self, asked: Target) -> Target:
        """Return the present target as another client asks for it: its extra requirements are not resolved anew."""
        assert self.target is not None  # noqa: S101  # nodes can have changed only since they took one
        return replace(asked, environment=self.target.environment, has_extra=self.target.has_extra)

    async def _resolve(self, asked: Target) -> Target:
        """Resolve the extra requirements to exact versions, and the extra conda packages, once for all nodes.

        Where the scheduler has another platform than the client, the extra requirements are resolved with all else,
        once for each platform.
        """
        if asked.policy.extra_conda:
            self._refuse_foreign(asked, await asyncio.to_thread(this_interpreter))
            packages = await self._resolved(resolve_extra_conda, asked)
            conda = (*asked.environment.conda.values(), *packages)
            asked = asked.with_environment(asked.environment.with_conda(conda))
        is_there = asked.environment.interpreter.same_platform(await asyncio.to_thread(this_interpreter))
        if not asked.policy.extra_requirements or not is_there:
            return asked
        return asked.with_extra(await self._resolved(resolve_extra, asked))

    def _refuse_foreign(self, asked: Target, here: Interpreter) -> None:
        """Raise `SyncError` where conda packages would be solved for another platform than the client's."""
        if asked.environment.interpreter.platform != here.platform:
            platforms = (
                f"the scheduler's platform is {here.platform}, the client's {asked.environment.interpreter.platform}"
            )
            problem = f"extra names conda packages, which are solved for the client's platform; {platforms}"
            error = LayerError("resolve", problem, advice="Install them in your own environment, and sync.")
            address = self.own_node.address
            raise self._not_adopted({address: failure_of(address, error)})

    async def _resolved(
        self, resolve: Callable[[Target, NodeSettings], tuple[Resolved, ...]], asked: Target
    ) -> tuple[Resolved, ...]:
        """Call a function that resolves something, in a thread, and tell of it as a step of the scheduler."""
        address = self.own_node.address
        self.nodes.step(address, "scheduler", "resolve", "started")
        try:
            found = await asyncio.to_thread(resolve, asked, node_settings())
        except LayerError as error:
            raise self._not_adopted({address: failure_of(address, error)}) from None
        self.nodes.step(address, "scheduler", "resolve", "finished", f"{len(found)} packages")
        return found

    async def _prepare_all(self, target: Target) -> None:
        """Let every node prepare.

        Raises
        ------
        SyncError
            If the scheduler could not prepare, or no other node could.
        """
        nodes = self.nodes.connected()
        await asyncio.gather(
            self.steps.prepare_scheduler(target), *(self.steps.prepare(node, target) for node in nodes)
        )
        failed = set(self.nodes.failures)
        if self.own_node.address in failed or (nodes and failed.issuperset(node.address for node in nodes)):
            raise self._not_adopted(self.nodes.failures)

    def _not_adopted(self, failures: dict[str, NodeFailure]) -> SyncError:
        """Log and publish why a target is not adopted; return the error to raise."""
        for failure in failures.values():
            logger.warning("the sync changed nothing, because a node failed: %s", failure)
        self.log_event({"action": "sync-failed", "failed": sorted(failures)})
        return SyncError(failures)

    async def _activate_all(self, target: Target, plugin: bytes) -> None:
        """Activate the target on every node, also on those that join meanwhile; remove the nodes where that fails.

        Parameters
        ----------
        target : Target
        plugin : bytes
            Our pickled plugin for nannies.
        """
        self.target = target
        give_new_nannies(self.scheduler, NAME, plugin)
        # New workers get no plugin yet. With the new one, a worker whose nanny started before this point would fail its
        # verification, instead of being brought to the target below. With the old one, a worker that started in the new
        # target would be verified against the old one.
        give_new_workers(self.scheduler, NAME, None)
        own = asyncio.create_task(self.steps.activate_scheduler(target))
        try:
            for _ in range(ROUNDS):
                await started_nannies(self.scheduler)  # they may have asked for their plugins before ours was set
                nodes = [node for node in self.nodes.unverified(target) if node.address not in self.nodes.failures]
                if not nodes:
                    break
                await asyncio.gather(*(self.steps.prepare_and_activate(node, target) for node in nodes))
        finally:
            await own
        while unverified := self.nodes.unverified(target):
            for node in unverified:
                await self.steps.expel(node)
        # From here to the end of the adoption nothing is awaited, so no worker can register meanwhile. After it, the
        # gate lets only verified workers register.

    async def release(self, *, holds: bool = True) -> list[NodeReport]:
        """Give every node its base back, the scheduler first.

        Parameters
        ----------
        holds : bool
            Whether a worker that could not be drained takes no tasks until it has been restarted. If that would be so
            for all workers, they take tasks.
        """
        self.target = None
        self.steps.in_force = None
        self._cancel_deferred()
        give_new_nannies(self.scheduler, NAME, None)
        give_new_workers(self.scheduler, NAME, None)
        nodes = self.nodes.connected()
        reports = await asyncio.gather(*(self.steps.release(node) for node in nodes))
        kept = [node for node, report in zip(nodes, reports, strict=True) if report.outcome == LEFT_ALONE]
        if holds and len(kept) < len(nodes):
            reports = [
                replace(report, outcome="waiting") if report.outcome == LEFT_ALONE else report for report in reports
            ]
        else:
            for node in kept:
                self.drain.free(node.worker)
        self.nodes.note_release(reports)
        for node in kept if holds else ():
            self._defer(self._release_when_free(node))
        return [await asyncio.to_thread(self.own_node.release), *reports]

    async def _release_when_free(self, node: Node) -> None:
        """Release a node whose worker could not be drained, once it is free; a later sync or release cancels this."""
        outcome, holds = LEFT_ALONE, node.worker in self.drain.held
        while outcome == LEFT_ALONE:
            await self.drain.wait_until_free(node.worker, holds=holds)
            async with self.lock:
                if node.address not in {connected.address for connected in self.nodes.connected()}:
                    return
                outcome = (await self.steps.release(node)).outcome
                if not holds:
                    self.drain.free(node.worker)
        self.nodes.states.pop(node.address, None)

    async def _activate_when_free(self, node: Node, target: Target) -> None:
        """Activate a node whose worker could not be drained, once it is free; a later sync or release cancels this."""
        while node.address in {waiting.address for waiting in self.nodes.waiting()}:
            await self.drain.wait_until_free(node.worker)
            async with self.lock:
                if node.address not in {connected.address for connected in self.nodes.connected()}:
                    return
                if self.nodes.is_verified(node, target):  # its worker died, and the nanny restarted it in the target
                    self.nodes.step(node.address, node.role, "activate", "finished", "restarted")
                    return
                await self.steps.prepare(node, target)  # again, as a sync that failed may have prepared another target
                if node.address in self.nodes.reports:
                    await self.steps.activate(node, target)
                if node.address in self.nodes.failures:
                    await self.steps.expel(node)

    def _defer(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self.deferred.add(task)
        task.add_done_callback(self.deferred.discard)

    def _cancel_deferred(self) -> None:
        for task in self.deferred:
            task.cancel()


def _not_drained(report: NodeReport) -> NodeFailure:
    """Return why a node is not brought to a target for which all workers would have to wait; it goes on as it was."""
    return NodeFailure(
        report.address,
        "drain",
        f"its worker would have to be restarted, and goes on in what it had: {report.notes[-1].removesuffix(WAITS)}",
        "Delete the futures of the results that it holds, or let its tasks end, and sync again; or restart it all the "
        "same: sync(client, restart='now').",
    )
