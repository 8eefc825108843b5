"""A sync by the address of a scheduler, which may not let this client in; where needed, it relaunches the cluster.

It speaks to the scheduler over connections of its own, and not as a `distributed.Client`: the gate, or Dask itself, may
refuse a client of another version.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from distributed.comm.core import connect
from distributed.core import rpc
from distributed.protocol.pickle import dumps
from distributed.security import Security

from dask_pkgsync.carry.travel import carried
from dask_pkgsync.client.blob_provider import BlobProvider
from dask_pkgsync.client.registration import is_to_stay
from dask_pkgsync.model.announcement import announcement_from_wire
from dask_pkgsync.model.comparison import compare_critical, critical_versions
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.handshake import versions_in
from dask_pkgsync.model.mismatch import EnvironmentMismatchError
from dask_pkgsync.model.reports.answer import error_from_wire
from dask_pkgsync.model.reports.failure import SyncError, failure_from_wire
from dask_pkgsync.model.reports.progress import progress_in
from dask_pkgsync.model.reports.sync import SyncReport, report_from_wire
from dask_pkgsync.model.target import target_to_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import TOPIC, WANTED

if TYPE_CHECKING:
    from typing_extensions import Self

    from dask_pkgsync.client.plugin import PackageSync
    from dask_pkgsync.model.comparison import Comparison
    from dask_pkgsync.model.reports.progress import Reporter

VISITOR = "pkgsync-visitor"
"""The name of the plugin by which a scheduler answers our calls."""
POLL = 0.1
"""Seconds between two questions whether the cluster has come back."""
PATIENCE = 600.0
"""Seconds after which a cluster that has left counts as lost. Its own time limits are shorter."""
CALL_TIMEOUT = 10.0
"""Seconds that a call may take which needs no work."""


class Visit:
    """Talks to the scheduler at an address.

    Parameters
    ----------
    address : str
    security : Security or None
        None: as Dask's configuration says.
    client : str
        Dask's name of the client of the same person, if one is connected.
    """

    def __init__(self, address: str, security: Any, client: str = "") -> None:
        self.address, self.client = address, client
        self.id = f"pkgsync-visit-{uuid4().hex}"
        self.status = "running"
        if not isinstance(security, Security):
            security = Security(**security) if isinstance(security, dict) else Security()
        self.connection_args = security.get_connection_args("client")
        self.scheduler: Any = rpc(address, connection_args=self.connection_args)

    async def close(self) -> None:
        """Close all connections."""
        await self.scheduler.close_rpc()

    async def differences(self, plugin: PackageSync) -> Comparison:
        """Return the critical packages in which the scheduler differs from a plugin's target.

        Raises
        ------
        PkgsyncError
            If nothing answers at the address.
        """
        try:
            versions = await self.scheduler.versions()
        except (OSError, TypeError, ValueError) as error:
            raise PkgsyncError(f"cannot connect to {self.address}: {error}") from error
        return compare_critical(
            versions_in({"versions": versions}),
            critical_versions(plugin.target.environment),
            expected_label="scheduler",
            found_label="client",
        )

    async def relaunch(self, plugin: PackageSync, reporter: Reporter) -> SyncReport:
        """Execute all processes of the cluster anew in the target of a plugin, and wait until they have returned.

        Raises
        ------
        RelaunchRefusedError, PolicyError
            If the cluster is not to be relaunched.
        SyncError
            If no process could prepare, or some have not returned.
        PkgsyncError
            If the cluster has not come back.
        """
        await self._bring_ourselves()
        began = monotonic()
        name = await self._ask(plugin, reporter)
        return replace(await self.outcome(name), here=plugin.discrepancies, seconds=monotonic() - began)

    async def _bring_ourselves(self) -> None:
        """Let the scheduler answer our calls, unless a dask-pkgsync there does already."""
        announcement = announcement_from_wire(await self.scheduler.get_metadata(keys=[TOPIC], default=None))
        if announcement is not None and is_to_stay(announcement):
            return
        visitor = await asyncio.to_thread(dumps, _Visitor())
        try:
            await self.scheduler.register_scheduler_plugin(plugin=visitor, name=VISITOR, idempotent=False)
        except ImportError as error:
            raise PkgsyncError(str(error)) from None

    async def _ask(self, plugin: PackageSync, reporter: Reporter) -> str:
        """Ask for the relaunch, and provide wheels meanwhile; return its name once the scheduler leaves."""
        provider = BlobProvider(self, plugin.snapshot, plugin.target.store)
        target = await asyncio.to_thread(target_to_wire, plugin.target)
        comm = await connect(self.address, **self.connection_args)
        try:
            await comm.write({"op": "pkgsync_relaunch", "target": target, "client": self.client, "reply": True})
            while True:
                message = await comm.read()
                if message.get("op") == WANTED:
                    provider.handle_wanted(**message)
                    continue
                answer = Field(message, "answer")
                match answer.key("state").text(20):
                    case "event":
                        if (progress := progress_in(answer.key("event").value)) is not None:
                            reporter.progressed(progress)
                    case "refused":
                        raise error_from_wire(answer.key("error").value)
                    case "leaves":
                        return answer.key("relaunch").text(100)
        except OSError as error:
            raise PkgsyncError(
                f"the connection to the scheduler was lost while the cluster prepared to be relaunched: {error}\n"
                "  what to do: read the scheduler's log; unless it says that the cluster is relaunched, nothing has "
                "changed."
            ) from error
        finally:
            self.status = "closed"
            comm.abort()

    async def outcome(self, name: str) -> SyncReport:
        """Wait until the nodes have returned; return what was done to each."""
        deadline = monotonic() + PATIENCE
        while monotonic() < deadline:
            await asyncio.sleep(POLL)
            async with _Once(self.address, self.connection_args) as scheduler:
                found = Field(await scheduler.ask("pkgsync_relaunched", relaunch=name), "answer")
                if found.value is None:
                    continue
                match found.key("state").text(20):
                    case "unknown":
                        raise PkgsyncError(
                            f"the scheduler at {self.address} runs again, and knows nothing of this relaunch: it was "
                            "ended and started anew meanwhile, and has its own packages. Read its log, and sync again."
                        )
                    case "failed":
                        failure = failure_from_wire(found.key("failure").value)
                        raise SyncError({failure.node: failure})
                    case "over":
                        return _report(found)
        raise PkgsyncError(
            f"the cluster at {self.address} was executed anew, and its scheduler has not come back: read its log"
        )


class _Once:
    """One connection for one question to a scheduler that may not be there."""

    def __init__(self, address: str, connection_args: dict[str, Any]) -> None:
        self.address, self.connection_args = address, connection_args
        self.comm: Any = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.comm is not None:
            self.comm.abort()

    async def ask(self, operation: str, **arguments: Any) -> Any:
        """Return the scheduler's answer; None if it is not there, or does not answer."""
        try:
            self.comm = await connect(self.address, timeout=CALL_TIMEOUT, **self.connection_args)
            await self.comm.write({"op": operation, "reply": True, **arguments})
            answer = await asyncio.wait_for(self.comm.read(), CALL_TIMEOUT)
        except (OSError, asyncio.TimeoutError):
            return None
        if isinstance(answer, dict) and answer.get("status") in ("error", "uncaught-error"):
            return {"state": "unknown"}  # a scheduler without our handlers
        return answer


class _Visitor:
    """Is pickled as a plugin that lets a scheduler answer our calls (`scheduler.plugin.Visitor`)."""

    def __reduce__(self) -> tuple[Any, ...]:
        return carried("scheduler", "dask_pkgsync.scheduler.plugin:visitor", None, yields=True)


async def sync_at(
    address: str, security: Any, plugin: PackageSync, reporter: Reporter, client: str = ""
) -> SyncReport | None:
    """Relaunch the cluster at an address, if it differs from a plugin's target in a critical package.

    Returns
    -------
    SyncReport or None
        None if no critical package differs, so that a client can connect and sync.

    Raises
    ------
    EnvironmentMismatchError
        If it differs, and the target says that it is not to be relaunched.
    """
    visit = Visit(address, security, client)
    try:
        differences = await visit.differences(plugin)
        if not differences:
            return None
        if plugin.target.relaunch == "never":
            raise EnvironmentMismatchError(differences, address)
        return await visit.relaunch(plugin, reporter)
    finally:
        await visit.close()


async def outcome_at(address: str, security: Any, name: str) -> SyncReport:
    """Wait until the nodes of a cluster that is relaunched have returned; return what was done to each.

    Parameters
    ----------
    address : str
    security : Security or dict or None
    name : str
        The name of the relaunch.
    """
    visit = Visit(address, security)
    try:
        return await visit.outcome(name)
    finally:
        await visit.close()


def _report(found: Field) -> SyncReport:
    failures = [failure_from_wire(one.value, one.place) for one in found.key("failures").items()]
    if failures:
        raise SyncError({failure.node: failure for failure in failures}, adopted=True)
    nodes = tuple(report_from_wire(one.value) for one in found.key("nodes").items())
    return SyncReport(found.key("target").text(100), nodes)
