"""The scheduler's handlers for nodes and clients: they check the message, call the controller, and write the answer.

Each handler ignores arguments that it does not know, as another release of dask-pkgsync may send them.
"""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING

from distributed import Status

from dask_pkgsync.model.errors import PkgsyncError, PolicyError, WarnsOnlyError
from dask_pkgsync.model.reports.answer import error_to_wire
from dask_pkgsync.model.reports.failure import failure_from_wire
from dask_pkgsync.model.reports.status import ClusterStatus, status_to_wire
from dask_pkgsync.model.reports.sync import report_from_wire, sync_report_to_wire
from dask_pkgsync.model.resolutions.resolution import resolution_from_wire, resolution_to_wire
from dask_pkgsync.model.target import own_from_wire, target_from_wire, target_to_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import ONLY_WARNS
from dask_pkgsync.model.wire.releases import THIS, UNTOLD, ReleaseMismatchError
from dask_pkgsync.node.log import logger
from dask_pkgsync.scheduler.guest import Guest

if TYPE_CHECKING:
    from typing import Any

    from distributed.comm.core import Comm

    from dask_pkgsync.scheduler.controller import Controller

_NAME = 500
"""The most characters that Dask's name of a client may have."""


class Handlers:
    """Answers the calls of nodes and clients for one controller."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller

    def by_name(self) -> dict[str, Any]:
        """Return every handler, by the name under which nodes and clients call it."""
        return {
            "pkgsync_parcel": self.handle_parcel,
            "pkgsync_resolved": self.handle_resolved,
            "pkgsync_failed": self.handle_failed,
            "pkgsync_report": self.handle_report,
            "pkgsync_status": self.handle_status,
            "pkgsync_last": self.handle_last,
            "pkgsync_join": self.handle_join,
            "pkgsync_sync": self.handle_sync,
            "pkgsync_target": self.handle_target,
            "pkgsync_release": self.handle_release,
            "pkgsync_relaunch": self.handle_relaunch,
            "pkgsync_relaunched": self.handle_relaunched,
            "pkgsync_returned": self.handle_returned,
            "pkgsync_check": self.controller.admission.handle_check,
            "pkgsync_drain": self.controller.drain.handle_drain,
            **self.controller.blob_service.handlers,
        }

    # -- nodes --------------------------------------------------------------------------------------------------------

    async def handle_parcel(self, role: object, target: object, with_source: object = False, **_: object) -> Any:  # noqa: FBT002  # as nodes send it
        """Return what a node needs to become the plugin that it has a reference to; empty if there is no target."""
        wanted = Field(role, "role").text(20), Field(target, "target").text(100)
        return await self.controller.rollout.steps.content(*wanted, with_source=with_source is True)

    async def handle_resolved(self, target: object, resolution: object, **_: object) -> dict[str, Any]:
        """Keep what the first node of its platform has resolved of a target; return what is kept."""
        name = Field(target, "target").text(100)
        resolved = await asyncio.to_thread(resolution_from_wire, resolution)
        return resolution_to_wire(self.controller.rollout.steps.resolutions.keep(name, resolved))

    async def handle_failed(self, failure: object, **_: object) -> None:
        """Note that a node could not be verified."""
        self.controller.note_failure(failure_from_wire(failure))

    async def handle_report(self, report: object, target: str, **_: object) -> None:
        """Note that a worker without a nanny has prepared and activated the target by itself."""
        current = self.controller.target
        if current is not None and target == current.id:
            self.controller.note_report(report_from_wire(report))

    # -- clients ------------------------------------------------------------------------------------------------------

    async def handle_sync(self, target: object, client: object, **_: object) -> dict[str, Any] | None:
        """Sync for a client that has not registered the plugin.

        Such a client has another release of dask-pkgsync, or the operator has configured the gate.

        Returns
        -------
        dict or None
            ``report``, or ``error`` (`model.reports.answer`); None where the scheduler has no plugin any more, so that
            the client has to register its own.
        """
        if not self.controller.is_at_work:
            return None
        name = Field(client, "client").text(_NAME)
        try:
            self._refuse_unknown(name)
            asked = await asyncio.to_thread(target_from_wire, target)
            report = await self.controller.register(asked, name)
        except PkgsyncError as error:
            return {"error": error_to_wire(error)}
        if not self.controller.is_at_work:  # somebody has released the cluster while this sync waited for its turn
            return None
        return {"report": sync_report_to_wire(report)}

    def _refuse_unknown(self, client: str) -> None:
        """Raise unless a client of this name is connected: nobody else has a claim, or could be told anything."""
        if client not in self.controller.scheduler.clients:
            raise PkgsyncError(f"no client {client[:50]!r} is connected to this scheduler: connect, and sync again")

    async def handle_relaunch(self, comm: Comm, target: object, client: object = "", **_: object) -> Any:
        """Execute all processes of the cluster anew in a target; the client reads how it goes from its connection.

        Each message has ``state``: ``event`` (with ``event``), ``leaves`` (the last one, with the relaunch's name),
        or ``refused`` (with ``error``, as `model.reports.answer` reads it); or it has ``op`` and asks for wheels.

        Parameters
        ----------
        comm : Comm
        target : dict
        client : str
            Dask's name of the client of who asks, if there is one: its connection may be lost.
        """
        guest = Guest(comm, Field(client, "client").text(_NAME))

        async def work() -> None:
            try:
                asked = await asyncio.to_thread(target_from_wire, target)
                await self.controller.relauncher.relaunch(asked, guest)
            except PkgsyncError as error:
                guest.send({"state": "refused", "error": error_to_wire(error)})

        try:
            await guest.serve(work)
        except OSError:
            logger.warning("the cluster is not relaunched: its client has gone, and nothing was changed")
        return Status.dont_reply

    async def handle_relaunched(self, relaunch: object, **_: object) -> dict[str, Any]:
        """Return how a relaunch went so far (`Relauncher.report`)."""
        return self.controller.relauncher.report(Field(relaunch, "relaunch").text(100))

    async def handle_returned(self, token: object, node: object = "", failure: object = "", **_: object) -> None:
        """Note that a node has returned, or why not."""
        self.controller.relauncher.note_returned(
            Field(token, "token").text(100), Field(node, "node").text(), Field(failure, "failure").long_text()
        )

    async def handle_join(
        self, client: object, target: object, rest: object, fingerprint: object = "", **_: object
    ) -> dict[str, Any] | None:
        """Add the claim of a client whose target the cluster already has; return None where the cluster has not.

        Parameters
        ----------
        client : str
            Dask's name of the client.
        target : str
            Name (`Target.id`) of the target that the client asks for.
        rest : dict
            The fields of the target that its name does not cover (`model.target.own_to_wire`).
        fingerprint : str
            That of the environment that the client has presented when it connected.
        """
        if self.controller.operator_policy.only_warns:
            return ONLY_WARNS
        name, wanted = Field(client, "client").text(_NAME), Field(target, "target").text(100)
        presented = Field(fingerprint, "fingerprint").text(100)
        report = await self.controller.join(name, wanted, own_from_wire(rest), presented)
        return sync_report_to_wire(report) if report else None

    async def handle_last(self, client: object = "", **_: object) -> dict[str, Any] | None:
        """Return the report of a client's last sync, or the present state of the nodes where a target is enforced."""
        report = self.controller.last_report(Field(client, "client").text(_NAME))
        return sync_report_to_wire(report) if report else None

    async def handle_target(self, **_: object) -> dict[str, Any]:
        """Return the target of the cluster, or what its operator expects of clients; None if there is neither.

        No claim and no secret is in it, and who asks need not be a client of the cluster.
        """
        target = self.controller.target
        if target is not None:
            target = self.controller.rollout.steps.resolutions.on(target)
        target = target or self.controller.operator_policy.expected
        return {"target": await asyncio.to_thread(target_to_wire, target) if target is not None else None}

    async def handle_status(self, **_: object) -> dict[str, Any]:
        """Return the state of every node and client, compared with the target."""
        controller, target = self.controller, self.controller.target
        shown = target or controller.operator_policy.expected
        clients = await controller.sessions.status(shown, controller.claims, controller.acquaintances.environments)
        mode = f"mode {controller.operator_policy.mode}" if controller.is_permanent else ""
        note = "; ".join(filter(None, (mode, controller.expiry.note)))
        nodes = controller.nodes.status(target, await controller.rollout.inspect())
        status = ClusterStatus(target.id if target else "", nodes, clients, time(), note)
        return status_to_wire(status)

    async def handle_release(
        self, client: object = "", person: object = "", schema: object = None, **_: object
    ) -> dict[str, Any]:
        """Give every node its base back; open the gate, unless the operator has configured it.

        Parameters
        ----------
        client : str
            Dask's name of the client that asks.
        person : str
            The name of that client's user, for the messages to the other clients.
        schema : int
            That of the report that the client reads. Release 0.1 sends none, and could not read the report.

        Raises
        ------
        RuntimeError
            If the client is of release 0.1, which does not have the classes of our errors.
        PolicyError
            If the operator has configured the environment of the cluster, or that nothing is installed on it.
        """
        if schema is None:
            raise RuntimeError(str(ReleaseMismatchError(UNTOLD, THIS, "the client", "the cluster's scheduler")))
        if self.controller.operator_policy.enforced is not None:
            raise PolicyError(
                "the operator has configured the environment of this cluster (pkgsync.mode is enforce): no client can "
                "release it"
            )
        if self.controller.operator_policy.only_warns:
            raise WarnsOnlyError
        by = Field(client, "client").text(_NAME), Field(person, "person").text(200)
        if not self.controller.relauncher.is_relaunched:
            return sync_report_to_wire(await self.controller.release(*by))
        async with self.controller.rollout.lock:
            report, name = await self.controller.relauncher.release(by[0])
        return {**sync_report_to_wire(report), "relaunch": name}
