"""What the scheduler knows about every node, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from dask_pkgsync.core.environment import SCHEMA
from dask_pkgsync.core.fields import Field
from dask_pkgsync.core.table import html_table, text_table

MATCHES = "matches"


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node against the target."""

    address: str
    role: str
    """``scheduler``, ``nanny`` or ``worker``."""
    state: str
    """``matches``, ``preparing``, ``prepared``, ``activating``, ``failed``, ``left alone`` or ``unknown``."""
    detail: str = ""
    """For people: the reason of a failure, or what the node left out."""


@dataclass(frozen=True)
class ClusterStatus:
    """Every node against the target."""

    target: str
    """Name of the target, empty where there is none."""
    nodes: tuple[NodeStatus, ...]

    @property
    def matches(self) -> bool:
        """Whether there is a target and every node has it."""
        return bool(self.target) and all(node.state in (MATCHES, "left alone") for node in self.nodes)

    def _table(self) -> tuple[list[str], list[list[str]]]:
        rows = [[node.address, node.role, node.state, node.detail] for node in self.nodes]
        return ["node", "role", "state", "detail"], rows

    def _head(self) -> str:
        return f"target {self.target[:12]}" if self.target else "no target: nobody has synced this cluster"

    def __str__(self) -> str:
        """Lay the nodes out as a table."""
        return f"{self._head()}\n\n{text_table(*self._table())}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self._head())}</p>{html_table(*self._table())}"


def status_to_wire(status: ClusterStatus) -> dict[str, Any]:
    """Return a status as plain data."""
    nodes = [[node.address, node.role, node.state, node.detail] for node in status.nodes]
    return {"schema": SCHEMA, "target": status.target, "nodes": nodes}


def status_from_wire(data: object, place: str = "status") -> ClusterStatus:
    """Check and read what `status_to_wire` wrote."""
    root = Field(data, place)
    root.schema()
    root.only("schema", "target", "nodes")
    nodes = []
    for entry in root.key("nodes").items():
        address, role, state, detail = entry.row(4)
        nodes.append(NodeStatus(address.text(), role.text(20), state.text(20), detail.long_text()))
    return ClusterStatus(root.key("target").text(100), tuple(nodes))
