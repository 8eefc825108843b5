"""The scheduler's calls to one node: prepare, activate, release, and the removal from the cluster."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.interpreter import interpreter_from_wire
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.reports.failure import NodeFailure, failure_from_wire
from dask_pkgsync.model.reports.sync import NodeReport, outcome_of, report_from_wire
from dask_pkgsync.model.resolutions.resolution import resolution_from_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.node.worker import NAME
from dask_pkgsync.scheduler.dask_internals import add_plugin_at, end_node, remove_plugin_at

if TYPE_CHECKING:
    from distributed import Scheduler

    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.reports.sync import Outcome
    from dask_pkgsync.model.resolutions.resolution import Resolution
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.rollout.nodes import Node
    from dask_pkgsync.scheduler.rollout.parcels import Parcels


class NodeFailedError(PkgsyncError):
    """A node could not do what others wait for."""

    def __init__(self, failure: NodeFailure) -> None:
        super().__init__(failure)
        self.failure = failure

    def __str__(self) -> str:
        """Say which node could not do what, and why."""
        return str(self.failure)


class NodeRpc:
    """Calls nodes over the scheduler's own connections; a call that fails returns a failure."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler

    async def prepare(self, node: Node, parcels: Parcels) -> NodeReport | NodeFailure | Interpreter:
        """Give a node our plugin, and let it build the layer that it needs for the target.

        A node for whose platform the target is not resolved answers with its interpreter.
        """
        try:
            is_nanny = node.role == "nanny"
            plugin = parcels.nanny if is_nanny else parcels.worker
            if raised := await add_plugin_at(self.scheduler, node.address, plugin, NAME, nanny=is_nanny):
                problem = f"dask-pkgsync's plugin could not be set up on this node: {raised}"
                return NodeFailure(node.address, "prepare", problem[:2000], _SEE_LOG)
            answer = await self.scheduler.rpc(node.address).pkgsync_prepare(target=parcels.target)
            if "unresolved" in answer:
                return interpreter_from_wire(Field(answer["unresolved"], "interpreter"))
            return failure_from_wire(answer["failure"]) if "failure" in answer else report_from_wire(answer["report"])
        except Exception as error:  # noqa: BLE001  # a lost node, or any error that it raised while it unpickled our plugin
            return _lost_node(node.address, "prepare", error)

    async def resolve(self, node: Node, parcels: Parcels) -> Resolution:
        """Let a node resolve a target for its platform.

        Raises
        ------
        NodeFailedError
            If it cannot.
        """
        try:
            answer = await self.scheduler.rpc(node.address).pkgsync_resolve(target=parcels.target)
            if "failure" not in answer:
                return resolution_from_wire(answer["resolution"])
            failure = failure_from_wire(answer["failure"])
        except Exception as error:  # noqa: BLE001  # a lost node
            failure = _lost_node(node.address, "resolve", error)
        raise NodeFailedError(failure)

    async def get_ready(
        self, node: Node, parcels: Parcels | None, scheduler: str
    ) -> tuple[str, tuple[str, ...]] | NodeFailure:
        """Let the process of a node prepare to be executed anew; return its token, and notes on its environment.

        Without parcels, it is to be what it was first started as.
        """
        try:
            is_nanny, target = node.role == "nanny", None
            if parcels is not None:
                plugin, target = parcels.nanny if is_nanny else parcels.worker, parcels.target
                if raised := await add_plugin_at(self.scheduler, node.address, plugin, NAME, nanny=is_nanny):
                    problem = f"dask-pkgsync's plugin could not be set up on this node: {raised}"
                    return NodeFailure(node.address, "prepare", problem[:2000], _SEE_LOG)
            answer = await self.scheduler.rpc(node.address).pkgsync_ready(target=target, scheduler=scheduler)
            if "failure" in answer:
                return failure_from_wire(answer["failure"])
            found = Field(answer, "answer")
            return found.key("token").text(100), tuple(note.text() for note in found.key("notes").items(MAX_CHANGES))
        except Exception as error:  # noqa: BLE001  # a lost node, or any error that it raised while it unpickled our plugin
            return _lost_node(node.address, "prepare", error)

    async def leave(self, address: str, token: str, timeout: float) -> NodeFailure | None:
        """Let the process of a node end its workers, and execute itself anew; return why it does not."""
        try:
            answer = await asyncio.wait_for(self.scheduler.rpc(address).pkgsync_leave(token=token), timeout)
        except Exception as error:  # noqa: BLE001  # a lost node, or one that does not answer
            return _lost_node(address, "relaunch", error)
        return failure_from_wire(answer["failure"]) if "failure" in answer else None

    async def inspect(self, node: Node) -> tuple[str, ...]:
        """Return what has changed on a node since it took its target; nothing if the node does not answer."""
        with contextlib.suppress(Exception):  # a lost node, or one of a release that cannot be asked
            answer = await asyncio.wait_for(self.scheduler.rpc(node.address).pkgsync_inspect(), INSPECT_TIMEOUT)
            if answer is not None:  # Dask's answer where the node has no such handler
                return tuple(entry.text() for entry in Field(answer, "inspection").key("changes").items(MAX_CHANGES))
        return ()

    async def activate(self, node: Node, target: Target) -> tuple[Outcome, str] | NodeFailure:
        """Let a node activate what it has prepared; return the outcome, and a detail for the user."""
        try:
            answer = await self.scheduler.rpc(node.address).pkgsync_activate(target=target.id)
            if "failure" in answer:
                return failure_from_wire(answer["failure"])
            return outcome_of(answer["outcome"]), Field(answer["detail"], "detail").long_text()
        except Exception as error:  # noqa: BLE001  # for example the worker did not start in the layer, and its nanny closed
            return _lost_node(node.address, "restart", error)

    async def release(self, node: Node) -> NodeReport:
        """Give a node its base back."""
        try:
            answer = await self.scheduler.rpc(node.address).pkgsync_release()
            if answer is None:  # Dask's answer where the node has no such handler: it was never asked to prepare
                return NodeReport(node.address, node.role, "matched")
            await remove_plugin_at(self.scheduler, node.address, NAME, nanny=node.role == "nanny")
        except Exception as error:  # noqa: BLE001  # one node that cannot be released must not stop the release of the others
            return NodeReport(node.address, node.role, "failed", notes=(f"{type(error).__name__}: {error}"[:2000],))
        if "failure" in answer:
            return NodeReport(node.address, node.role, "failed", notes=(str(failure_from_wire(answer["failure"])),))
        notes = (answer["detail"],) if answer["detail"] else ()
        return NodeReport(node.address, node.role, outcome_of(answer["outcome"]), notes=notes)

    async def expel(self, node: Node) -> None:
        """Remove a node from the cluster; its worker's results move to its peers first, if there are any."""
        workers = [ws.address for ws in self.scheduler.workers.values() if node.address in (ws.nanny, ws.address)]
        with contextlib.suppress(Exception):  # without peers the results cannot move
            await self.scheduler.retire_workers(workers=workers, close_workers=False, remove=False)
        with contextlib.suppress(OSError):
            await end_node(self.scheduler, node.address, "pkgsync-failed", nanny=node.role == "nanny")
        for address in workers:
            await self.scheduler.remove_worker(address=address, stimulus_id="pkgsync-failed", expected=True)


INSPECT_TIMEOUT = 10.0
"""Seconds after which a node that does not answer counts as unchanged: a sync or a status must not wait for it."""
MAX_CHANGES = 10
"""The most changes that a node may name."""
_SEE_LOG = "Look into the log of this node."


def _lost_node(node: str, step: str, error: Exception) -> NodeFailure:
    problem = f"the node was lost, or did not do it: {type(error).__name__}: {error}"[:2000]
    return NodeFailure(node, step, problem, _SEE_LOG)
