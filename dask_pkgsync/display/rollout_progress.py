"""The state of a running sync for display: the step of each node, its duration, and sentences about them."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING

from dask_pkgsync.model.reports.discrepancies import exceptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dask_pkgsync.model.reports.progress import Progress, StepState
    from dask_pkgsync.model.reports.sync import SyncReport


DOING = {"resolve": "resolving", "prepare": "preparing", "drain": "draining", "activate": "activating"}
"""The label of a node during each step."""
SHOWN = 5
"""The most packages that one line names."""
DONE = {"resolve": "resolved", "prepare": "prepared", "activate": "ready"}
"""The label of a node after each step."""


@dataclass(frozen=True, slots=True)
class NodeProgress:
    """The latest step of one node."""

    node: str
    """Address of the node, for example ``tcp://10.0.0.3:40331``."""
    role: str
    """``scheduler``, ``nanny`` or ``worker``."""
    step: str
    """``resolve``, ``prepare``, ``drain`` or ``activate``."""
    state: StepState
    detail: str
    """A text for people, for example ``restarted``."""
    since: float
    """Time when the step began, in seconds by the clock of the `RolloutProgress`."""
    took: float | None = None
    """Seconds that the step took; None while it runs."""

    @property
    def label(self) -> str:
        """The step and its state as words, for example ``preparing``, ``prepared``, ``prepare failed``."""
        if self.state == "failed":
            return f"{self.step} failed"
        if self.state == "waiting":
            return "waiting"
        words = DOING if self.state == "started" else DONE
        return words.get(self.step, f"{self.step} {self.state}")

    def elapsed(self, now: float) -> float:
        """Return the seconds that the step took, or has taken until now."""
        return now - self.since if self.took is None else self.took


class RolloutProgress:
    """The latest step of every node in one sync. Several threads may use it at the same time.

    Parameters
    ----------
    clock : callable, optional
        Returns a time in seconds; its zero does not matter.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._rows: dict[str, NodeProgress] = {}
        self.began = clock()
        self.note = ""
        """For whom the sync waits before its first step; else empty."""

    @property
    def seconds(self) -> float:
        """Seconds since the sync began."""
        return self._clock() - self.began

    def now(self) -> float:
        """Return the time by the clock, in seconds."""
        return self._clock()

    def update(self, progress: Progress) -> NodeProgress:
        """Note the beginning or end of a step, and return the new row of its node."""
        now = self._clock()
        with self._lock:
            old = self._rows.get(progress.node)
            same = old is not None and old.step == progress.step and old.state == "started"
            since = old.since if same and old is not None else now
            took = None if progress.state == "started" else now - since
            row = NodeProgress(
                progress.node, progress.role, progress.step, progress.state, progress.detail, since, took
            )
            self._rows[progress.node] = row
            self.note = ""
        return row

    def stop(self) -> None:
        """End all running steps, because the sync has ended and no further progress will arrive."""
        now = self._clock()
        with self._lock:
            for node, row in self._rows.items():
                if row.took is None:
                    self._rows[node] = replace(row, took=now - row.since)

    def counts(self) -> dict[str, int]:
        """Return the number of nodes with each label, for example ``{"preparing": 3, "ready": 397}``."""
        with self._lock:
            return dict(sorted(Counter(row.label for row in self._rows.values()).items()))

    def rows(self, limit: int) -> tuple[list[NodeProgress], int]:
        """Return the rows to show, at most ``limit``, and the number of nodes that are left out.

        If there are more nodes than that, nodes whose step has finished are left out, failed nodes come first, and the
        others follow in the order in which their steps began.
        """
        with self._lock:
            known = list(self._rows.values())
        if len(known) <= limit:
            return known, 0
        urgent = [row for row in known if row.state != "finished"]
        urgent.sort(key=lambda row: (row.state != "failed", row.since))
        return urgent[:limit], len(known) - len(urgent[:limit])


def duration(seconds: float) -> str:
    """Write seconds for people, for example ``1.3 s``, ``42 s`` or ``3 min 05 s``."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"


def nodes(count: int) -> str:
    """Return a number of nodes with its noun, for example ``1 node`` or ``3 nodes``."""
    return f"{count} node" if count == 1 else f"{count} nodes"


def waiting(owner: str, packages: Sequence[str]) -> str:
    """Say for whom a sync waits: ``waiting until ann@laptop has disconnected: numpy, six conflict``."""
    more = f" and {len(packages) - SHOWN} more" if len(packages) > SHOWN else ""
    verb = "conflicts" if len(packages) == 1 else "conflict"
    return f"waiting until {owner} has disconnected: {', '.join(packages[:SHOWN])}{more} {verb}"


def summary(report: SyncReport, seconds: float) -> str:
    """Say in one line how a sync ended, for example ``3 nodes match your environment after 2.1 s: 2 restarted``."""
    but = exceptions(report.discrepancies)
    if report.headline:
        return f"{report.headline.rstrip('.')} (after {duration(seconds)}){but}"
    outcomes = Counter(node.outcome for node in report.nodes)
    counts = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    verb = "matches" if len(report.nodes) == 1 else "match"
    text = f"{nodes(len(report.nodes))} {verb} your environment after {duration(seconds)}{but}"
    return f"{text}: {counts}" if counts else text


def failure_summary(error: BaseException, seconds: float) -> str:
    """Say in one line that a sync ended with an error, without the details: the error itself is raised right after."""
    failures = getattr(error, "failures", None)
    if failures:
        return f"sync failed on {nodes(len(failures))} after {duration(seconds)}"
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted after {duration(seconds)}; the scheduler goes on with the sync by itself"
    return f"sync ended after {duration(seconds)}: {type(error).__name__}"


def headline(rollout: RolloutProgress) -> str:
    """Say in one line how long the sync has run, and how many nodes are at each step."""
    now = rollout.note or counts_line(rollout)
    return f"Syncing for {duration(rollout.seconds)}" + (f": {now}" if now else " …")


def counts_line(rollout: RolloutProgress) -> str:
    """Say how many nodes are at each step, for example ``3 preparing, 397 ready``."""
    return ", ".join(f"{count} {label}" for label, count in rollout.counts().items())


def left_out_line(rollout: RolloutProgress, left_out: int, *, ended: bool) -> str:
    """Say how many nodes are not shown, and after the end the counts of all, which the headline shows until then."""
    return f"… and {nodes(left_out)} more" + (f"; in all {counts_line(rollout)}" if ended else "")
