"""The nodes of a cluster: which are connected, and the state, report or failure of each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.reports.progress import Progress, progress_event
from dask_pkgsync.model.reports.status import BASE, CHANGED, LEFT_ALONE, MATCHES, WAITING, NodeStatus
from dask_pkgsync.model.reports.sync import with_changes
from dask_pkgsync.node.worker import NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TypeAlias

    from distributed import Scheduler
    from distributed.scheduler import WorkerState

    from dask_pkgsync.model.reports.failure import NodeFailure
    from dask_pkgsync.model.reports.progress import StepState
    from dask_pkgsync.model.reports.sync import NodeReport
    from dask_pkgsync.model.target import Target

    Saved: TypeAlias = tuple[dict[str, NodeReport], dict[str, NodeFailure], dict[str, NodeStatus]]

REMEMBERED = 200
"""How many nodes that have left the status still shows, for example with the reason why they failed."""

SYNC_AGAIN = "sync again, or restart its worker, to have that mended"
"""What the status of a node that has changed tells people to do."""
_STATES = {
    ("prepare", "started"): "preparing",
    ("resolve", "started"): "preparing",
    ("resolve", "finished"): "preparing",
    ("prepare", "finished"): "prepared",
    ("activate", "started"): "activating",
    ("drain", "started"): "draining",
    ("activate", "finished"): MATCHES,
    ("activate", "waiting"): WAITING,
}
"""The state of a node that the status shows, by step and state of the step."""


@dataclass(frozen=True)
class Node:
    """A process that prepares and activates: a nanny with its worker, or a worker without one."""

    address: str
    role: str
    """``nanny`` or ``worker``."""
    worker: str = ""
    """Address of the worker, as Dask's own logs and dashboard show it."""


class Nodes:
    """The nodes of one cluster, with their reports, failures and states.

    Parameters
    ----------
    scheduler : Scheduler
    scheduler_address : str
        Address of the scheduler, which is a node as well.
    log_event : callable
        Receives an event (a dictionary) for every step of a node.
    """

    def __init__(
        self, scheduler: Scheduler, scheduler_address: str, log_event: Callable[[dict[str, Any]], None]
    ) -> None:
        self.scheduler = scheduler
        self.scheduler_address = scheduler_address
        self.log_event = log_event
        self.reports: dict[str, NodeReport] = {}
        """By address, what the rollout of the present target has done on each node."""
        self.failures: dict[str, NodeFailure] = {}
        """By address, why a node could not be brought to the present target."""
        self.states: dict[str, NodeStatus] = {}
        """By address, the last known state of each node."""
        self.last_target: dict[str, str] = {}
        """By address, the name of the target that a node activated last. Nodes that started in a target are not in it:
        their workers present its name when they register."""

    def begin(self) -> Saved:
        """Forget reports, failures and states, as the rollout of another target begins; return them for `restore`."""
        before = self.reports, self.failures, self.states
        self.reports, self.failures, self.states = {}, {}, {}
        return before

    def note_release(self, reports: Iterable[NodeReport]) -> None:
        """Forget everything after a release, except the nodes that still run in the released environment."""
        self.begin()
        self.last_target = {}
        for report in reports:
            if report.outcome in (LEFT_ALONE, WAITING, "failed"):
                state = NodeStatus(report.address, report.role, report.outcome, "; ".join(report.notes), since=time())
                self.states[report.address] = state

    def restore(self, before: Saved) -> None:
        """Restore what `begin` returned, as the rollout failed and the target has not changed."""
        self.reports, self.failures, self.states = before

    # -- connected nodes ----------------------------------------------------------------------------------------------

    def connected(self) -> list[Node]:
        """Return the connected nodes, in the order of their addresses."""
        nodes = {_node_of(ws).address: _node_of(ws) for ws in self.scheduler.workers.values()}
        return [nodes[address] for address in sorted(nodes)]

    def is_nanny(self, address: str) -> bool:
        """Whether this is the address of a nanny whose worker is connected."""
        return any(ws.nanny == address for ws in self.scheduler.workers.values())

    def unverified(self, target: Target) -> list[Node]:
        """Return the connected nodes that neither started in the target, nor have activated it, nor wait to do so."""
        nodes = {}
        for ws in self.scheduler.workers.values():
            node = _node_of(ws)
            if not self._registered_in(ws, target) and not self._is_settled(node):
                nodes[node.address] = node
        return [nodes[address] for address in sorted(nodes)]

    def waiting(self) -> list[Node]:
        """Return the connected nodes whose workers wait to be drained before they can be restarted."""
        return [node for node in self.connected() if self._state(node.address) == WAITING]

    def is_verified(self, node: Node, target: Target) -> bool:
        """Whether the present worker of a node registered in the target."""
        return node.address in self._verified(target)

    def _verified(self, target: Target) -> set[str]:
        """Return the addresses of the nodes whose workers registered in the target.

        For a moment, a worker and its successor are both registered, before the worker closes.
        """
        found = {True: set[str](), False: set[str]()}
        for ws in self.scheduler.workers.values():
            found[self._registered_in(ws, target)].add(_node_of(ws).address)
        return found[True] - found[False]

    def _registered_in(self, ws: WorkerState, target: Target) -> bool:
        """Whether a worker registered in the target, and its node has not activated another one since."""
        presented = (ws.extra or {}).get(NAME) or {}
        return bool(presented.get("target") == target.id == self.last_target.get(ws.nanny or ws.address, target.id))

    def _is_settled(self, node: Node) -> bool:
        """Whether the rollout has ended on this node, or waits for its worker to be drained."""
        return node.address in self.reports and self._state(node.address) in (MATCHES, LEFT_ALONE, WAITING)

    def _state(self, address: str) -> str:
        status = self.states.get(address)
        return status.state if status else ""

    def note_changes(self, changes: Mapping[str, Sequence[str]]) -> None:
        """Note in the reports what had changed on nodes that have prepared again; they count as unverified.

        Parameters
        ----------
        changes : mapping of str to sequence of str
            By address, the changes, a line each.
        """
        for address, lines in changes.items():
            if (report := self.reports.get(address)) is not None:
                self.reports[address] = with_changes(report, lines)
                self.last_target[address] = ""

    # -- steps, failures, status --------------------------------------------------------------------------------------

    def step(self, address: str, role: str, step: str, state: StepState, detail: str = "") -> None:
        """Note and publish that a node has started, finished or failed a step, or waits in it."""
        shown = "failed" if state == "failed" else _STATES[step, state]
        self.states[address] = NodeStatus(address, role, shown, detail, since=time())
        self._forget_departed()
        self.log_event(progress_event(Progress(address, role, step, state, detail)))

    def fail(self, failure: NodeFailure, role: str) -> None:
        """Note that a node could not be brought to the target."""
        self.failures[failure.node] = failure
        self.reports.pop(failure.node, None)
        self.step(failure.node, role, failure.step, "failed", failure.problem)

    def status(
        self, target: Target | None, changes: Mapping[str, Sequence[str]] = MappingProxyType({})
    ) -> tuple[NodeStatus, ...]:
        """Return the state of every node: the scheduler, the connected nodes, then those that failed and left.

        Parameters
        ----------
        target : Target or None
        changes : mapping of str to sequence of str
            By address, what has changed on nodes since they took the target, a line each.
        """
        verified = self._verified(target) if target is not None else set()
        default = BASE if target is None else "unknown"
        statuses = [self.states.get(self.scheduler_address, NodeStatus(self.scheduler_address, "scheduler", default))]
        for node in self.connected():
            status = self.states.get(node.address, NodeStatus(node.address, node.role, default))
            if node.address in verified and status.state not in (MATCHES, LEFT_ALONE):  # the noted state is older
                status = replace(status, state=MATCHES, detail="")
            statuses.append(replace(status, worker=node.worker))
        statuses = [_changed(status, changes.get(status.address, ())) for status in statuses]
        present = {status.address for status in statuses}
        departed = [state for state in self.states.values() if state.state == "failed" and state.address not in present]
        return (*statuses, *departed)

    def ordered_reports(self) -> tuple[NodeReport, ...]:
        """Return the report of each node, the scheduler's first."""
        order = sorted(self.reports, key=lambda address: (address != self.scheduler_address, address))
        return tuple(self.reports[address] for address in order)

    def _forget_departed(self) -> None:
        """Limit the memory for nodes that have left, as an adaptive cluster has thousands of them over time."""
        if len(self.states) <= 2 * len(self.scheduler.workers) + REMEMBERED:
            return
        present = {self.scheduler_address, *(node.address for node in self.connected())}
        departed = [address for address in self.states if address not in present]
        for address in departed[: -REMEMBERED // 2]:
            self.states.pop(address, None)
            self.reports.pop(address, None)
            self.failures.pop(address, None)
            self.last_target.pop(address, None)


def _changed(status: NodeStatus, changes: Sequence[str]) -> NodeStatus:
    """Return the status of a node that matched, with what has changed on it."""
    if not changes or status.state != MATCHES:
        return status
    return replace(status, state=CHANGED, detail="; ".join((*changes, SYNC_AGAIN)))


def _node_of(ws: WorkerState) -> Node:
    return Node(ws.nanny, "nanny", ws.address) if ws.nanny else Node(ws.address, "worker", ws.address)
