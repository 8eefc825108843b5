"""What a sync did to each node, as a table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from html import escape
from typing import TYPE_CHECKING, Literal

from dask_pkgsync.model.clash import MAX_CLASHES, clash_from_wire, clash_to_wire
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.plan import Install, Replace
from dask_pkgsync.model.text import counted, html_table, human_bytes, text_table
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.model.wire.protocol import SCHEMA

if TYPE_CHECKING:
    from typing import Any

    from dask_pkgsync.model.clash import Clash
    from dask_pkgsync.model.plan import Plan


Outcome = Literal["matched", "live", "restarted", "started", "waiting", "left alone", "failed"]
OUTCOMES: tuple[Outcome, ...] = ("matched", "live", "restarted", "started", "waiting", "left alone", "failed")


@dataclass(frozen=True)
class NodeReport:
    """What happened to one node."""

    address: str
    """For example ``tcp://10.0.0.3:40331``."""
    role: str
    """``scheduler``, ``nanny`` or ``worker``."""
    outcome: Outcome = "matched"
    """``matched``: it had everything already. ``live``: without a restart. ``restarted``: once, into its layer.
    ``started``: it joined later and started in its layer. ``waiting``: it could not be drained, takes no tasks, and is
    restarted when what it holds is not needed any more. ``left alone``: it is the person's own process."""
    installed: tuple[str, ...] = ()
    """What the base lacked, for example ``("numpy 2.1.0",)``."""
    replaced: tuple[str, ...] = ()
    """What the base had in another version, for example ``("toolz 0.12.0 → 1.0.0",)``."""
    hidden: tuple[str, ...] = ()
    """What only the base had, under ``strict``."""
    skipped: tuple[str, ...] = ()
    """What differs and was left alone, each with its reason."""
    notes: tuple[str, ...] = ()
    """What the person should know, for example why the layer had to be complete."""
    seconds: float = 0.0
    """From the order to the node's answer."""
    fetched: int = 0
    """Bytes of the layer that was built on this host for this sync, most of them links; 0 where one was reused."""
    layer: str = ""
    """Digest of the layer, empty without one."""
    clashes: tuple[Clash, ...] = ()
    """What the layer cannot hold both of."""


def node_report(address: str, role: str, plan: Plan, **rest: Any) -> NodeReport:
    """Make a report from the plan a node carried out."""
    return NodeReport(
        address,
        role,
        installed=tuple(f"{step.name} {step.version}" for step in plan.changes if isinstance(step, Install)),
        replaced=tuple(
            f"{step.name} {step.old} → {step.version}" for step in plan.changes if isinstance(step, Replace)
        ),
        hidden=tuple(f"{step.name} {step.version}" for step in plan.hidden),
        skipped=tuple(f"{step.name} {step.version}: {step.reason}" for step in plan.skipped),
        **rest,
    )


@dataclass(frozen=True)
class SyncReport:
    """What a sync did, node by node."""

    target: str
    """Name of the target: 64 hexadecimal digits."""
    nodes: tuple[NodeReport, ...]
    seconds: float = 0.0
    """For the whole sync, as the scheduler saw it."""
    steps: dict[str, float] = field(default_factory=dict)
    """Seconds by step of the whole sync: resolve, prepare, activate."""

    @property
    def changed(self) -> bool:
        """Whether any node was changed."""
        return any(node.outcome not in ("matched", "left alone") for node in self.nodes)

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
        """Group nodes to which the same was done, so that 400 workers do not fill 400 pages."""
        groups: dict[tuple[tuple[str, ...], ...], list[str]] = {}
        for node in self.nodes:
            groups.setdefault((node.installed, node.replaced, node.hidden, node.skipped, node.notes), []).append(
                node.address
            )
        found = []
        for parts, addresses in groups.items():
            names = ("installed", "replaced", "hidden", "skipped", "note")
            lines = [f"{name}: {text}" for name, texts in zip(names, parts, strict=True) for text in texts]
            if lines:
                found.append((", ".join(addresses), lines))
        return found

    def __repr__(self) -> str:
        """Say in one line what became of how many nodes."""
        outcomes = Counter(node.outcome for node in self.nodes)
        told = "".join(f", {count} {outcome}" for outcome, count in sorted(outcomes.items()))
        return f"<SyncReport {self.target[:12]}…: {counted(len(self.nodes), 'node')}{told}>"

    def __str__(self) -> str:
        """Lay the report out: a table, then what was done to which nodes."""
        parts = [text_table(*self._table())]
        parts += ["\n".join([nodes, *(f"  {line}" for line in lines)]) for nodes, lines in self._details()]
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        details = "".join(
            f"<details><summary>{escape(nodes)}</summary><ul>"
            + "".join(f"<li>{escape(line)}</li>" for line in lines)
            + "</ul></details>"
            for nodes, lines in self._details()
        )
        return html_table(*self._table()) + details


def report_to_wire(report: NodeReport) -> dict[str, Any]:
    """Return a node's report as plain data."""
    return {
        "schema": SCHEMA,
        "address": report.address,
        "role": report.role,
        "outcome": report.outcome,
        "installed": list(report.installed),
        "replaced": list(report.replaced),
        "hidden": list(report.hidden),
        "skipped": list(report.skipped),
        "notes": list(report.notes),
        "seconds": report.seconds,
        "fetched": report.fetched,
        "layer": report.layer,
        "clashes": [clash_to_wire(clash) for clash in report.clashes[:MAX_CLASHES]],
    }


def outcome_of(text: object, place: str = "outcome") -> Outcome:
    """Check an outcome from another process."""
    known = next((one for one in OUTCOMES if one == text), None)
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
    )


def sync_report_to_wire(report: SyncReport) -> dict[str, Any]:
    """Return a report as plain data."""
    return {
        "schema": SCHEMA,
        "target": report.target,
        "nodes": [report_to_wire(node) for node in report.nodes],
        "seconds": report.seconds,
        "steps": dict(report.steps),
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
    )
