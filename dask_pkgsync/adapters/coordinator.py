"""On the scheduler: holds the target and leads every node to it, in two phases.

First all nodes *prepare*: they plan, build and verify their layers, and nothing that runs is changed. Only when that
went well somewhere is the target *adopted*: from then on new nodes start in it, and the others *activate* what they
have prepared. A node that fails in either phase leaves the cluster; if all fail in the first, nothing has happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from distributed.protocol.pickle import dumps

from dask_pkgsync.adapters.draining import Draining
from dask_pkgsync.adapters.gate import Gate, own_versions
from dask_pkgsync.adapters.nanny_plugin import NannySync
from dask_pkgsync.adapters.node import expected, failure_of
from dask_pkgsync.adapters.rule import Rule
from dask_pkgsync.adapters.scheduler_node import SchedulerNode
from dask_pkgsync.adapters.settings import node_settings
from dask_pkgsync.adapters.supply import Supply
from dask_pkgsync.adapters.wants import Want, Wants
from dask_pkgsync.adapters.worker_plugin import NAME, WorkerSync
from dask_pkgsync.core.compare import compare, compare_critical, critical_versions
from dask_pkgsync.core.environment import Distribution
from dask_pkgsync.core.errors import (
    LayerError,
    NodeFailure,
    PkgsyncError,
    PolicyError,
    SyncError,
)
from dask_pkgsync.core.fields import Field
from dask_pkgsync.core.messages import environment_from_wire, failure_from_wire, target_to_wire
from dask_pkgsync.core.report import NodeReport, SyncReport, outcome_of, report_from_wire, sync_report_to_wire
from dask_pkgsync.core.status import MATCHES, ClusterStatus, NodeStatus, status_to_wire
from dask_pkgsync.shell.prepare import resolve_extra

if TYPE_CHECKING:
    from collections.abc import Iterable

    from distributed import Scheduler

    from dask_pkgsync.core.messages import Target
    from dask_pkgsync.core.report import Outcome

logger = logging.getLogger("dask_pkgsync")

TOPIC = "pkgsync"
REMEMBERED = 200
"""Nodes that have left and are still told of, for example with the reason why they failed."""

ROUNDS = 5
"""How often nodes that came in while a sync was under way are looked for before what is left is given up."""


@dataclass(frozen=True)
class Node:
    """A process that the coordinator talks to."""

    address: str
    role: str
    """``nanny``, or ``worker`` for one without a nanny."""


class Coordinator:
    """One for each scheduler, however often the plugin is registered."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.rule = Rule()
        self.wants = Wants(scheduler, self.tell)
        self.supply = Supply(scheduler, self.tell)
        self.draining = Draining(scheduler, self.tell)
        self.itself = SchedulerNode(scheduler, self.supply)
        self.gate = Gate(scheduler, self.rule, self.judge_worker, self.is_on_duty, self.tell)
        self.asked = ""
        self.target: Target | None = None
        self.report: SyncReport | None = None
        self.reports: dict[str, NodeReport] = {}
        self.failures: dict[str, NodeFailure] = {}
        self.expelled: set[str] = set()
        self.states: dict[str, NodeStatus] = {}
        self.plugins: dict[str, bytes] = {}
        self.turn = asyncio.Lock()
        self.registering = 0
        self.adopting = False

    def listen(self) -> None:
        """Close the gate, and answer nodes and clients from now on."""
        self.gate.close()
        self.scheduler.handlers.update(
            pkgsync_failed=self.handle_failed,
            pkgsync_report=self.handle_report,
            pkgsync_status=self.handle_status,
            pkgsync_last=self.handle_last,
            pkgsync_release=self.handle_release,
            pkgsync_check=self.handle_check,
            pkgsync_drain=self.draining.handle_drain,
            **self.supply.handlers,
        )

    # -- what the gate asks -------------------------------------------------------------------------------------------

    def is_on_duty(self) -> bool:
        """Whether the plugin is on the scheduler, or on its way there."""
        if self.registering or any(getattr(plugin, "is_pkgsync", False) for plugin in self.scheduler.plugins.values()):
            return True
        self.tell({"action": "gate-open", "reason": "the plugin was removed from the scheduler without a release"})
        return False

    @property
    def is_permanent(self) -> bool:
        """Whether the gate is there by configuration, whatever clients register and release."""
        return any(getattr(plugin, "is_permanent", False) for plugin in self.scheduler.plugins.values())

    def judge_worker(self, message: dict[str, Any]) -> str | None:
        """Say why a worker with a nanny may not register: it was not verified against the target."""
        if self.target is None or self.adopting or not message.get("nanny"):
            # While a target is adopted, whoever comes in is brought to it before the sync ends. Without a nanny a
            # worker is verified by the plugin that it gets with the answer.
            return None
        extra = message.get("extra")
        shown = extra.get(NAME) if isinstance(extra, dict) else None
        if isinstance(shown, dict) and shown.get("target") == self.target.id:
            return None
        return (
            "this worker has not been verified against the environment that the cluster is synced to; "
            "its nanny did not get, or did not carry out, the plugin of dask-pkgsync. Start the node again."
        )

    # -- a sync -------------------------------------------------------------------------------------------------------

    async def sync(self, asked: Target, client: str = "") -> SyncReport:
        """Lead every node to a target.

        Parameters
        ----------
        asked : Target
        client : str
            Who is asked for what the nodes cannot get elsewhere; empty for nobody.

        Raises
        ------
        ConflictError
            If another client's environment is in the way.
        SyncError
            If any node cannot have it.
        """
        want = Want(client, asked)
        await self.wants.wait_for_others(want)
        async with self.turn:
            asked = self.wants.beside_others(want)
            before = await self.supply.serve(client, asked.store)
            if self._is_synced(asked):
                assert self.report is not None  # noqa: S101  # a target is adopted together with a report
                self.wants.remember(want)
                self.report = _unchanged(self.report)
                return self.report
            started = monotonic()
            try:
                target = await self._resolve(asked)
                resolved = monotonic()
                await self._prepare_all(target)
            except BaseException:
                await self.supply.serve_again(before)  # late nodes still want the target that is
                raise
            prepared = monotonic()
            self.adopting = True
            self.draining.begin()
            try:
                await self._activate_all(target)
            finally:  # also after what nobody expected: a worker without a nanny is verified by this plugin alone
                self.scheduler.worker_plugins[NAME] = self.plugins["worker"]
                self.adopting = False
            self.asked = asked.id
            self.wants.remember(want)
            await self.supply.keep(target)
            nodes = tuple(self.reports[address] for address in sorted(self.reports, key=self._order))
            steps = {
                "resolve": resolved - started,
                "prepare": prepared - resolved,
                "activate": monotonic() - prepared,
            }
            self.report = SyncReport(target.id, nodes, monotonic() - started, steps)
            self.tell({"action": "synced", "target": target.id, "failed": sorted(self.failures)})
            if self.failures:
                raise SyncError(self.failures, adopted=True)
            return self.report

    def _is_synced(self, asked: Target) -> bool:
        return asked.id == self.asked and self.target is not None and not self._unverified(self.target)

    def _order(self, address: str) -> tuple[bool, str]:
        return self.reports[address].role != "scheduler", address

    async def _resolve(self, asked: Target) -> Target:
        """Turn the extra requirements into exact versions, once for all nodes."""
        environment = asked.environment
        if not asked.policy.extra:
            return asked
        self._step(self.itself.address, "scheduler", "resolve", "started")
        try:
            pins = await asyncio.to_thread(resolve_extra, asked, node_settings())
        except LayerError as error:
            raise self._not_adopted({self.itself.address: failure_of(self.itself.address, error)}) from None
        self._step(self.itself.address, "scheduler", "resolve", "finished", f"{len(pins)} packages")
        pairs = (pin.split("==", 1) for pin in pins)
        extra = [Distribution(name, version) for name, version in pairs if name not in environment.distributions]
        more = type(environment).of(environment.interpreter, [*environment.distributions.values(), *extra])
        return asked.with_environment(more)

    async def _prepare_all(self, target: Target) -> None:
        """Let every node prepare; raise if none can."""
        self.reports, self.failures, self.expelled, self.states = {}, {}, set(), {}
        self.plugins = {"nanny": dumps(NannySync(target)), "worker": dumps(WorkerSync(target))}
        nodes = self._nodes()
        await asyncio.gather(self._prepare_itself(target), *(self._prepare(node, target) for node in nodes))
        failed = set(self.failures)
        if self.itself.address in failed or (nodes and failed.issuperset(node.address for node in nodes)):
            raise self._not_adopted(self.failures)

    def _not_adopted(self, failures: dict[str, NodeFailure]) -> SyncError:
        for failure in failures.values():
            logger.warning("not synced: %s", failure)
        self.tell({"action": "sync-failed", "failed": sorted(failures)})
        return SyncError(failures)

    async def _activate_all(self, target: Target) -> None:
        """Adopt the target, and bring in every node, also those that came meanwhile."""
        self.target = target
        self.scheduler.nanny_plugins[NAME] = self.plugins["nanny"]
        # Not yet for workers: one whose nanny began to start before this would fail its last look, instead of being
        # brought in below; and one that is in the new target already would be held against the old.
        self.scheduler.worker_plugins.pop(NAME, None)
        await self._activate_itself(target)
        for _ in range(ROUNDS):
            await self._started_nannies()
            nodes = [node for node in self._unverified(target) if node.address not in self.failures]
            if not nodes:
                break
            await asyncio.gather(*(self._bring_in(node, target) for node in nodes))
        while unverified := self._unverified(target):
            for node in unverified:
                await self._expel(node)
        # Nothing is awaited from here to the end of the adoption, after which only the verified may register.

    async def _bring_in(self, node: Node, target: Target) -> None:
        """Activate a node, which is prepared first if it came too late for that."""
        if node.address not in self.reports:
            await self._prepare(node, target)
        if node.address in self.reports:
            await self._activate(node, target)

    async def _started_nannies(self) -> None:
        """Wait for the nannies that began to start before the plugin was there for them."""
        condition = self.scheduler._starting_nannies_cond  # noqa: SLF001  # no public way to know
        async with condition:
            await condition.wait_for(lambda: not self.scheduler._starting_nannies)  # noqa: SLF001

    def _nodes(self) -> list[Node]:
        workers = self.scheduler.workers.values()
        return sorted(
            {Node(ws.nanny, "nanny") if ws.nanny else Node(ws.address, "worker") for ws in workers},
            key=lambda node: node.address,
        )

    def _is_nanny(self, address: str) -> bool:
        return any(ws.nanny == address for ws in self.scheduler.workers.values())

    def _unverified(self, target: Target) -> list[Node]:
        """Return the nodes whose workers neither came with the target nor were brought to it."""
        found = set()
        for ws in self.scheduler.workers.values():
            node = Node(ws.nanny, "nanny") if ws.nanny else Node(ws.address, "worker")
            shown = (ws.extra or {}).get(NAME) or {}
            report = self.reports.get(node.address)
            brought = report is not None and self.states[node.address].state in (MATCHES, "left alone")
            if shown.get("target") != target.id and not brought:
                found.add(node)
        return sorted(found, key=lambda node: node.address)

    # -- one node -----------------------------------------------------------------------------------------------------

    async def _prepare(self, node: Node, target: Target) -> None:
        self._step(node.address, node.role, "prepare", "started")
        try:
            answer = await self._ask_to_prepare(node, target)
        except Exception as error:  # noqa: BLE001  # lost, or whatever the node raised while it unpickled our plugin
            self._fail(_lost(node.address, "prepare", error), node.role)
            return
        if isinstance(answer, NodeFailure):
            self._fail(answer, node.role)
            return
        self.reports[node.address] = answer
        self._step(node.address, node.role, "prepare", "finished", _summary(answer))

    async def _ask_to_prepare(self, node: Node, target: Target) -> NodeReport | NodeFailure:
        peer = self.scheduler.rpc(node.address)
        add = peer.plugin_add if node.role == "nanny" else getattr(peer, "plugin-add")
        reply = await add(plugin=self.plugins[node.role], name=NAME)
        if reply["status"] != "OK":
            raise PkgsyncError(f"the plugin could not be set up there: {reply['exception_text']}")
        answer = await peer.pkgsync_prepare(target=target_to_wire(target))
        return failure_from_wire(answer["failure"]) if "failure" in answer else report_from_wire(answer["report"])

    async def _activate(self, node: Node, target: Target) -> None:
        started = monotonic()
        self._step(node.address, node.role, "activate", "started")
        try:
            answer = await self._ask_to_activate(node, target)
        except Exception as error:  # noqa: BLE001  # its worker could not start in the layer, and the nanny closed itself
            answer = _lost(node.address, "restart", error)
        finally:
            self.draining.done(node.address)
        told = self.failures.get(node.address)  # by the worker itself, which knows better than its nanny
        match told or answer:
            case NodeFailure() as failure:
                self._fail(failure, node.role)
            case (outcome, detail):
                report = self.reports[node.address]
                self.reports[node.address] = replace(
                    report,
                    outcome="left alone" if report.outcome == "left alone" else outcome,
                    seconds=report.seconds + monotonic() - started,
                    notes=(*report.notes, detail) if detail else report.notes,
                )
                self._step(node.address, node.role, "activate", "finished", self.reports[node.address].outcome)

    async def _ask_to_activate(self, node: Node, target: Target) -> tuple[Outcome, str] | NodeFailure:
        answer = await self.scheduler.rpc(node.address).pkgsync_activate(target=target.id)
        if "failure" in answer:
            return failure_from_wire(answer["failure"])
        return outcome_of(answer["outcome"]), Field(answer["detail"], "detail").long_text()

    async def _prepare_itself(self, target: Target) -> None:
        here = self.itself.address
        self._step(here, "scheduler", "prepare", "started")
        try:
            report = await self.itself.prepare(target)
        except Exception as error:  # noqa: BLE001  # also what nobody expected must not leave the others half-way
            self._fail(failure_of(here, expected(error)), "scheduler")
            return
        self.reports[here] = report
        self._step(here, "scheduler", "prepare", "finished", _summary(report))

    async def _activate_itself(self, target: Target) -> None:
        here = self.itself.address
        self._step(here, "scheduler", "activate", "started")
        report = self.reports[here] = await self.itself.activate(target, self.reports[here])
        self._step(here, "scheduler", "activate", "finished", report.outcome)

    async def _expel(self, node: Node) -> None:
        """Take a failed node out: what its workers hold goes to their peers first, if there are any."""
        failure = self.failures.setdefault(
            node.address, NodeFailure(node.address, "activate", "its worker was never verified", "Start it again.")
        )
        self.expelled.add(node.address)
        self.tell({"action": "node-expelled", "node": node.address, "reason": str(failure)})
        logger.warning("out of the cluster: %s", failure)
        workers = [ws.address for ws in self.scheduler.workers.values() if node.address in (ws.nanny, ws.address)]
        with contextlib.suppress(Exception):  # without peers there is nobody to take it
            await self.scheduler.retire_workers(workers=workers, close_workers=False, remove=False)
        with contextlib.suppress(OSError):
            if node.role == "nanny":
                await self.scheduler.rpc(node.address).terminate(reason="pkgsync-failed")
            else:
                await self.scheduler.rpc(node.address).terminate(reason="pkgsync-failed", nanny=False)
        for address in workers:
            await self.scheduler.remove_worker(address=address, stimulus_id="pkgsync-failed", expected=True)

    def _fail(self, failure: NodeFailure, role: str) -> None:
        self.failures[failure.node] = failure
        self.reports.pop(failure.node, None)
        self._step(failure.node, role, failure.step, "failed", failure.problem)

    # -- what is told -------------------------------------------------------------------------------------------------

    def _step(self, address: str, role: str, step: str, state: str, detail: str = "") -> None:
        shown = {
            ("prepare", "started"): "preparing",
            ("prepare", "finished"): "prepared",
            ("activate", "started"): "activating",
            ("activate", "finished"): MATCHES,
        }.get((step, state), "failed" if state == "failed" else "preparing")
        self.states[address] = NodeStatus(address, role, shown, detail)
        self._forget_the_gone()
        event = {"action": "step", "node": address, "role": role, "step": step, "state": state, "detail": detail}
        self.tell(event)

    def _forget_the_gone(self) -> None:
        """Bound what is remembered of nodes that left: an adaptive cluster sees thousands of them."""
        if len(self.states) <= 2 * len(self.scheduler.workers) + REMEMBERED:
            return
        present = {self.itself.address, *(node.address for node in self._nodes())}
        gone = [address for address in self.states if address not in present]
        for address in gone[: -REMEMBERED // 2]:
            self.states.pop(address, None)
            self.reports.pop(address, None)
            self.failures.pop(address, None)

    def tell(self, event: dict[str, Any]) -> None:
        """Log an event on the topic ``pkgsync``."""
        self.scheduler.log_event(TOPIC, event)

    # -- what nodes and clients ask -----------------------------------------------------------------------------------

    async def handle_failed(self, failure: object) -> None:
        """Take note of a node that could not come in."""
        found = failure_from_wire(failure)
        logger.warning("a node could not be verified: %s", found)
        self._fail(found, "nanny" if self._is_nanny(found.node) else "worker")

    async def handle_report(self, report: object, target: str) -> None:
        """Take note of a worker without a nanny that came in by itself."""
        found = report_from_wire(report)
        if self.target is not None and target == self.target.id:
            self.reports[found.address] = found
            self._step(found.address, found.role, "activate", "finished", found.outcome)

    async def handle_status(self) -> dict[str, Any]:
        """Return every node against the target."""
        target = self.target.id if self.target else ""
        unverified = set(self._unverified(self.target)) if self.target else set(self._nodes())
        here = self.states.get(self.itself.address, NodeStatus(self.itself.address, "scheduler", "unknown"))
        nodes = [here]
        for node in self._nodes():
            known = self.states.get(node.address)
            if node in unverified or known is None:
                state = "unknown" if node in unverified else MATCHES
                known = known if known and node in unverified else NodeStatus(node.address, node.role, state)
            nodes.append(known)
        present = {node.address for node in nodes}
        nodes += [state for state in self.states.values() if state.state == "failed" and state.address not in present]
        return status_to_wire(ClusterStatus(target, tuple(nodes)))

    async def handle_last(self) -> dict[str, Any] | None:
        """Return the report of the last sync."""
        return sync_report_to_wire(self.report) if self.report else None

    async def handle_check(self, environment: object) -> str:
        """Return how an environment differs from what this cluster has or accepts; an empty text if it does not."""
        found = environment_from_wire(environment)
        target = self.rule.enforced or self.target
        if target is None:
            comparison = compare_critical(own_versions(), critical_versions(found), **_LABELS)
        else:
            comparison = compare(target.environment, found, target.policy, **_LABELS)
        return str(comparison) if comparison else ""

    async def handle_release(self) -> dict[str, Any]:
        """Give every node its base back and open the gate: the orderly way back.

        Raises
        ------
        PolicyError
            If the operator has configured what the cluster is to have.
        """
        if self.rule.enforced is not None:
            raise PolicyError("this cluster has what its operator configured (pkgsync.mode is enforce)")
        async with self.turn:
            started = monotonic()
            self.target, self.asked = None, ""
            self.wants.forget_all()
            self.scheduler.nanny_plugins.pop(NAME, None)
            self.scheduler.worker_plugins.pop(NAME, None)
            nodes = self._nodes()
            self.draining.begin()
            reports = await asyncio.gather(*(self._release(node) for node in nodes))
            itself = self.itself.release()
            for name, plugin in list(self.scheduler.plugins.items()):
                if getattr(plugin, "is_pkgsync", False) and not getattr(plugin, "is_permanent", False):
                    self.scheduler.remove_plugin(name)
            if not self.is_permanent:
                self.gate.open()
            self.states, self.reports, self.report = {}, {}, None
            await self.supply.drop()
            self.tell({"action": "released"})
            return sync_report_to_wire(SyncReport("", (itself, *reports), monotonic() - started))

    async def _release(self, node: Node) -> NodeReport:
        peer = self.scheduler.rpc(node.address)
        try:
            answer = await peer.pkgsync_release()
            await getattr(peer, "plugin_remove" if node.role == "nanny" else "plugin-remove")(name=NAME)
        except OSError as error:
            return NodeReport(node.address, node.role, "failed", notes=(str(error),))
        finally:
            self.draining.done(node.address)
        if "failure" in answer:
            return NodeReport(node.address, node.role, "failed", notes=(str(failure_from_wire(answer["failure"])),))
        notes = (answer["detail"],) if answer["detail"] else ()
        return NodeReport(node.address, node.role, outcome_of(answer["outcome"]), notes=notes)


_LABELS = {"expected_label": "cluster", "found_label": "client"}


def _lost(node: str, step: str, error: Exception) -> NodeFailure:
    problem = f"the node was lost or refused: {type(error).__name__}: {error}"[:2000]
    return NodeFailure(node, step, problem, "Look into the log of this node.")


def _summary(report: NodeReport) -> str:
    if report.outcome == "left alone":
        return "this process is your own: nothing to do"
    counts = {"to install": report.installed, "to replace": report.replaced, "to hide": report.hidden}
    return ", ".join(f"{len(steps)} {what}" for what, steps in counts.items() if steps) or "matches"


def _unchanged(report: SyncReport) -> SyncReport:
    """Return the report of a sync that found everything in place."""
    nodes: Iterable[NodeReport] = (
        NodeReport(
            node.address, node.role, "left alone" if node.outcome == "left alone" else "matched", layer=node.layer
        )
        for node in report.nodes
    )
    return SyncReport(report.target, tuple(nodes))
