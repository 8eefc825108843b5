"""Why a node does not have the target, as an error where it happens and as a message to others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.text import harmless, shown
from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT, Field

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class LayerError(PkgsyncError):
    """A node could not be given its layer.

    Attributes
    ----------
    step : str
        What was being done, for example ``"install"``.
    problem : str
        One sentence: what happened.
    advice : str
        What the person can do now.
    last_words : str
        The end of the installer's own output, empty if no installer ran.
    packages : tuple of str
        The requirements that the installer blames, as far as it names them.
    index_at_fault : bool
        Whether the index, not the node, is why: then the client may have what the index does not give. Stays in its
        process.
    """

    def __init__(
        self,
        step: str,
        problem: str,
        *,
        advice: str = "",
        last_words: str = "",
        packages: tuple[str, ...] = (),
        index_at_fault: bool = False,
    ) -> None:
        super().__init__(step, problem, advice, last_words, packages)
        self.step, self.problem, self.advice = step, problem, advice
        self.last_words, self.packages = last_words, packages
        self.index_at_fault = index_at_fault

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields."""
        return _layer_error, (self.step, self.problem, self.advice, self.last_words, self.packages)

    def __str__(self) -> str:
        """Say what happened, what the installer said, and what to do."""
        return str(NodeFailure("", self.step, self.problem, self.advice, self.last_words, self.packages))


def _layer_error(step: str, problem: str, advice: str, last_words: str, packages: tuple[str, ...]) -> LayerError:
    return LayerError(step, problem, advice=advice, last_words=last_words, packages=packages)


@dataclass(frozen=True)
class NodeFailure:
    """Why one node does not have the target."""

    node: str
    """Address of the node, for example ``tcp://10.0.0.3:40331``; empty where only one node is spoken of."""
    step: str
    """What was being done: scan, resolve, install, verify, activate, restart."""
    problem: str
    """One sentence that says what happened."""
    advice: str = ""
    """What the person can do now."""
    last_words: str = ""
    """The end of the installer's own output."""
    packages: tuple[str, ...] = ()
    """The requirements that the installer blames, for example ``("numpy==1.99",)``."""

    def __repr__(self) -> str:
        """Say in one line which node failed at what."""
        problem = self.problem.partition("\n")[0]
        return f"<NodeFailure {self.node or 'here'}: {self.step}: {shown(problem, 200)}>"

    def __str__(self) -> str:
        """Lay the fields out for reading."""
        head = f"{self.node}: " if self.node else ""
        lines = [f"{head}{self.step}: {self.problem}"]
        if self.packages:
            lines.append(f"  packages: {', '.join(self.packages)}")
        if self.last_words:
            lines += ["  the installer's last words:", *(f"  | {line}" for line in self.last_words.splitlines())]
        if self.advice:
            lines.append(f"  what to do: {self.advice}")
        return harmless("\n".join(lines))


class SyncError(PkgsyncError):
    """Some nodes could not be made to match the target.

    Attributes
    ----------
    failures : dict of str to NodeFailure
        Node address to the reason.
    adopted : bool
        True if the other nodes have the target and the failed ones left the cluster; False if nothing was changed.
    """

    def __init__(self, failures: Mapping[str, NodeFailure], *, adopted: bool = False) -> None:
        super().__init__(dict(failures), adopted)
        self.failures = dict(failures)
        self.adopted = adopted

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields."""
        return _sync_error, (self.failures, self.adopted)

    def __str__(self) -> str:
        """List every failed node; the same reason on several nodes is told once."""
        groups: dict[NodeFailure, list[str]] = {}
        for node, failure in self.failures.items():
            bare = NodeFailure("", failure.step, failure.problem, failure.advice, failure.last_words, failure.packages)
            groups.setdefault(bare, []).append(node)
        outcome = (
            "The other nodes have your environment; these have left the cluster."
            if self.adopted
            else "No node was changed; the cluster is as it was."
        )
        parts = [f"{', '.join(nodes)}\n{failure}" for failure, nodes in groups.items()]
        count = len(self.failures)
        return f"{count} {'node' if count == 1 else 'nodes'} could not be synced. {outcome}\n\n" + "\n\n".join(parts)


def _sync_error(failures: dict[str, NodeFailure], adopted: bool) -> SyncError:  # noqa: FBT001
    return SyncError(failures, adopted=adopted)


MAX_BLAMED = 100
"""Requirements that one failure names."""


def failure_to_wire(failure: NodeFailure) -> dict[str, Any]:
    """Return a failure as plain data."""
    return {
        "node": failure.node,
        "step": failure.step,
        "problem": failure.problem,
        "advice": failure.advice,
        "last-words": failure.last_words[-MAX_LONG_TEXT:],
        "packages": list(failure.packages[:MAX_BLAMED]),
    }


def failure_from_wire(data: object, place: str = "failure") -> NodeFailure:
    """Check and read what `failure_to_wire` wrote."""
    field = Field(data, place)
    return NodeFailure(
        field.key("node").text(),
        field.key("step").text(),
        field.key("problem").long_text(),
        field.key("advice").long_text(),
        field.key("last-words").long_text(),
        tuple(entry.text() for entry in field.key("packages").items(MAX_BLAMED)),
    )
