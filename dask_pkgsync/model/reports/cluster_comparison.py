"""Compares the nodes of a cluster with an environment, and with each other; nodes that are alike are one column."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import MISSING, compare
from dask_pkgsync.model.policy import Level, Policy
from dask_pkgsync.model.text import counted, html_table, text_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any, TypeAlias

    from dask_pkgsync.model.comparison import Difference
    from dask_pkgsync.model.environments.environment import Environment

    Group: TypeAlias = tuple[Environment, list["ObservedNode"]]

ROLES = ("scheduler", "worker", "nanny")
"""The roles of nodes, in the order in which headings name them."""
HERE = "this environment"
NAMED = 5
"""The most addresses that a text names."""


@dataclass(frozen=True, slots=True)
class ObservedNode:
    """A node of a cluster that somebody has looked at."""

    address: str
    """For example ``tcp://10.0.0.3:40331``."""
    role: str
    """``scheduler``, ``worker`` or ``nanny``."""
    host: str = ""
    """The name of its host, as it says itself; empty if it is not known."""
    environment: Environment | None = field(default=None, compare=False)
    """What is importable in its process; None if that could not be found out."""
    is_partial: bool = False
    """Whether only Python and the packages that Dask needs in one version everywhere are known of it."""
    imported: frozenset[str] = frozenset()
    """The top-level modules that its process has imported, without those of the standard library."""
    nanny: str = ""
    """The address of a worker's nanny; empty for other nodes, and for a worker without a nanny."""
    problem: str = ""
    """Why it could not be looked at, or not as a whole; a text for people."""

    @property
    def is_judged_whole(self) -> bool:
        """Whether all packages count, and not only the critical ones: a nanny runs no code of users."""
        return self.role != "nanny" and not self.is_partial


@dataclass(frozen=True)
class NodeGroup:
    """Nodes that are alike: they are one column of the table."""

    label: str
    """The heading of their column, for example ``scheduler, 4 workers``."""
    nodes: tuple[ObservedNode, ...]
    environment: Environment = field(compare=False)
    """That of the first of them; the others may differ from it in what is ignored."""


@dataclass(frozen=True, slots=True)
class NodeDifference:
    """A package (or ``python``) that nodes have otherwise than an environment, or otherwise than other nodes."""

    name: str
    """Canonical name of the package."""
    level: Level
    """How closely the policy wants it to match."""
    here: str
    """Version in the environment that the nodes are compared with, or ``not there``."""
    found: tuple[str, ...]
    """Version on each group of nodes, in the order of the groups, or ``not there``."""
    reason: str = ""
    """Why the policy has this level, or what is wrong with the package; a text for people."""


@dataclass(frozen=True)
class ClusterComparison:
    """How the nodes of a cluster differ from an environment, and from each other.

    It is true if there is any difference. ``str(comparison)`` is a table of the differences, critical ones first.
    """

    differences: tuple[NodeDifference, ...]
    groups: tuple[NodeGroup, ...]
    """The nodes; those that are alike are one group."""
    unseen: tuple[ObservedNode, ...] = ()
    """The nodes that could not be looked at, each with its ``problem``."""
    label: str = HERE
    """Heading of the column of the environment that the nodes are compared with."""

    def __bool__(self) -> bool:
        """Whether there is any difference, or a node that could not be looked at."""
        return not self.matches

    def __len__(self) -> int:
        return len(self.differences)

    def __iter__(self) -> Iterator[NodeDifference]:
        return iter(self.differences)

    @property
    def matches(self) -> bool:
        """Whether every node was looked at, and nothing differs."""
        return not self.differences and not self.unseen

    @property
    def critical(self) -> tuple[NodeDifference, ...]:
        """The differences that no layer can mend: Python, and what Dask needs in one version everywhere."""
        return tuple(row for row in self.differences if row.level is Level.CRITICAL)

    @property
    def nodes(self) -> tuple[ObservedNode, ...]:
        """All nodes, also those that could not be looked at."""
        return (*(node for group in self.groups for node in group.nodes), *self.unseen)

    @property
    def headline(self) -> str:
        """The result in one sentence."""
        count = counted(len(self.nodes), "node")
        if not self.nodes:
            return "the cluster has no nodes"
        if not self.differences:
            rest = f"; {counted(len(self.unseen), 'node')} could not be looked at" if self.unseen else ""
            return f"no differences between {self.label} and {count}{rest}"
        critical = f", {len(self.critical)} critical" if self.critical else ""
        return f"{counted(len(self.differences), 'difference')}{critical} between {self.label} and {count}"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head = ["package", self.label, *(group.label for group in self.groups), "level"]
        return head, [[row.name, row.here, *row.found, row.level.value] for row in self.differences]

    def _notes(self) -> list[str]:
        """Return which nodes stand behind each column, and what could not be looked at, a line each."""
        lines = [f"{group.label}: {_addresses(group.nodes)}" for group in self.groups]
        partial: dict[str, list[ObservedNode]] = {}
        for node in self.nodes:
            if node.problem:
                partial.setdefault(node.problem, []).append(node)
        return [*lines, *(f"{_addresses(nodes)}: {problem}" for problem, nodes in partial.items())]

    def __repr__(self) -> str:
        """Return the headline."""
        return f"<ClusterComparison: {self.headline}>"

    def __str__(self) -> str:
        """Return the headline, a table of the differences, and which nodes each column stands for."""
        parts = [self.headline, *([text_table(*self._table())] if self.differences else []), "\n".join(self._notes())]
        return "\n\n".join(filter(None, parts))

    def _repr_html_(self) -> str:
        table = html_table(*self._table()) if self.differences else ""
        notes = "".join(f"<li>{escape(line)}</li>" for line in self._notes())
        return f"<p>{escape(self.headline)}</p>{table}<ul>{notes}</ul>"

    def to_json(self) -> str:
        """Return the comparison as JSON: ``matches``, ``differences``, ``groups`` and ``unseen``."""
        return json.dumps(self._data(), indent=1)

    def _data(self) -> dict[str, Any]:
        return {
            "matches": self.matches,
            "differences": [
                {
                    "package": row.name,
                    "level": row.level.value,
                    "here": row.here,
                    "found": dict(zip((group.label for group in self.groups), row.found, strict=True)),
                    "reason": row.reason,
                }
                for row in self.differences
            ],
            "groups": [
                {
                    "label": group.label,
                    "fingerprint": group.environment.fingerprint,
                    "nodes": [_node_data(node) for node in group.nodes],
                }
                for group in self.groups
            ],
            "unseen": [_node_data(node) for node in self.unseen],
        }


def _node_data(node: ObservedNode) -> dict[str, str]:
    data = {"address": node.address, "role": node.role, "host": node.host}
    return {**data, "problem": node.problem} if node.problem else data


def _addresses(nodes: Sequence[ObservedNode]) -> str:
    """Return the addresses of some nodes; those of nannies only if there are no others."""
    named = [node.address for node in nodes if node.role != "nanny"] or [node.address for node in nodes]
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return ", ".join(named[:NAMED]) + more


def compare_nodes(
    here: Environment, nodes: Iterable[ObservedNode], policy: Policy | None = None, *, label: str = HERE
) -> ClusterComparison:
    """List how nodes differ from an environment, and from each other.

    Each kind of node is compared with the environment, and with the kind that most workers are of. A package that only
    nodes have is a difference if not all kinds have it alike, or under a strict policy. Of a nanny, which runs no code
    of users, only critical packages are compared.

    Parameters
    ----------
    here : Environment
    nodes : iterable of ObservedNode
    policy : Policy, optional
        How closely each package has to match.
    label : str
        Heading of the column of the environment.
    """
    policy, everybody = policy or Policy(), tuple(nodes)
    kinds = _kinds(everybody)
    rows: dict[str, Difference] = {}
    cells: dict[tuple[str, int | None], str] = {}
    usual = max(range(len(kinds)), key=lambda at: _weight(kinds[at]), default=None)
    for at, kind in enumerate(kinds):
        for row in _judged(here, kind, policy):
            rows.setdefault(row.name, row)
            cells[row.name, at], cells[row.name, None] = row.found, row.expected
    for at, kind in enumerate(kinds):
        if usual is not None and at != usual:
            for one, other in ((usual, at), (at, usual)):
                for row in _judged(kinds[one][0], (kinds[other][0], kind[1]), policy):
                    rows.setdefault(row.name, row)
                    cells.setdefault((row.name, one), row.expected)
                    cells.setdefault((row.name, other), row.found)
    ordered = sorted(rows.values(), key=lambda row: (row.level is not Level.CRITICAL, row.name))
    columns: dict[tuple[str, ...], Group] = {}
    for at, (environment, alike) in enumerate(kinds):
        column = tuple(cells.get((row.name, at)) or _shown(row, environment, alike) for row in ordered)
        columns.setdefault(column, (environment, []))[1].extend(alike)
    groups = _labelled(columns.values())
    differences = tuple(
        NodeDifference(
            row.name,
            row.level,
            cells.get((row.name, None)) or _version(row.name, here),
            tuple(column[at] for column in columns),
            row.reason,
        )
        for at, row in enumerate(ordered)
    )
    return ClusterComparison(differences, groups, tuple(one for one in everybody if one.environment is None), label)


def _kinds(nodes: Iterable[ObservedNode]) -> list[Group]:
    """Put nodes with equal environments together, those of the scheduler first, then those of most workers."""
    kinds: dict[object, Group] = {}
    for node in sorted(nodes, key=lambda one: (ROLES.index(one.role), one.address)):
        if (environment := node.environment) is not None:
            faults = frozenset((fault.name, fault.kind) for fault in environment.faults)
            key = environment.fingerprint, faults, node.is_partial
            kinds.setdefault(key, (environment, []))[1].append(node)
    return sorted(kinds.values(), key=lambda kind: (_roles(kind[1])["scheduler"] == 0, -_weight(kind)))


def _weight(kind: Group) -> int:
    return _roles(kind[1])["worker"]


def _roles(nodes: Iterable[ObservedNode]) -> Counter[str]:
    return Counter(node.role for node in nodes)


def _judged(expected: Environment, kind: Group, policy: Policy) -> Iterator[Difference]:
    """Yield how a kind of node differs from what is expected, as far as it counts for these nodes."""
    environment, nodes = kind
    is_whole = any(node.is_judged_whole for node in nodes)
    for row in compare(expected, environment, policy):
        if is_whole or row.level is Level.CRITICAL:
            yield row


def _shown(row: Difference, environment: Environment, nodes: Sequence[ObservedNode]) -> str:
    """Return the text of a cell for which no comparison has given one: these nodes have it as the policy wants it."""
    if all(node.is_partial for node in nodes) and row.level is not Level.CRITICAL:
        return "?"
    return _version(row.name, environment)


def _version(name: str, environment: Environment) -> str:
    if name == "python":
        return f"{environment.interpreter.implementation} {environment.interpreter.version}"
    if name in environment.conda:
        return environment.conda[name].label
    return environment.distributions[name].label if name in environment.distributions else MISSING


def _labelled(groups: Iterable[Group]) -> tuple[NodeGroup, ...]:
    """Give each group of nodes a heading of its own: roles and numbers, and the host if another one has the same."""
    found = [(environment, tuple(nodes), _heading(nodes)) for environment, nodes in groups]
    counts, used = Counter(heading for _, _, heading in found), Counter[str]()
    labelled = []
    for environment, nodes, heading in found:
        hosts = {node.host for node in nodes if node.host}
        label = f"{heading} on {min(hosts)}" if counts[heading] > 1 and len(hosts) == 1 else heading
        used[label] += 1
        label = f"{label} ({used[label]})" if used[label] > 1 else label
        labelled.append(NodeGroup(label, nodes, environment))
    return tuple(labelled)


def _heading(nodes: Sequence[ObservedNode]) -> str:
    roles = _roles(nodes)
    parts = ["scheduler"] if roles["scheduler"] else []
    parts += [counted(roles["worker"], "worker")] if roles["worker"] else []
    if roles["nanny"] and not roles["worker"]:
        parts.append("1 nanny" if roles["nanny"] == 1 else f"{roles['nanny']} nannies")
    return ", ".join(parts)
