"""On the scheduler: decides, for everybody who asks, what the cluster has, and answers what it knows."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from dask_pkgsync.model.announcement import Announcement, announcement_to_wire
from dask_pkgsync.model.comparison import critical_versions
from dask_pkgsync.model.operator_policy import OperatorPolicy
from dask_pkgsync.model.reports.failure import SyncError
from dask_pkgsync.model.reports.sync import NodeReport, SyncReport
from dask_pkgsync.model.wire.protocol import TOPIC
from dask_pkgsync.node.dask_internals import answer_calls
from dask_pkgsync.node.log import log_in_sentences, logger
from dask_pkgsync.node.worker import NAME
from dask_pkgsync.options.scheduler import restart_for_a_release
from dask_pkgsync.scheduler.blobs.providers import BlobProviders
from dask_pkgsync.scheduler.blobs.service import BlobService
from dask_pkgsync.scheduler.clients.admission import Admission
from dask_pkgsync.scheduler.clients.claims import Claim, Claims, FileConflictError, MustWaitError
from dask_pkgsync.scheduler.clients.expiry import Expiry
from dask_pkgsync.scheduler.clients.gate import Gate, mismatch
from dask_pkgsync.scheduler.clients.sessions import Sessions
from dask_pkgsync.scheduler.dask_internals import forget_metadata
from dask_pkgsync.scheduler.log import sentence
from dask_pkgsync.scheduler.rollout.drain import Drain
from dask_pkgsync.scheduler.rollout.nodes import Nodes
from dask_pkgsync.scheduler.rollout.own_node import SchedulerNode
from dask_pkgsync.scheduler.rollout.rollout import Rollout

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from distributed import Scheduler

    from dask_pkgsync.model.reports.failure import NodeFailure
    from dask_pkgsync.model.reports.sync import Outcome
    from dask_pkgsync.model.target import Target


class Controller:
    """One for each scheduler, however often the plugin is registered."""

    def __init__(self, scheduler: Scheduler) -> None:
        log_in_sentences()
        self.scheduler = scheduler
        self.operator_policy = OperatorPolicy()
        self.claims = Claims(scheduler, self.log_event)
        self.sessions = Sessions(scheduler)
        self.expiry = Expiry(scheduler, self.is_unused, self.release_unused)
        self.blob_service = BlobService(BlobProviders(scheduler, self.claims.owners, self.log_event), self.log_event)
        self.drain = Drain(scheduler, self.log_event)
        itself = SchedulerNode(scheduler, self.blob_service)
        self.nodes = Nodes(scheduler, itself.address, self.log_event)
        self.drain.began = lambda node: self.nodes.step(node, "nanny", "drain", "started")
        self.rollout = Rollout(scheduler, itself, self.nodes, self.drain, self.log_event)
        self.gate = Gate(scheduler, self.operator_policy, self.judge_worker, self.is_active, self.log_event)
        self.admission = Admission(self.gate, self.claims, lambda: self.target, lambda: self.is_at_work)
        self.handlers: dict[str, Any] = {}
        """What nodes and clients may ask (`scheduler.handlers`)."""
        self.asked: Target | None = None
        """What clients have asked for, all together; the target has the extra requirements resolved."""
        self.report: SyncReport | None = None
        """What the last sync did, whoever asked for it."""
        self.reports: dict[str, SyncReport] = {}
        """What the last sync of each connected client did."""
        self.registering = 0
        self.is_permanent = False
        """Whether the gate is there by configuration, whatever clients register, release and remove."""

    @property
    def target(self) -> Target | None:
        """What the cluster has."""
        return self.rollout.target

    def listen(self) -> None:
        """Close the gate, and answer nodes and clients from now on."""
        self.gate.close()
        answer_calls(self.scheduler, **self.handlers)

    def announce(self) -> None:
        """Let every client see in the scheduler's metadata what it can expect, before it brings its own."""
        if self.asked is None and not self.is_permanent:
            forget_metadata(self.scheduler, TOPIC)
            return
        target = self.asked.id if self.asked else ""
        told = Announcement(self.operator_policy.mode, target, is_guarded=self.is_permanent)
        self.scheduler.set_metadata(keys=[TOPIC], value=announcement_to_wire(told))

    # -- who comes and goes -------------------------------------------------------------------------------------------

    def is_active(self) -> bool:
        """Whether the plugin is on the scheduler, or on its way there, or the operator's."""
        if self.registering or self._has_plugin:
            return True
        reason = "the plugin was removed from the scheduler without a release"
        self.log_event({"action": "plugin-removed" if self.is_permanent else "gate-open", "reason": reason})
        logger.warning("%s", reason)
        return self.is_permanent

    @property
    def is_at_work(self) -> bool:
        """Whether the gate is the operator's, or a client's plugin is on the scheduler."""
        return self.is_permanent or self._has_plugin

    @property
    def _has_plugin(self) -> bool:
        return any(getattr(plugin, "is_pkgsync", False) for plugin in self.scheduler.plugins.values())

    def client_connected(self, client: str) -> None:
        """Take note of a client."""
        self.sessions.connected(client)
        self.expiry.look()

    def client_disconnected(self, client: str) -> None:
        """Take note that a client has gone."""
        self.sessions.disconnected(client)
        self.expiry.look()

    def is_unused(self) -> bool:
        """Whether there is a target that a client has set, and no client any more."""
        is_set = self.target is not None and self.operator_policy.enforced is None and not self.claims.kept
        return is_set and not self.sessions.anybody and not self.claims.anybody

    def judge_worker(self, message: dict[str, Any]) -> str | None:
        """Say why a worker with a nanny may not register: it was not verified against the target."""
        if self.target is None or self.rollout.adopting or not message.get("nanny"):
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

    async def register(self, asked: Target, client: str) -> SyncReport:
        """Judge a client that asks for a target, close the gate, and sync.

        Raises
        ------
        EnvironmentMismatchError
            If the client differs from the scheduler in a critical package, or from what the operator enforces.
        WarnsOnlyError
            If nothing is ever installed here.
        ConflictError, SyncError
            As for `sync`.
        """
        if self.operator_policy.decides(asked):
            await self.settled()
            return self._as_enforced() or SyncReport("", ())
        if (misfit := mismatch(critical_versions(asked.environment))) is not None:
            raise misfit
        self.registering += 1
        try:
            self.listen()
            return await self.sync(asked, client)
        finally:
            self.registering -= 1
            if self.target is None and not self.is_permanent:
                self.gate.open()

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
        claim = Claim(client, asked)
        while True:
            await self.claims.wait_for_others(claim)
            async with self.rollout.lock:
                self.claims.refuse_if_gone(claim)
                with contextlib.suppress(
                    FileConflictError, MustWaitError
                ):  # then the next round looks at who is in the way
                    return await self._sync(claim)

    async def _sync(self, claim: Claim) -> SyncReport:
        report = await self._sync_or_join(claim)
        known = {name: one for name, one in self.reports.items() if name in self.scheduler.clients}
        self.reports = {**known, claim.client: report}
        return report

    async def _sync_or_join(self, claim: Claim) -> SyncReport:
        plan = await self.claims.combined_with_others(claim)
        asked = plan.target
        before = await self.blob_service.serve(claim)
        if self._is_synced(asked.id):
            self.claims.end(plan.replaced, claim.target.owner)
            return self._join(claim)
        had, known = self.target, self.nodes.begin()
        try:
            self.report = await self.rollout.roll_out(asked, lambda clashes: self.claims.permit(clashes, plan, claim))
        except BaseException:
            if self.target is had:
                self.nodes.restore(known)
                await self.blob_service.serve_again(before)  # late nodes still want the target that is
            raise
        assert self.target is not None  # noqa: S101  # that is what leading is
        self.asked = asked
        self.announce()
        self.claims.end(plan.replaced, claim.target.owner)
        self.claims.remember(claim, replaces=True)
        self.expiry.look()  # the client may have gone meanwhile
        await self.blob_service.keep(self.target)
        if self.nodes.failures:
            raise SyncError(self.nodes.failures, adopted=True)
        return self.report

    async def settled(self) -> None:
        """Wait until nobody changes the target."""
        async with self.rollout.lock:
            return

    async def join(self, client: str, wanted: str, own: dict[str, Any]) -> SyncReport | None:
        """Let a client take part in what the cluster has, if that is just what it wants.

        Parameters
        ----------
        client : str
            Dask's name of it.
        wanted : str
            The name of the target that it wants.
        own : dict
            Fields of `Target` that are its own besides.
        """
        async with self.rollout.lock:
            is_there = client in self.scheduler.clients and self._has_plugin
            if self.asked is None or not is_there or not self._is_synced(wanted):
                return None
            if self.operator_policy.enforced is not None:
                return _unchanged(self.report) if self.report else None
            claim = Claim(client, replace(self.asked, **own))
            await self.blob_service.serve(claim)
            return self._join(claim)

    def _join(self, claim: Claim) -> SyncReport:
        """Remember somebody who wants what the cluster has."""
        assert self.report is not None  # noqa: S101  # a target is adopted together with a report
        self.claims.remember(claim, replaces=False)
        self.expiry.look()
        self.report = _unchanged(self.report)
        return self.report

    def _is_synced(self, asked: str) -> bool:
        if self.asked is None or self.target is None or asked != self.asked.id:
            return False
        return not self.nodes.unverified(self.target) and not self.nodes.waiting()

    def log_event(self, event: dict[str, Any]) -> None:
        """Log an event on the topic ``pkgsync``, and for the weighty ones a line."""
        if (line := sentence(event)) is not None:
            logger.info("%s", line)
        self.scheduler.log_event(TOPIC, event)

    # -- what is known ------------------------------------------------------------------------------------------------

    def note_failure(self, failure: NodeFailure) -> None:
        """Take note of a node that could not come in."""
        logger.warning("a node could not be verified: %s", failure)
        self.nodes.fail(failure, "nanny" if self.nodes.is_nanny(failure.node) else "worker")

    def note_report(self, report: NodeReport) -> None:
        """Take note of a worker that came in by itself."""
        self.nodes.reports[report.address] = report
        self.nodes.step(report.address, report.role, "activate", "finished", report.outcome)

    def last_report(self, client: str) -> SyncReport | None:
        """Return what the last sync of a client did; where the operator decides, how each node is now."""
        return self._as_enforced() or self.reports.get(client, self.report)

    def _as_enforced(self) -> SyncReport | None:
        if self.operator_policy.enforced is None or self.target is None:
            return None
        nodes = self.nodes.status(self.target)
        now = [NodeReport(one.address, one.role, _OUTCOMES.get(one.state, "matched")) for one in nodes]
        return SyncReport(self.target.id, tuple(now))

    # -- a release ----------------------------------------------------------------------------------------------------

    async def release_unused(self) -> bool:
        """Release if still nobody is connected; return whether it was done."""
        async with self.rollout.lock:
            if self.is_unused():
                await self._release()
                return True
            return False

    async def release(self, client: str = "", person: str = "") -> SyncReport:
        """Give every node its base back; the gate stays where it is the operator's."""
        async with self.rollout.lock:
            return await self._release(client, person)

    async def _release(self, client: str = "", person: str = "") -> SyncReport:
        started = monotonic()
        self.asked = None
        self.announce()
        self.claims.forget_all(client, person)
        self.expiry.stop()
        self.drain.begin(restart_for_a_release())
        reports = await self.rollout.release()
        for name, plugin in list(self.scheduler.plugins.items()):
            if getattr(plugin, "is_pkgsync", False) and not getattr(plugin, "is_permanent", False):
                self.scheduler.remove_plugin(name)
        if not self.is_permanent:
            self.gate.open()
        self.report, self.reports = None, {}
        await self.blob_service.drop()
        self.log_event({"action": "released", "by": person})
        return SyncReport("", tuple(reports), monotonic() - started)


_OUTCOMES: dict[str, Outcome] = {"failed": "failed", "left alone": "left alone", "waiting": "waiting"}
"""By the state of a node."""


def _unchanged(report: SyncReport) -> SyncReport:
    """Return the report of a sync that found everything in place."""
    nodes: Iterable[NodeReport] = (
        NodeReport(
            node.address, node.role, "left alone" if node.outcome == "left alone" else "matched", layer=node.layer
        )
        for node in report.nodes
    )
    return SyncReport(report.target, tuple(nodes))
