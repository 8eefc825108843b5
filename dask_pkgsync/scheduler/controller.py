"""The controller: holds the cluster's target, decides on syncs and releases, and reports the state of the nodes."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from dask_pkgsync.model.announcement import Announcement, announcement_to_wire
from dask_pkgsync.model.comparison import critical_versions
from dask_pkgsync.model.operator_policy import OperatorPolicy
from dask_pkgsync.model.relaunch import lesser
from dask_pkgsync.model.reports.failure import SyncError
from dask_pkgsync.model.reports.status import LEFT_ALONE
from dask_pkgsync.model.reports.sync import NodeReport, SyncReport
from dask_pkgsync.model.wire.protocol import TOPIC
from dask_pkgsync.model.wire.texts import sendable
from dask_pkgsync.node.dask_internals import answer_calls
from dask_pkgsync.node.log import log_in_sentences, logger
from dask_pkgsync.node.worker import NAME
from dask_pkgsync.options.scheduler import may_relaunch, restart_for_a_release
from dask_pkgsync.scheduler.blobs.providers import BlobProviders
from dask_pkgsync.scheduler.blobs.service import BlobService
from dask_pkgsync.scheduler.clients.acquaintances import Acquaintances
from dask_pkgsync.scheduler.clients.admission import Admission
from dask_pkgsync.scheduler.clients.claims import Claim, Claims, FileConflictError, MustWaitError
from dask_pkgsync.scheduler.clients.expiry import Expiry
from dask_pkgsync.scheduler.clients.gate import Gate, mismatch
from dask_pkgsync.scheduler.clients.sessions import Sessions
from dask_pkgsync.scheduler.dask_internals import forget_metadata
from dask_pkgsync.scheduler.history import History
from dask_pkgsync.scheduler.log import sentence
from dask_pkgsync.scheduler.possessions import obstacles
from dask_pkgsync.scheduler.relaunch import Relauncher
from dask_pkgsync.scheduler.rollout.drain import Drain
from dask_pkgsync.scheduler.rollout.nodes import Nodes
from dask_pkgsync.scheduler.rollout.own_node import SchedulerNode
from dask_pkgsync.scheduler.rollout.rollout import Rollout

if TYPE_CHECKING:
    from typing import Any

    from distributed import Scheduler

    from dask_pkgsync.model.reports.failure import NodeFailure
    from dask_pkgsync.model.reports.sync import Outcome
    from dask_pkgsync.model.target import Target


class Controller:
    """Controls the environment of one cluster. A scheduler has one, however often the plugin is registered."""

    def __init__(self, scheduler: Scheduler) -> None:
        log_in_sentences()
        self.scheduler = scheduler
        self.operator_policy = OperatorPolicy()
        self.history = History()
        self.claims = Claims(scheduler, self.log_event)
        self.sessions = Sessions(scheduler)
        self.expiry = Expiry(scheduler, self.is_unused, self.release_unused)
        self.blob_service = BlobService(BlobProviders(scheduler, self.claims.owners, self.log_event), self.log_event)
        self.drain = Drain(scheduler, self.log_event)
        own_node = SchedulerNode(scheduler, self.blob_service)
        self.operator_policy.address = lambda: own_node.address
        self.nodes = Nodes(scheduler, own_node.address, self.log_event)
        self.drain.on_begin = lambda node: self.nodes.step(node, "nanny", "drain", "started")
        self.rollout = Rollout(scheduler, own_node, self.nodes, self.drain, self.log_event)
        self.acquaintances = Acquaintances(self.has_in_force)
        self.gate = Gate(
            scheduler, self.operator_policy, self.judge_worker, self.is_active, self.log_event, self.acquaintances
        )
        self.admission = Admission(self.gate, self.claims, lambda: self.target, lambda: self.is_at_work)
        self.pages: Any = None
        """What shows this controller on the scheduler's HTTP server (`scheduler.pages`); set where it is made."""
        self.relauncher = Relauncher(
            scheduler, self.operator_policy, self.rollout, self.blob_service, lambda: self.asked
        )
        self.handlers: dict[str, Any] = {}
        """The handlers that nodes and clients may call (`scheduler.handlers`), by name."""
        self.asked: Target | None = None
        """The clients' combined claims before extra requirements are resolved; `target` has them resolved."""
        self.report: SyncReport | None = None
        """The report of the last sync, of any client."""
        self.reports: dict[str, SyncReport] = {}
        """The report of each connected client's last sync, by Dask's name of the client."""
        self.registering = 0
        """How many clients are registering their plugin right now."""
        self.is_permanent = False
        """Whether the operator has configured the gate: it stays, whatever clients register, release or remove."""

    @property
    def target(self) -> Target | None:
        """The target that new nodes start in; None while the cluster has its base."""
        return self.rollout.target

    def listen(self) -> None:
        """Close the gate, and answer the calls of nodes and clients from now on."""
        self.gate.close()
        answer_calls(self.scheduler, **self.handlers)

    def announce(self) -> None:
        """Write mode and target into the scheduler's metadata; a client reads them before it registers its plugin."""
        if self.operator_policy.has_critical_levels:  # these packages are compared with the target's
            self.acquaintances.forget()
        if self.asked is None and not self.is_permanent:
            forget_metadata(self.scheduler, TOPIC)
            return
        target = self.asked.id if self.asked else ""
        announcement = Announcement(self.operator_policy.mode, target, is_guarded=self.is_permanent)
        self.scheduler.set_metadata(keys=[TOPIC], value=announcement_to_wire(announcement))

    def has_in_force(self, asked: str) -> bool:
        """Whether a client that asks for a target of this name has nothing to sync, if it was let in.

        That is so if the cluster has the target, or one that the operator enforces on all clients.
        """
        if self.asked is None or self.operator_policy.only_warns:
            return False
        return self.operator_policy.enforced is not None or asked == self.asked.id

    # -- clients and workers connect and disconnect -------------------------------------------------------------------

    def is_active(self) -> bool:
        """Whether the gate judges: the plugin is registered or registering, or the operator has configured the gate.

        Where the plugin was removed without a release, this publishes an event and logs a warning.
        """
        if self.registering or self._has_plugin:
            return True
        reason = "the plugin was removed from the scheduler without a release"
        self.log_event({"action": "plugin-removed" if self.is_permanent else "gate-open", "reason": reason})
        logger.warning("%s", reason)
        return self.is_permanent

    @property
    def is_at_work(self) -> bool:
        """Whether the operator has configured the gate, or the plugin is on the scheduler."""
        return self.is_permanent or self._has_plugin

    @property
    def _has_plugin(self) -> bool:
        return any(getattr(plugin, "is_pkgsync", False) for plugin in self.scheduler.plugins.values())

    def remove_registered_plugins(self) -> None:
        """Remove the plugins that clients have registered; what the operator has configured stays."""
        for name, plugin in list(self.scheduler.plugins.items()):
            if getattr(plugin, "is_pkgsync", False) and not getattr(plugin, "is_permanent", False):
                self.scheduler.remove_plugin(name)

    def client_connected(self, client: str) -> None:
        """Note that a client has connected."""
        self.sessions.connected(client)
        self.expiry.update()

    def client_disconnected(self, client: str) -> None:
        """Note that a client has disconnected."""
        self.sessions.disconnected(client)
        self.expiry.update()

    def is_unused(self) -> bool:
        """Whether the target may be released: a client set it, no client is connected, and none asked to keep it."""
        is_set = self.target is not None and self.operator_policy.enforced is None and not self.claims.kept
        return is_set and not self.sessions.anybody and not self.claims.anybody

    def judge_worker(self, message: dict[str, Any]) -> str | None:
        """Return why a worker may not register, because it was not verified against the target; None if it may."""
        if self.target is None or self.rollout.adopting or not message.get("nanny"):
            # While a target is being adopted, the rollout brings every new worker to it before the sync ends. A worker
            # without a nanny is verified by the plugin that the scheduler sends with its answer to the registration.
            return None
        extra = message.get("extra")
        presented = extra.get(NAME) if isinstance(extra, dict) else None
        if isinstance(presented, dict) and presented.get("target") == self.target.id:
            return None
        return (
            "this worker has not been verified against the environment that the cluster is synced to; "
            "its nanny did not receive the plugin of dask-pkgsync, or did not run it. Start the nanny again."
        )

    # -- a sync -------------------------------------------------------------------------------------------------------

    async def register(self, asked: Target, client: str) -> SyncReport:
        """Judge the client that asks for a target, close the gate, and sync.

        Raises
        ------
        EnvironmentMismatchError
            If the client differs from the scheduler in a critical package, or from the environment that the operator
            enforces.
        WarnsOnlyError
            If the operator has configured that nothing is installed on this cluster (mode ``warn``).
        ConflictError, SyncError
            As for `sync`.
        """
        if self.operator_policy.decides(asked):
            return await self.mend() or self._enforced_report() or SyncReport("", ())
        if (misfit := mismatch(critical_versions(asked.environment), self.rollout.own_node.address)) is not None:
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
        """Bring every node to a target.

        Parameters
        ----------
        asked : Target
        client : str
            Dask's name of the client that provides packages which nodes cannot get elsewhere; empty: no client does.

        Raises
        ------
        ConflictError
            If another connected client's environment conflicts with the target.
        SyncError
            If any node cannot be brought to the target.
        """
        claim = Claim(client, asked)
        while True:
            await self.claims.wait_for_others(claim)
            async with self.rollout.lock:
                self.claims.refuse_if_gone(claim)
                self.listen()  # again: a release may have opened the gate while this sync waited for the lock
                # After either error the next round finds the other client that the claim conflicts with.
                with contextlib.suppress(FileConflictError, MustWaitError):
                    return await self._sync(claim)

    async def _sync(self, claim: Claim) -> SyncReport:
        report = await self._sync_or_join(claim)
        await self.gate.get_acquainted(claim.client)
        connected = {name: earlier for name, earlier in self.reports.items() if name in self.scheduler.clients}
        self.reports = {**connected, claim.client: report}
        return report

    async def _sync_or_join(self, claim: Claim) -> SyncReport:
        plan = await self.claims.combined_with_others(claim)
        asked = plan.target
        if self.relauncher.is_relaunched:  # nodes of the old image that join must be relaunched, whoever syncs
            asked = replace(asked, relaunch="idle")
        else:  # what the operator allows is the most for nodes that join, too
            asked = replace(asked, relaunch=lesser(asked.relaunch, may_relaunch()))
        blobs_before = await self.blob_service.serve(claim)
        changes = await self.rollout.inspect() if self._is_synced(asked.id) else {}
        if self._is_synced(asked.id) and not changes:
            self.claims.end(plan.replaced, claim.target.owner)
            return self._join(claim)
        target_before, nodes_before = self.target, self.nodes.begin()
        try:
            self.report = await self._roll_out(asked, lambda clashes: self.claims.permit(clashes, plan, claim), changes)
        except BaseException:
            if self.target is target_before:
                self.nodes.restore(nodes_before)
                await self.blob_service.serve_again(blobs_before)  # nodes that join later still need its packages
            raise
        assert self.target is not None  # noqa: S101  # a rollout that returns has set it
        self.asked = asked
        self.announce()
        self.claims.end(plan.replaced, claim.target.owner)
        self.claims.remember(claim, replaces=True)
        self.expiry.update()  # the client may have disconnected during the rollout
        await self.blob_service.keep(self.target)
        if self.nodes.failures:
            raise SyncError(self.nodes.failures, adopted=True)
        return self.report

    async def _roll_out(self, *arguments: Any) -> SyncReport:
        """Roll a target out (`Rollout.roll_out`), and note in the history how that ends."""
        self.history.begin()
        report = None
        try:
            report = await self.rollout.roll_out(*arguments)
        finally:
            self.history.end(report, self.nodes.failures)
        return report

    async def mend(self) -> SyncReport | None:
        """Bring nodes whose layer or base has changed to the target again, after any other sync or release has ended.

        Returns
        -------
        SyncReport or None
            None if nothing has changed.
        """
        async with self.rollout.lock:
            if (asked := self.asked) is None or not (changes := await self.rollout.inspect()):
                return None
            nodes_before = self.nodes.begin()
            try:
                self.report = await self._roll_out(asked, _permit_all, changes)
            except BaseException:
                self.nodes.restore(nodes_before)
                raise
            return self.report

    async def join(self, client: str, wanted: str, own: dict[str, Any], fingerprint: str = "") -> SyncReport | None:
        """Add the claim of a client whose target the cluster already has; return None where the cluster has not.

        Where the operator enforces a target, a client joins it with whatever the gate has let in.

        Parameters
        ----------
        client : str
            Dask's name of the client.
        wanted : str
            Name (`Target.id`) of the target that the client asks for.
        own : dict
            The fields of `Target` that its name does not cover, as this client has set them.
        fingerprint : str
            That of the environment that the client has presented.
        """
        async with self.rollout.lock:
            can_join = client in self.scheduler.clients and self._has_plugin
            if self.asked is None or not can_join:
                return None
            if self.operator_policy.enforced is not None and fingerprint in self.acquaintances.environments:
                wanted = self.asked.id
            if not self._is_synced(wanted) or await self.rollout.inspect():
                return None
            if self.operator_policy.enforced is not None:
                return self._unchanged()
            claim = Claim(client, replace(self.asked, **own))
            await self.blob_service.serve(claim)
            return self._join(claim)

    def _join(self, claim: Claim) -> SyncReport:
        """Remember the claim of a client whose target the cluster already has; return a report of no changes."""
        self.claims.remember(claim, replaces=False)
        self.expiry.update()
        self.report = self._unchanged()
        return self.report

    def _unchanged(self) -> SyncReport:
        """Return the report of a sync that found every connected node in the target."""
        assert self.target is not None  # noqa: S101  # only a client that asks for the target in force joins it
        reports = []
        for node in self.nodes.status(self.target):
            if node.state != "failed":
                outcome: Outcome = "left alone" if node.state == LEFT_ALONE else "matched"
                last = self.nodes.reports.get(node.address) or NodeReport(node.address, node.role)
                report = NodeReport(node.address, node.role, outcome, layer=last.layer, left_out=last.left_out)
                reports.append(report)
        return SyncReport(self.target.id, tuple(reports), substitutions=self.rollout.substitutions)

    def _is_synced(self, asked: str) -> bool:
        """Whether a target of this name has been asked for and every node is verified against it."""
        if self.asked is None or self.target is None or asked != self.asked.id:
            return False
        return not self.nodes.unverified(self.target) and not self.nodes.waiting()

    def log_event(self, event: dict[str, Any]) -> None:
        """Publish an event on the topic ``pkgsync``, tell guests, and log a line for an important one."""
        for guest in self.blob_service.providers.guests.values():
            guest.send({"state": "event", "event": sendable(event)})
        if (line := sentence(event)) is not None:
            logger.info("%s", line)
        self.history.note(event)
        self.scheduler.log_event(TOPIC, sendable(event))

    # -- reports of nodes ---------------------------------------------------------------------------------------------

    def note_failure(self, failure: NodeFailure) -> None:
        """Note that a node could not be verified."""
        logger.warning("a node could not be verified against the target: %s", failure)
        self.nodes.fail(failure, "nanny" if self.nodes.is_nanny(failure.node) else "worker")

    def note_report(self, report: NodeReport) -> None:
        """Note that a worker without a nanny has prepared and activated the target by itself."""
        self.nodes.reports[report.address] = report
        self.nodes.step(report.address, report.role, "activate", "finished", report.outcome)

    def last_report(self, client: str) -> SyncReport | None:
        """Return the report of a client's last sync, or the present state of the nodes where a target is enforced."""
        return self._enforced_report() or self.reports.get(client, self.report)

    def _enforced_report(self) -> SyncReport | None:
        """Return the present state of every node as a report, where the operator enforces a target."""
        if self.operator_policy.enforced is None or self.target is None:
            return None
        nodes = self.nodes.status(self.target)
        reports = [NodeReport(node.address, node.role, _OUTCOMES.get(node.state, "matched")) for node in nodes]
        return SyncReport(self.target.id, tuple(reports), substitutions=self.rollout.substitutions)

    # -- a release ----------------------------------------------------------------------------------------------------

    async def release_unused(self) -> bool:
        """Release the target if it is still unused; return whether that was done."""
        async with self.rollout.lock:
            if not self.is_unused():
                return False
            if not self.relauncher.is_relaunched:
                await self._release()
                return True
            if not obstacles(self.scheduler):
                await self.relauncher.release("")
                return True
            self.expiry.update()
            return False

    async def release(self, client: str = "", person: str = "") -> SyncReport:
        """Give every node its base back; open the gate, unless the operator has configured it.

        Parameters
        ----------
        client : str
            Dask's name of the client that asks for the release; empty if none does.
        person : str
            The name of that client's user, for the messages to the other clients.
        """
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
        self.remove_registered_plugins()
        if not self.is_permanent:
            self.gate.open()
        self.report, self.reports = None, {}
        await self.blob_service.drop()
        self.log_event({"action": "released", "by": person})
        return SyncReport("", tuple(reports), monotonic() - started)


_OUTCOMES: dict[str, Outcome] = {"failed": "failed", "left alone": "left alone", "waiting": "waiting"}
"""The outcome that a report shows for a node, by the node's state; ``matched`` for all other states."""


async def _permit_all(_clashes: object) -> None:
    """Permit the clashes of a target that the operator has set, or that the cluster has already."""
