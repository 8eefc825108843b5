"""What the scheduler knows about every node and client, as tables."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING

from dask_pkgsync.model.text import counted, html_table, human_time, text_table
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from typing import Any


BASE = "base"
MATCHES = "matches"
LEFT_ALONE = "left alone"
WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node against the target."""

    address: str
    role: str
    """``scheduler``, ``nanny`` or ``worker``."""
    state: str
    """``matches``, ``preparing``, ``prepared``, ``activating``, ``draining``, ``waiting`` (takes no tasks, and restarts
    when what it holds is no longer needed), ``failed``, ``left alone``, ``base`` (it has its own packages, as there is
    no target) or ``unknown``."""
    detail: str = ""
    """For people: the reason of a failure, or what the node left out."""
    since: float = 0.0
    """Time (Unix, by the scheduler's clock) of the last change; 0 where it is not known."""
    worker: str = ""
    """Address of the worker, which Dask's own logs name; empty for the scheduler, and for nodes that have left."""


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """One connected client against the target."""

    name: str
    """Dask's name of it, for example ``Client-0a1b…``."""
    person: str
    """For example ``ann@laptop``; empty where it has not said."""
    state: str
    """``synced``: what it asked for is in the target. ``waiting``: for another one, with which it conflicts.
    ``matches`` or ``differs``: by what it presented. ``stock``: it presents nothing, and was judged by Dask's own
    handshake. ``worker``: of a task that runs on a worker. Commands that only look are not listed."""
    detail: str = ""
    """What differs."""
    since: float = 0.0
    """Time (Unix, by the scheduler's clock) when it connected; 0 for those who were there before the plugin."""


@dataclass(frozen=True)
class ClusterStatus:
    """Every node and client against the target."""

    target: str
    """Name of the target, empty where there is none."""
    nodes: tuple[NodeStatus, ...]
    clients: tuple[ClientStatus, ...] = ()
    now: float = 0.0
    """Time (Unix, by the scheduler's clock) of the answer."""
    note: str = ""
    """The mode of a guarded scheduler, and what is going on besides, for example that the environment is soon to be
    released."""

    @property
    def matches(self) -> bool:
        """Whether there is a target and every node has it."""
        return bool(self.target) and all(node.state in (MATCHES, LEFT_ALONE) for node in self.nodes)

    def _nodes(self) -> tuple[list[str], list[list[str]]]:
        rows = [
            [node.address, node.role, node.worker, node.state, self._age(node.since), node.detail]
            for node in self.nodes
        ]
        return ["node", "role", "its worker", "state", "for", "detail"], rows

    def _clients(self) -> tuple[list[str], list[list[str]]]:
        rows = [[one.name, one.person, one.state, self._age(one.since), one.detail] for one in self.clients]
        return ["client", "person", "state", "for", "detail"], rows

    def _age(self, since: float) -> str:
        return human_time(self.now - since) if since else ""

    def _head(self) -> str:
        head = f"target {self.target[:12]}" if self.target else "no target: no client's environment is in force"
        return f"{head}; {self.note}" if self.note else head

    def __repr__(self) -> str:
        """Say in one line how many nodes match."""
        matching = sum(node.state in (MATCHES, LEFT_ALONE) for node in self.nodes)
        target = f"{self.target[:12]}…" if self.target else "without a target"
        clients = counted(len(self.clients), "client")
        return f"<ClusterStatus {target}: {matching} of {counted(len(self.nodes), 'node')} match, {clients}>"

    def __str__(self) -> str:
        """Lay nodes and clients out as tables."""
        parts = [self._head(), text_table(*self._nodes())]
        if self.clients:
            parts.append(text_table(*self._clients()))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        clients = f"<br>{html_table(*self._clients())}" if self.clients else ""
        return f"<p>{escape(self._head())}</p>{html_table(*self._nodes())}{clients}"


def status_to_wire(status: ClusterStatus) -> dict[str, Any]:
    """Return a status as plain data."""
    return {
        "schema": SCHEMA,
        "target": status.target,
        "nodes": [asdict(node) for node in status.nodes],
        "clients": [asdict(client) for client in status.clients],
        "now": status.now,
        "note": status.note,
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
