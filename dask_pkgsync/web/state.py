"""The state of a cluster as the page and ``status.json`` show it: plain data, and one page of its nodes."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.wire.texts import one_line, several_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from dask_pkgsync.model.reports.failure import NodeFailure
    from dask_pkgsync.model.reports.status import ClientStatus, NodeStatus
    from dask_pkgsync.model.reports.sync import NodeReport
    from dask_pkgsync.model.target import Target

SCHEMA = 1
"""The version of the form of ``status.json``. Keys may be added to it without another version."""
PER_PAGE = 25
MOST_PER_PAGE = 500
MOST_ROWS = 200
"""The most packages, and the most columns of hosts, that one answer has."""
LINES = 8
"""The most lines that the page shows of what was done to one node."""
SETTLED = ("matches", "left alone", "waiting", "failed", "changed", "base")
"""The states in which a node has no step to go in a rollout."""
ORDER = ("failed", "changed", "waiting", "draining", "activating", "prepared", "preparing", "unknown")
"""The states of nodes that stand first; all others follow."""


@dataclass(frozen=True)
class Query:
    """Which nodes a viewer wants to see."""

    page: int = 1
    """From 1."""
    per_page: int = PER_PAGE
    state: str = ""
    """Only nodes in this state; empty: all."""
    find: str = ""
    """Only nodes whose address, host, worker or detail has this text; empty: all."""


def query_of(arguments: Mapping[str, str]) -> Query:
    """Read a query from the arguments of a URL; what is malformed counts as not given."""

    def number(name: str, default: int, most: int) -> int:
        text = arguments.get(name, "")
        return min(max(int(text), 1), most) if text.isascii() and text.isdigit() and len(text) < 8 else default  # noqa: PLR2004

    return Query(
        number("page", 1, 1_000_000),
        number("per-page", PER_PAGE, MOST_PER_PAGE),
        arguments.get("state", "")[:50],
        arguments.get("find", "")[:200].strip().lower(),
    )


@dataclass(frozen=True)
class ClusterState:
    """Everything that is known of a cluster at one time, as the controller has it."""

    head: Mapping[str, Any]
    """The keys of ``status.json`` that are the same for every viewer."""
    target: Target | None
    nodes: Sequence[NodeStatus]
    hosts: Mapping[str, str]
    """The host of each node, by its address."""
    reports: Mapping[str, NodeReport]
    """What the rollout of the target has done to each node, by its address."""
    failures: Mapping[str, NodeFailure]
    clients: Sequence[ClientStatus] = ()

    def page(self, query: Query) -> dict[str, Any]:
        """Return the data of ``status.json`` for one viewer."""
        counts = Counter(node.state for node in self.nodes)
        chosen = [node for node in self.nodes if self._fits(node, query)]
        chosen.sort(key=lambda node: ORDER.index(node.state) if node.state in ORDER else len(ORDER))
        pages = max(1, -(-len(chosen) // query.per_page))
        page = min(query.page, pages)
        first = (page - 1) * query.per_page
        return {
            "schema": SCHEMA,
            **self.head,
            "target": target_data(self.target, dict(self.head.get("target", {}))),
            "nodes": {
                "total": len(self.nodes),
                "states": dict(sorted(counts.items())),
                "settled": sum(counts[state] for state in SETTLED),
                "found": len(chosen),
                "page": page,
                "pages": pages,
                "per-page": query.per_page,
                "rows": [self._row(node) for node in chosen[first : first + query.per_page]],
            },
            "clients": [_client(client) for client in self.clients[:MOST_ROWS]],
            "matrix": matrix(self.reports.values(), self.hosts),
            "packages": packages(self.target, self.reports.values()),
        }

    def _fits(self, node: NodeStatus, query: Query) -> bool:
        if query.state and node.state != query.state:
            return False
        texts = (node.address, node.worker, node.role, node.detail, self.hosts.get(node.address, ""))
        return not query.find or any(query.find in text.lower() for text in texts)

    def _row(self, node: NodeStatus) -> dict[str, Any]:
        report, failure = self.reports.get(node.address), self.failures.get(node.address)
        return {
            "address": one_line(node.address),
            "role": one_line(node.role, 20),
            "worker": one_line(node.worker),
            "host": one_line(self.hosts.get(node.address, ""), 200),
            "state": one_line(node.state, 20),
            "since": node.since,
            "detail": several_lines(node.detail, 2_000),
            "layer": report.layer[:12] if report else "",
            "built": report.fetched if report else 0,
            "seconds": round(report.seconds, 3) if report else 0.0,
            "lines": _lines(report) if report else [],
            "last-words": several_lines(failure.last_words[-4_000:]) if failure else "",
            "advice": several_lines(failure.advice, 2_000) if failure else "",
        }


def _lines(report: NodeReport) -> list[str]:
    named = (
        ("installed", report.installed),
        ("replaced", report.replaced),
        ("hidden", report.hidden),
        ("skipped", report.skipped),
        ("note", report.notes),
    )
    lines = [f"{name}: {one_line(text, 500)}" for name, texts in named for text in texts]
    return lines if len(lines) <= LINES else [*lines[:LINES], f"and {len(lines) - LINES} more"]


def _client(client: ClientStatus) -> dict[str, Any]:
    return {
        "name": one_line(client.name, 200),
        "person": one_line(client.person, 200),
        "state": one_line(client.state, 20),
        "since": client.since,
        "detail": several_lines(client.detail, 2_000),
    }


def target_data(target: Target | None, rest: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the page says of a target, without indexes and stores; None if there is no target.

    Parameters
    ----------
    target : Target or None
    rest : dict
        Further keys, for example ``since``.
    """
    if target is None:
        return None
    policy, environment = target.policy, target.environment
    return {
        "id": target.id,
        "set-by": one_line(target.owner, 200),
        "python": environment.interpreter.version,
        "platform": one_line(environment.interpreter.platform, 100),
        "packages": len(environment.distributions),
        "conda-packages": len(environment.conda),
        "fingerprint": environment.fingerprint,
        "strict": policy.strict,
        "ignore": sorted(policy.ignore)[:MOST_ROWS],
        "only": None if policy.only is None else sorted(policy.only)[:MOST_ROWS],
        "extra": [one_line(text, 300) for text in policy.extra[:MOST_ROWS]],
        "levels": {name: level.value for name, level in policy.levels},
        "builds": policy.builds,
        **rest,
    }


def _package_of(text: str) -> tuple[str, str, str]:
    """Return name, version and reason of a package in a report, for example of ``numpy 2.1.0: builds is warn``."""
    name, _, rest = text.partition(" ")
    version, _, reason = rest.partition(": ")
    return name, version, reason


def matrix(reports: Iterable[NodeReport], hosts: Mapping[str, str]) -> dict[str, Any]:
    """Return which packages differ on which hosts; hosts with the same differences are one column."""
    of_host: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        of_host[hosts.get(report.address, report.address)].update(report.left_out)
    alike: dict[frozenset[str], list[str]] = defaultdict(list)
    for host, texts in of_host.items():
        alike[frozenset(texts)].append(host)
    columns = [(texts, sorted(names)) for texts, names in alike.items() if texts][:MOST_ROWS]
    columns.sort(key=lambda column: (-len(column[1]), column[1]))
    cells = [{_package_of(text)[0]: _package_of(text)[2] for text in texts} for texts, _ in columns]
    names = sorted({name for column in cells for name in column})
    return {
        "columns": [
            {"hosts": len(names), "names": [one_line(name, 200) for name in names[:5]]} for _, names in columns
        ],
        "alike": sum(len(names) for texts, names in alike.items() if not texts),
        "rows": [
            {"package": one_line(name, 200), "cells": [one_line(column.get(name, ""), 500) for column in cells]}
            for name in names[:MOST_ROWS]
        ],
    }


def packages(target: Target | None, reports: Iterable[NodeReport]) -> dict[str, Any]:
    """Return for each package that nodes got, or did not get, what was asked for, what they have, and why."""
    if target is None:
        return {"rows": [], "more": 0}
    found: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    for report in reports:
        for text in report.installed:
            name, version, _ = _package_of(text)
            found[name][version, ""] += 1
        for text in report.replaced:
            name, _, versions = text.partition(" ")
            old, _, new = versions.partition(" → ")
            found[name][new, f"was {old}"] += 1
        for text in report.skipped:
            name, _, reason = _package_of(text)
            found[name]["its own", reason] += 1
    rows = [
        {
            "package": one_line(name, 200),
            "asked": one_line(_asked(target, name), 200),
            "level": target.policy.rule(name).level.value,
            "critical": target.policy.rule(name).level is Level.CRITICAL,
            "got": [
                {"version": one_line(version, 200), "why": one_line(why, 500), "nodes": count}
                for (version, why), count in counts.most_common(5)
            ],
        }
        for name, counts in sorted(found.items())
    ]
    return {"rows": rows[:MOST_ROWS], "more": max(0, len(rows) - MOST_ROWS)}


def _asked(target: Target, name: str) -> str:
    if name in target.environment.conda:
        return target.environment.conda[name].label
    if name in target.environment.distributions:
        return target.environment.distributions[name].label
    return ""
