"""What a sync did to each node, as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, Literal

from dask_pkgsync.model.clash import MAX_CLASHES, clash_from_wire, clash_to_wire
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.plan import Install, Replace
from dask_pkgsync.model.reports.discrepancies import Discrepancy, page
from dask_pkgsync.model.resolutions.substitution import (
    substitution_from_wire,
    substitution_to_wire,
    table,
    table_html,
)
from dask_pkgsync.model.text import counted, html_table, human_bytes, text_table
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import SCHEMA
from dask_pkgsync.model.wire.texts import one_line

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dask_pkgsync.model.clash import Clash
    from dask_pkgsync.model.plan import Plan, Skip
    from dask_pkgsync.model.resolutions.substitution import Substitution


Outcome = Literal["matched", "live", "restarted", "relaunched", "started", "waiting", "left alone", "failed"]
OUTCOMES: tuple[Outcome, ...] = (
    "matched", "live", "restarted", "relaunched", "started", "waiting", "left alone", "failed"
)  # fmt: skip


@dataclass(frozen=True)
class NodeReport:
    """What a sync did to one node."""

    address: str
    """For example ``tcp://10.0.0.3:40331``."""
    role: str
    """``scheduler``, ``nanny`` or ``worker``."""
    outcome: Outcome = "matched"
    """``matched``: it matched the target already. ``live``: it activated its layer without a restart. ``restarted``:
    its worker was restarted once, in the layer. ``relaunched``: its process was executed anew in another interpreter.
    ``started``: it joined later, and its worker started in the layer.
    ``waiting``: its worker could not be drained, takes no tasks, and is restarted when the results it holds are no
    longer needed. ``left alone``: it runs in the client's own process, which is not changed. ``failed``: it does not
    match the target."""
    installed: tuple[str, ...] = ()
    """Packages that the base lacked, for example ``("numpy 2.1.0",)``."""
    replaced: tuple[str, ...] = ()
    """Packages that the base had in another version, for example ``("toolz 0.12.0 → 1.0.0",)``."""
    hidden: tuple[str, ...] = ()
    """Packages that only the base had, and that are no longer importable (under ``strict``)."""
    skipped: tuple[str, ...] = ()
    """Packages that differ and stay as they are, each with the reason."""
    notes: tuple[str, ...] = ()
    """What else the user should know, for example why the layer had to be complete."""
    seconds: float = 0.0
    """Seconds from the scheduler's call to the node's answer."""
    fetched: int = 0
    """Size in bytes of the layer that this host built for this sync (most of its files are links); 0 if a layer was
    reused or none was needed."""
    layer: str = ""
    """Digest of the layer, empty if the node needs none."""
    clashes: tuple[Clash, ...] = ()
    """Pairs of distributions that install different files at one path, so that the layer holds only one of them."""
    left_out: tuple[str, ...] = ()
    """Those of ``skipped`` that the policy does not ignore: the node should have them."""


def node_report(address: str, role: str, plan: Plan, **rest: Any) -> NodeReport:
    """Make the report of a node that carried out a plan; ``rest`` holds the further fields of the report."""
    return NodeReport(
        address,
        role,
        installed=tuple(f"{step.name} {step.version}" for step in plan.changes if isinstance(step, Install)),
        replaced=tuple(
            f"{step.name} {step.old} → {step.version}" for step in plan.changes if isinstance(step, Replace)
        ),
        hidden=tuple(f"{step.name} {step.version}" for step in plan.hidden),
        skipped=tuple(map(_skipped, plan.skipped)),
        left_out=tuple(_skipped(step) for step in plan.skipped if not step.ignored),
        **rest,
    )


def with_changes(report: NodeReport, changes: Iterable[str]) -> NodeReport:
    """Return a node's report with notes on what had changed on the node since it was prepared before.

    A change whose details (what follows its first colon) are in a note already is left out.
    """
    untold = (change for change in changes if not any(change.partition(": ")[2] in note for note in report.notes))
    return replace(report, notes=(*report.notes, *(f"prepared anew, as {change}" for change in untold)))


def _skipped(step: Skip) -> str:
    return f"{step.name} {step.version}: {step.reason}"


@dataclass(frozen=True)
class SyncReport:
    """What a sync did to each node.

    ``str(report)`` shows it as a table, followed by the packages of each group of nodes. The `headline` and the
    `discrepancies` come first.
    """

    target: str
    """Id of the target (64 hexadecimal digits); empty after a release."""
    nodes: tuple[NodeReport, ...]
    seconds: float = 0.0
    """Duration of the whole sync in seconds, measured by the scheduler."""
    steps: dict[str, float] = field(default_factory=dict)
    """Duration of each step of the whole sync in seconds: ``resolve``, ``prepare``, ``activate``."""
    here: tuple[Discrepancy, ...] = ()
    """What the client has found in its own process and environment that the nodes do not get as it is there."""
    substitutions: tuple[Substitution, ...] = ()
    """What the nodes of other platforms than the client's have in place of its packages: asked, got, why."""

    @property
    def discrepancies(self) -> tuple[Discrepancy, ...]:
        """What nodes have otherwise than the client, or not at all; empty if everything is as it is there."""
        counts = Counter(text for node in self.nodes for text in node.left_out)
        of_nodes = (
            Discrepancy(text.partition(" ")[0], text.partition(": ")[2], nodes=count if count < len(self.nodes) else 0)
            for text, count in counts.items()
        )
        of_platforms = [
            Discrepancy(row.name, f"nodes have {row.got or 'none'} in place of {row.asked} ({row.platform}): {row.why}")
            for row in self.substitutions
            if row.matters
        ]
        is_own = bool(self.nodes) and all(node.outcome == "left alone" for node in self.nodes)
        return (*(() if is_own else self.here), *of_platforms, *of_nodes)

    @property
    def ok(self) -> bool:
        """Whether every node matches, and has everything as the client has it."""
        matters = any(discrepancy.matters for discrepancy in self.discrepancies)
        return not matters and all(node.outcome not in ("waiting", "failed") for node in self.nodes)

    @property
    def changed(self) -> bool:
        """Whether the sync changed any node."""
        return any(node.outcome not in ("matched", "left alone") for node in self.nodes)

    @property
    def headline(self) -> str:
        """What to know before all else, for example that the cluster has no workers; empty if there is nothing."""
        if self.target and not any(node.role != "scheduler" for node in self.nodes):
            return "The cluster has no workers: those that join will start in this environment."
        return ""

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head = ["node", "role", "outcome", "installed", "replaced", "hidden", "skipped", "seconds", "built"]
        rows = [
            [
                node.address,
                node.role,
                node.outcome,
                str(len(node.installed)),
                str(len(node.replaced)),
                str(len(node.hidden)),
                str(len(node.skipped)),
                f"{node.seconds:.2f}",
                human_bytes(node.fetched),
            ]
            for node in self.nodes
        ]
        return head, rows

    def _details(self) -> list[tuple[str, list[str]]]:
        """Group nodes with the same changes, so that 400 workers do not fill 400 pages."""
        groups: dict[tuple[tuple[str, ...], ...], list[str]] = {}
        for node in self.nodes:
            groups.setdefault((node.installed, node.replaced, node.hidden, node.skipped, node.notes), []).append(
                node.address
            )
        details = []
        for parts, addresses in groups.items():
            names = ("installed", "replaced", "hidden", "skipped", "note")
            lines = [f"{name}: {text}" for name, texts in zip(names, parts, strict=True) for text in texts]
            if lines:
                details.append((", ".join(addresses), lines))
        return details

    def __repr__(self) -> str:
        """Return the number of nodes, and of nodes with each outcome, on one line."""
        outcomes = Counter(node.outcome for node in self.nodes)
        counts = "".join(f", {count} {outcome}" for outcome, count in sorted(outcomes.items()))
        return f"<SyncReport {self.target[:12]}…: {counted(len(self.nodes), 'node')}{counts}>"

    def __str__(self) -> str:
        """Return the discrepancies, a table of the nodes, then the packages that changed on each group of nodes."""
        discrepancies = self.discrepancies
        parts = [*filter(None, [self.headline])]
        parts += [f"{_EXCEPT}\n{page(discrepancies)}"] if discrepancies else []
        parts += [f"{_OTHERWISE}\n{table(self.substitutions)}"] if self.substitutions else []
        parts.append(text_table(*self._table()))
        parts += ["\n".join([nodes, *(f"  {line}" for line in lines)]) for nodes, lines in self._details()]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        lines = "".join(f"<li>{escape(str(discrepancy))}</li>" for discrepancy in self.discrepancies)
        head = f"<p><b>{escape(_EXCEPT)}</b></p><ul>{lines}</ul>" if lines else ""
        details = "".join(
            f"<details><summary>{escape(nodes)}</summary><ul>"
            + "".join(f"<li>{escape(line)}</li>" for line in lines)
            + "</ul></details>"
            for nodes, lines in self._details()
        )
        headline = f"<p>{escape(self.headline)}</p>" if self.headline else ""
        if self.substitutions:
            head += f"<p><b>{escape(_OTHERWISE)}</b></p>{table_html(self.substitutions)}"
        return headline + head + html_table(*self._table()) + details


_OTHERWISE = "On the nodes' platform, which is not yours, these are otherwise than asked:"
_EXCEPT = "The nodes have your environment, but note:"


def report_to_wire(report: NodeReport) -> dict[str, Any]:
    """Return a node's report as plain data."""
    return {
        "schema": SCHEMA,
        "address": one_line(report.address),
        "role": one_line(report.role, 20),
        "outcome": report.outcome,
        "installed": [one_line(text) for text in report.installed],
        "replaced": [one_line(text) for text in report.replaced],
        "hidden": [one_line(text) for text in report.hidden],
        "skipped": [one_line(text) for text in report.skipped],
        "notes": [one_line(text) for text in report.notes],
        "seconds": report.seconds,
        "fetched": report.fetched,
        "layer": one_line(report.layer, 100),
        "clashes": [clash_to_wire(clash) for clash in report.clashes[:MAX_CLASHES]],
        "left-out": [one_line(text) for text in report.left_out],
    }


def outcome_of(text: object, place: str = "outcome") -> Outcome:
    """Check an outcome that another process sent."""
    known = next((outcome for outcome in OUTCOMES if outcome == text), None)
    if known is None:
        raise MessageError(place, f"one of {', '.join(OUTCOMES)}", text)
    return known


def report_from_wire(data: object, place: str = "report") -> NodeReport:
    """Check and read what `report_to_wire` wrote."""
    root = Field(data, place)
    root.schema()

    def texts(name: str) -> tuple[str, ...]:
        return tuple(entry.text() for entry in root.key(name).items())

    return NodeReport(
        root.key("address").text(),
        root.key("role").text(20),
        outcome_of(root.key("outcome").text(20), f"{place}.outcome"),
        texts("installed"),
        texts("replaced"),
        texts("hidden"),
        texts("skipped"),
        texts("notes"),
        root.key("seconds").number(),
        int(root.key("fetched").number()),
        root.key("layer").text(100),
        tuple(clash_from_wire(entry.value, entry.place) for entry in root.key("clashes").items(MAX_CLASHES)),
        tuple(entry.text() for entry in root.optional("left-out", []).items()),
    )


def sync_report_to_wire(report: SyncReport) -> dict[str, Any]:
    """Return the report of a sync as plain data."""
    return {
        "schema": SCHEMA,
        "target": one_line(report.target, 100),
        "nodes": [report_to_wire(node) for node in report.nodes],
        "seconds": report.seconds,
        "steps": {one_line(step, 50): seconds for step, seconds in report.steps.items()},
        **({"substitutions": [*map(substitution_to_wire, report.substitutions)]} if report.substitutions else {}),
    }


def sync_report_from_wire(data: object, place: str = "report") -> SyncReport:
    """Check and read what `sync_report_to_wire` wrote."""
    root = Field(data, place)
    root.schema()
    steps = root.key("steps")
    nodes = tuple(report_from_wire(entry.value, entry.place) for entry in root.key("nodes").items())
    if not isinstance(steps.value, dict):
        raise MessageError(steps.place, "a dictionary", steps.value)
    names = [Field(name, steps.place).text(50) for name in steps.value]
    return SyncReport(
        root.key("target").text(100),
        nodes,
        root.key("seconds").number(),
        {name: steps.key(name).number() for name in names},
        substitutions=tuple(substitution_from_wire(entry) for entry in root.optional("substitutions", []).items()),
    )
