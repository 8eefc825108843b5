"""On the scheduler: which nodes there are, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import time
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.reports.status import BASE, LEFT_ALONE, MATCHES, WAITING, NodeStatus
from dask_pkgsync.node.worker import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import TypeAlias

    from distributed import Scheduler
    from distributed.scheduler import WorkerState

    from dask_pkgsync.model.reports.failure import NodeFailure
    from dask_pkgsync.model.reports.sync import NodeReport
    from dask_pkgsync.model.target import Target

    Known: TypeAlias = tuple[dict[str, NodeReport], dict[str, NodeFailure], dict[str, NodeStatus]]

REMEMBERED = 200
"""Nodes that have left and are still told of, for example with the reason why they failed."""

_SHOWN = {
    ("prepare", "started"): "preparing",
    ("resolve", "started"): "preparing",
    ("resolve", "finished"): "preparing",
    ("prepare", "finished"): "prepared",
    ("activate", "started"): "activating",
    ("drain", "started"): "draining",
    ("activate", "finished"): MATCHES,
    ("activate", "waiting"): WAITING,
}


@dataclass(frozen=True)
class Node:
    """A process that prepares and activates: a nanny with its worker, or a worker without one."""

    address: str
    role: str
    """``nanny`` or ``worker``."""
    worker: str = ""
    """Address of the worker, which Dask's own logs and dashboard name."""


class Nodes:
    """The nodes of one cluster, with reports, failures and states.

    Parameters
    ----------
    scheduler : Scheduler
    itself : str
        Address of the scheduler, which is a node, too.
    log_event : callable
        Receives an event (a dictionary) for every step of a node.
    """

    def __init__(self, scheduler: Scheduler, itself: str, log_event: Callable[[dict[str, Any]], None]) -> None:
        self.scheduler = scheduler
        self.itself = itself
        self.log_event = log_event
        self.reports: dict[str, NodeReport] = {}
        self.failures: dict[str, NodeFailure] = {}
        self.states: dict[str, NodeStatus] = {}
        self.last_target: dict[str, str] = {}
        """By the address of a node, the target that it was last led to; of others their workers say it alone."""

    def begin(self) -> Known:
        """Forget everything, as another target is on its way; return what was known."""
        known = self.reports, self.failures, self.states
        self.reports, self.failures, self.states = {}, {}, {}
        return known

    def begin_released(self, reports: Iterable[NodeReport]) -> None:
        """Forget everything, as there is no target any more, but who still runs in the last one."""
        self.begin()
        self.last_target = {}
        for report in reports:
            if report.outcome in (LEFT_ALONE, WAITING, "failed"):
                shown = NodeStatus(report.address, report.role, report.outcome, "; ".join(report.notes), since=time())
                self.states[report.address] = shown

    def restore(self, known: Known) -> None:
        """Go back to what `begin` returned: the target is what it was."""
        self.reports, self.failures, self.states = known

    # -- who is there -------------------------------------------------------------------------------------------------

    def connected(self) -> list[Node]:
        """Return the nodes that are connected, in order."""
        found = {_node_of(ws).address: _node_of(ws) for ws in self.scheduler.workers.values()}
        return [found[address] for address in sorted(found)]

    def is_nanny(self, address: str) -> bool:
        """Whether this is the address of a nanny that has a worker here."""
        return any(ws.nanny == address for ws in self.scheduler.workers.values())

    def unverified(self, target: Target) -> list[Node]:
        """Return the nodes whose workers neither came with the target nor were brought to it, nor wait for that."""
        found = {}
        for ws in self.scheduler.workers.values():
            node = _node_of(ws)
            if not self._came_with(ws, target) and not self._is_settled(node):
                found[node.address] = node
        return [found[address] for address in sorted(found)]

    def waiting(self) -> list[Node]:
        """Return the nodes that are connected and wait until they can be restarted."""
        return [node for node in self.connected() if self._state(node.address) == WAITING]

    def is_verified(self, node: Node, target: Target) -> bool:
        """Whether the worker that a node has now came with the target."""
        return any(
            self._came_with(ws, target)
            for ws in self.scheduler.workers.values()
            if _node_of(ws).address == node.address
        )

    def _came_with(self, ws: WorkerState, target: Target) -> bool:
        """Whether a worker registered in the target, and was not led to another one since."""
        shown = (ws.extra or {}).get(NAME) or {}
        return bool(shown.get("target") == target.id == self.last_target.get(ws.nanny or ws.address, target.id))

    def _is_settled(self, node: Node) -> bool:
        return node.address in self.reports and self._state(node.address) in (MATCHES, LEFT_ALONE, WAITING)

    def _state(self, address: str) -> str:
        known = self.states.get(address)
        return known.state if known else ""

    # -- what is known ------------------------------------------------------------------------------------------------

    def step(self, address: str, role: str, step: str, state: str, detail: str = "") -> None:
        """Note, and tell, that a node has started, finished or failed a step."""
        shown = "failed" if state == "failed" else _SHOWN[step, state]
        self.states[address] = NodeStatus(address, role, shown, detail, since=time())
        self._forget_the_gone()
        self.log_event(
            {"action": "step", "node": address, "role": role, "step": step, "state": state, "detail": detail}
        )

    def fail(self, failure: NodeFailure, role: str) -> None:
        """Note that a node cannot have the target."""
        self.failures[failure.node] = failure
        self.reports.pop(failure.node, None)
        self.step(failure.node, role, failure.step, "failed", failure.problem)

    def status(self, target: Target | None) -> tuple[NodeStatus, ...]:
        """Return every node against the target: the scheduler first, and those that failed and have left last."""
        workers = self.scheduler.workers.values()
        verified = {_node_of(ws).address for ws in workers if target is not None and self._came_with(ws, target)}
        unheard = BASE if target is None else "unknown"
        found = [self.states.get(self.itself, NodeStatus(self.itself, "scheduler", unheard))]
        for node in self.connected():
            known = self.states.get(node.address, NodeStatus(node.address, node.role, unheard))
            if node.address in verified and known.state not in (MATCHES, LEFT_ALONE):  # whatever was the last we heard
                known = replace(known, state=MATCHES, detail="")
            found.append(replace(known, worker=node.worker))
        present = {state.address for state in found}
        gone = [state for state in self.states.values() if state.state == "failed" and state.address not in present]
        return (*found, *gone)

    def ordered_reports(self) -> tuple[NodeReport, ...]:
        """Return what is known of each node, the scheduler first."""
        order = sorted(self.reports, key=lambda address: (address != self.itself, address))
        return tuple(self.reports[address] for address in order)

    def _forget_the_gone(self) -> None:
        """Bound what is remembered of nodes that left: an adaptive cluster sees thousands of them."""
        if len(self.states) <= 2 * len(self.scheduler.workers) + REMEMBERED:
            return
        present = {self.itself, *(node.address for node in self.connected())}
        gone = [address for address in self.states if address not in present]
        for address in gone[: -REMEMBERED // 2]:
            self.states.pop(address, None)
            self.reports.pop(address, None)
            self.failures.pop(address, None)
            self.last_target.pop(address, None)


def _node_of(ws: WorkerState) -> Node:
    return Node(ws.nanny, "nanny", ws.address) if ws.nanny else Node(ws.address, "worker", ws.address)
