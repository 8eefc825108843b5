"""What a sync would do to each node, found out without changing anything, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import compare
from dask_pkgsync.model.plan import Hide, Install, Replace, Skip, make_plan
from dask_pkgsync.model.policy import Level
from dask_pkgsync.model.prefix_plan import make_prefix_plan
from dask_pkgsync.model.text import counted, html_table, human_bytes, text_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dask_pkgsync.model.plan import Step
    from dask_pkgsync.model.reports.cluster_comparison import ClusterComparison, NodeGroup
    from dask_pkgsync.model.target import Target

NAMED = 5
"""The most modules that a text names."""


@dataclass(frozen=True, slots=True)
class Supply:
    """Where the nodes get one package of the client's from, as far as the client knows."""

    source: str
    """For people, for example ``index`` or ``this client (/home/ann/project)``."""
    size: int | None = None
    """The bytes of its files, unpacked; None if it is not known."""
    modules: frozenset[str] = frozenset()
    """The top-level modules that it has."""


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """A package that nodes would get."""

    name: str
    old: str
    """The version that it replaces there; empty if there is none."""
    new: str
    """The version that the nodes would get."""
    supply: Supply

    @property
    def action(self) -> str:
        """``install`` or ``replace``."""
        return "replace" if self.old else "install"


@dataclass(frozen=True)
class PlannedNodes:
    """What a sync would do to nodes that are alike."""

    label: str
    """For example ``scheduler, 4 workers``."""
    nodes: tuple[str, ...]
    """Their addresses; a nanny and its worker are one node, with the address of the worker."""
    changes: tuple[PlannedChange, ...] = ()
    hidden: tuple[str, ...] = ()
    """Packages that would no longer be importable there (under ``strict``)."""
    skipped: tuple[str, ...] = ()
    """Packages that differ and would stay as they are, although the policy does not ignore them, with the reason."""
    effects: tuple[str, ...] = ()
    """What would happen to the processes, for example that workers are restarted, and why; a sentence each."""
    refusals: tuple[str, ...] = ()
    """Why these nodes cannot be synced, a sentence each; empty if they can."""

    @property
    def size(self) -> int:
        """The bytes of the packages that one of these nodes would get, as far as they are known, unpacked."""
        return sum(change.supply.size or 0 for change in self.changes)

    @property
    def is_affected(self) -> bool:
        """Whether there is anything to tell about these nodes."""
        return bool(self.changes or self.hidden or self.skipped or self.refusals)


@dataclass(frozen=True)
class SyncPreview:
    """What a sync would do; nothing was changed to find it out.

    It is true if the sync would change any node. ``str(preview)`` is the comparison, followed by the plan for each kind
    of node.
    """

    target: str
    """Id of the target that the sync would ask for (64 hexadecimal digits)."""
    comparison: ClusterComparison
    """How the nodes differ now."""
    nodes: tuple[PlannedNodes, ...]

    def __bool__(self) -> bool:
        """Whether the sync would change any node, or would fail."""
        return any(planned.changes or planned.hidden or planned.refusals for planned in self.nodes)

    @property
    def ok(self) -> bool:
        """Whether nothing is known that would make the sync fail."""
        return not any(planned.refusals for planned in self.nodes) and not self.comparison.unseen

    @property
    def headline(self) -> str:
        """The plan in one sentence."""
        if not self.ok:
            return "A sync would fail:" if any(one.refusals for one in self.nodes) else "Not all nodes could be seen:"
        if not self:
            return "A sync would change nothing."
        changed = sum(len(one.nodes) for one in self.nodes if one.changes or one.hidden)
        size = max((one.size for one in self.nodes), default=0)
        most = f", at most {human_bytes(size)} on each host" if size else ""
        return f"A sync would change {counted(changed, 'node')}{most}:"

    def _tables(self) -> list[tuple[str, list[list[str]], list[str]]]:
        """Return for each kind of nodes that is affected: its heading, the rows of changes, and further lines."""
        return [
            (
                f"{one.label}: {counted(len(one.changes), 'package')}, {human_bytes(one.size)}",
                [
                    [change.action, change.name, change.old, change.new, change.supply.source, _size(change)]
                    for change in one.changes
                ],
                [
                    *(f"refused: {text}" for text in one.refusals),
                    *one.effects,
                    *(f"hidden: {text}" for text in one.hidden),
                    *(f"skipped: {text}" for text in one.skipped),
                ],
            )
            for one in self.nodes
            if one.is_affected
        ]

    def __repr__(self) -> str:
        """Return the headline."""
        return f"<SyncPreview {self.target[:12]}…: {self.headline.rstrip(':.')}>"

    def __str__(self) -> str:
        """Return the comparison, and the plan for each kind of node."""
        parts = [str(self.comparison), self.headline]
        for heading, rows, lines in self._tables():
            parts.append("\n".join([heading, *([text_table(_HEAD, rows)] if rows else []), *(f"  {x}" for x in lines)]))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        html = f"{self.comparison._repr_html_()}<p>{escape(self.headline)}</p>"
        for heading, rows, lines in self._tables():
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            html += f"<p><b>{escape(heading)}</b></p>{html_table(_HEAD, rows) if rows else ''}<ul>{items}</ul>"
        return html


_HEAD = ["action", "package", "now", "then", "from", "size"]


def _size(change: PlannedChange) -> str:
    return "?" if change.supply.size is None else human_bytes(change.supply.size)


def preview(target: Target, comparison: ClusterComparison, supplies: Mapping[str, Supply]) -> SyncPreview:
    """Plan what a sync would do to each kind of node.

    Parameters
    ----------
    target : Target
        What the sync would ask for.
    comparison : ClusterComparison
        The nodes, compared with the target's environment.
    supplies : mapping of str to Supply
        Where the nodes would get each package of the target from.
    """
    return SyncPreview(target.id, comparison, tuple(_planned(target, group, supplies) for group in comparison.groups))


def _planned(target: Target, group: NodeGroup, supplies: Mapping[str, Supply]) -> PlannedNodes:
    base, policy = group.environment, target.policy
    addresses = tuple(node.address for node in group.nodes if node.role != "nanny")
    refusals = tuple(
        f"{row.name}: the nodes have {row.found}, you have {row.expected}; no layer can replace it"
        for row in compare(target.environment, base, policy)
        if row.level is Level.CRITICAL
    )
    if refusals or all(not node.is_judged_whole for node in group.nodes):
        return PlannedNodes(group.label, addresses, refusals=refusals)
    prefix, plan = make_prefix_plan(base, target.environment, policy), make_plan(base, target.environment, policy)
    of_conda = {name for package in prefix.packages for name in package.distributions}
    steps: list[Step] = [*prefix.steps, *(step for step in plan.steps if step.name not in of_conda)]
    changes = tuple(
        PlannedChange(
            step.name,
            step.old if isinstance(step, Replace) else "",
            step.version,
            supplies.get(step.name, Supply("index")),
        )
        for step in steps
        if isinstance(step, Install | Replace)
    )
    return PlannedNodes(
        group.label,
        addresses,
        changes,
        tuple(f"{step.name} {step.version}" for step in steps if isinstance(step, Hide)),
        tuple(
            f"{step.name} {step.version}: {step.reason}"
            for step in steps
            if isinstance(step, Skip) and not step.ignored
        ),
        tuple(_effects(group, changes)) if changes else (),
    )


def _effects(group: NodeGroup, changes: Iterable[PlannedChange]) -> Iterable[str]:
    """Yield what happens to processes: a running worker takes only what it has not imported yet."""
    tops = frozenset(top for change in changes for top in change.supply.modules if change.old)
    workers = [node for node in group.nodes if node.role == "worker"]
    late = [node for node in workers if node.imported & tops]
    names = sorted({name for node in late for name in node.imported & tops})
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    which = f"{', '.join(names[:NAMED])}{more}"
    if nannied := sum(bool(node.nanny) for node in late):
        yield (
            f"restarted: {counted(nannied, 'worker')}, which has imported {which}"
            if nannied == 1
            else (f"restarted: {counted(nannied, 'worker')}, which have imported {which}")
        )
    if stuck := len(late) - nannied:
        yield f"would fail: {counted(stuck, 'worker')} without a nanny, as {which} was imported there"
    if live := len(workers) - len(late):
        yield f"live: {counted(live, 'worker')}, without a restart"
    for node in group.nodes:
        if node.role == "scheduler" and (own := sorted(node.imported & tops)):
            yield f"the scheduler keeps what it has imported: {', '.join(own[:NAMED])}"
