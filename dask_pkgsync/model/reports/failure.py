"""Why a node does not match the target: the error on the node, its message to others, and the error of the sync."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.text import harmless, shown
from dask_pkgsync.model.wire.fields import MAX_LONG_TEXT, Field
from dask_pkgsync.model.wire.texts import one_line, several_lines

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class LayerError(PkgsyncError):
    """A node could not build or activate its layer.

    Attributes
    ----------
    step : str
        The step that failed, for example ``"install"``.
    problem : str
        One sentence that says what happened.
    advice : str
        What the user can do now.
    last_words : str
        The end of the installer's output, empty if no installer ran.
    packages : tuple of str
        The requirements that the installer names as the cause, if it names any.
    index_at_fault : bool
        Whether the cause is the index and not the node, so that the client may provide what the index lacks. It is not
        sent to other processes.
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
        """Name the step, the problem, the end of the installer's output, and what to do."""
        return str(NodeFailure("", self.step, self.problem, self.advice, self.last_words, self.packages))


def _layer_error(step: str, problem: str, advice: str, last_words: str, packages: tuple[str, ...]) -> LayerError:
    return LayerError(step, problem, advice=advice, last_words=last_words, packages=packages)


@dataclass(frozen=True)
class NodeFailure:
    """Why one node does not match the target."""

    node: str
    """Address of the node, for example ``tcp://10.0.0.3:40331``; empty if the failure is shown without its node."""
    step: str
    """The step that failed: scan, resolve, install, verify, activate, restart."""
    problem: str
    """One sentence that says what happened."""
    advice: str = ""
    """What the user can do now."""
    last_words: str = ""
    """The end of the installer's output, or of that of a command that was relaunched; empty if neither ran."""
    packages: tuple[str, ...] = ()
    """The requirements that the installer names as the cause, for example ``("numpy==1.99",)``."""

    def __repr__(self) -> str:
        """Return node, step and problem on one line."""
        problem = self.problem.partition("\n")[0]
        return f"<NodeFailure {self.node or 'here'}: {self.step}: {shown(problem, 200)}>"

    def __str__(self) -> str:
        """Return all fields on several lines."""
        head = f"{self.node}: " if self.node else ""
        lines = [f"{head}{self.step}: {self.problem}"]
        if self.packages:
            lines.append(f"  packages: {', '.join(self.packages)}")
        if self.last_words:
            whose = "its" if self.step in ("probe", "relaunch") else "the installer's"
            lines += [f"  {whose} last words:", *(f"  | {line}" for line in self.last_words.splitlines())]
        if self.advice:
            lines.append(f"  what to do: {self.advice}")
        return harmless("\n".join(lines))


class SyncError(PkgsyncError):
    """A sync failed on some nodes.

    Attributes
    ----------
    failures : dict of str to NodeFailure
        Why each failed node does not match the target, by the address of the node.
    adopted : bool
        True if the other nodes match the target and the failed ones left the cluster; False if no node was changed.
    """

    def __init__(self, failures: Mapping[str, NodeFailure], *, adopted: bool = False) -> None:
        super().__init__(dict(failures), adopted)
        self.failures = dict(failures)
        self.adopted = adopted

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the fields."""
        return _sync_error, (self.failures, self.adopted)

    def __str__(self) -> str:
        """List every failed node; nodes with the same failure share one entry."""
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
"""The most requirements that one failure names."""


def failure_to_wire(failure: NodeFailure) -> dict[str, Any]:
    """Return a failure as plain data."""
    return {
        "node": one_line(failure.node),
        "step": one_line(failure.step),
        "problem": several_lines(failure.problem),
        "advice": several_lines(failure.advice),
        "last-words": several_lines(failure.last_words[-MAX_LONG_TEXT:]),
        "packages": [one_line(package) for package in failure.packages[:MAX_BLAMED]],
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
