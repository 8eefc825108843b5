"""The status of a cluster: the state of every node and client, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from dask_pkgsync.model.text import counted, html_table, human_time, text_table
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import SCHEMA
from dask_pkgsync.model.wire.texts import one_line, several_lines

if TYPE_CHECKING:
    from typing import Any

    from dask_pkgsync.model.reports.cluster_comparison import ClusterComparison

BASE = "base"
MATCHES = "matches"
LEFT_ALONE = "left alone"
CHANGED = "changed"
WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The state of one node."""

    address: str
    """For example ``tcp://10.0.0.3:40331``."""
    role: str
    """``scheduler``, ``nanny`` or ``worker``."""
    state: str
    """``matches`` (the node matches the target), ``changed`` (its layer or its base was changed since: the next sync,
    and the next start of its worker, prepare it anew), ``preparing``, ``prepared``, ``activating``, ``draining``,
    ``waiting`` (its worker takes no tasks, and restarts when the results it holds are no longer needed), ``failed``,
    ``left alone`` (it runs in the client's own process, which is not changed), ``base`` (there is no target: it has the
    packages that it was started with) or ``unknown``."""
    detail: str = ""
    """A text for people: the reason of a failure, or which packages the node skipped."""
    since: float = 0.0
    """Time of the last change of state, in seconds since the epoch by the scheduler's clock; 0 if it is not known."""
    worker: str = ""
    """Address of the node's worker, as in Dask's logs; empty for the scheduler, and for nodes that have left."""


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """The state of one connected client. Clients of commands that only read are not listed."""

    name: str
    """Dask's name of the client, for example ``Client-0a1b…``."""
    person: str
    """User and host of the client, for example ``ann@laptop``; empty if the client has not named them."""
    state: str
    """``synced``: the target has the environment that the client asked for. ``waiting``: its sync waits for another
    client, with which it conflicts. ``matches`` or ``differs``: how the environment that the client presented compares
    with the target. ``stock``: it presented no environment, and was admitted by Dask's own handshake. ``worker``: the
    client of a task that runs on a worker."""
    detail: str = ""
    """The differences, for people."""
    since: float = 0.0
    """Time when the client connected, in seconds since the epoch by the scheduler's clock; 0 for a client that was
    connected before the scheduler plugin was registered."""


@dataclass(frozen=True)
class ClusterStatus:
    """The state of every node and client of a cluster.

    ``str(status)`` shows it as tables.
    """

    target: str
    """Id of the target (64 hexadecimal digits), empty if there is none."""
    nodes: tuple[NodeStatus, ...]
    clients: tuple[ClientStatus, ...] = ()
    now: float = 0.0
    """Time of the answer, in seconds since the epoch by the scheduler's clock."""
    note: str = ""
    """The mode of a guarded scheduler, and what is about to happen, for example that the environment will be
    released."""
    comparison: ClusterComparison | None = None
    """How the nodes differ from the environment of the process that asks, where there is no target; else None."""

    @property
    def matches(self) -> bool:
        """Whether there is a target and every node matches it, or is left alone."""
        return bool(self.target) and all(node.state in (MATCHES, LEFT_ALONE) for node in self.nodes)

    def _nodes(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [node.address, node.role, node.worker, node.state, self._age(node.since), node.detail]
            for node in self.nodes
        ]
        return ["node", "role", "its worker", "state", "for", "detail"], rows

    def _clients(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [client.name, client.person, client.state, self._age(client.since), client.detail]
            for client in self.clients
        ]
        return ["client", "person", "state", "for", "detail"], rows

    def _age(self, since: float) -> str:
        return human_time(self.now - since) if since else ""

    def _head(self) -> str:
        head = f"target {self.target[:12]}" if self.target else "no target: no client's environment is in force"
        if self.target and all(node.role == "scheduler" or node.state == "failed" for node in self.nodes):
            head = f"{head}; the cluster has no workers: those that join will start in this environment"
        return f"{head}; {self.note}" if self.note else head

    def __repr__(self) -> str:
        """Return the target, and the numbers of matching nodes and clients, on one line."""
        matching = sum(node.state in (MATCHES, LEFT_ALONE) for node in self.nodes)
        target = f"{self.target[:12]}…" if self.target else "without a target"
        clients = counted(len(self.clients), "client")
        return f"<ClusterStatus {target}: {matching} of {counted(len(self.nodes), 'node')} match, {clients}>"

    def __str__(self) -> str:
        """Return tables of the nodes and the clients."""
        parts = [self._head(), text_table(*self._nodes())]
        if self.clients:
            parts.append(text_table(*self._clients()))
        if self.comparison is not None:
            parts.append(str(self.comparison))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        clients = f"<br>{html_table(*self._clients())}" if self.clients else ""
        comparison = self.comparison._repr_html_() if self.comparison else ""
        return f"<p>{escape(self._head())}</p>{html_table(*self._nodes())}{clients}{comparison}"


def status_to_wire(status: ClusterStatus) -> dict[str, Any]:
    """Return a status as plain data."""
    return {
        "schema": SCHEMA,
        "target": one_line(status.target, 100),
        "nodes": [_node_to_wire(node) for node in status.nodes],
        "clients": [_client_to_wire(client) for client in status.clients],
        "now": status.now,
        "note": several_lines(status.note),
    }


def _node_to_wire(node: NodeStatus) -> dict[str, Any]:
    return {
        "address": one_line(node.address),
        "role": one_line(node.role, 20),
        "state": one_line(node.state, 20),
        "detail": several_lines(node.detail),
        "since": node.since,
        "worker": one_line(node.worker),
    }


def _client_to_wire(client: ClientStatus) -> dict[str, Any]:
    return {
        "name": one_line(client.name),
        "person": one_line(client.person, 200),
        "state": one_line(client.state, 20),
        "detail": several_lines(client.detail),
        "since": client.since,
    }


def status_from_wire(data: object, place: str = "status") -> ClusterStatus:
    """Check and read what `status_to_wire` wrote."""
    root = Field(data, place)
    root.schema()
    nodes = tuple(_node(entry) for entry in root.key("nodes").items())
    clients = tuple(_client(entry) for entry in root.optional("clients", []).items())
    now, note = root.optional("now", 0.0).number(), root.optional("note", "").long_text()
    return ClusterStatus(root.key("target").text(100), nodes, clients, now, note)


def _node(entry: Field) -> NodeStatus:
    return NodeStatus(
        entry.key("address").text(),
        entry.key("role").text(20),
        entry.key("state").text(20),
        entry.optional("detail", "").long_text(),
        entry.optional("since", 0.0).number(),
        entry.optional("worker", "").text(),
    )


def _client(entry: Field) -> ClientStatus:
    return ClientStatus(
        entry.key("name").text(),
        entry.key("person").text(200),
        entry.key("state").text(20),
        entry.optional("detail", "").long_text(),
        entry.optional("since", 0.0).number(),
    )
