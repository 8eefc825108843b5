"""Shows the progress of a sync as plain lines, for logs and pipes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dask_pkgsync.display.rollout_progress import RolloutProgress, duration, failure_summary, summary, waiting
from dask_pkgsync.model.reports.progress import Reporter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from dask_pkgsync.model.reports.progress import Progress
    from dask_pkgsync.model.reports.sync import SyncReport


class PlainReporter(Reporter):
    """Writes a line at the start, for each step that ends on a node, and at the end."""

    def __init__(self, file: TextIO | None, rollout: RolloutProgress | None = None) -> None:
        self._file = file
        self._rollout = rollout or RolloutProgress()

    def started(self, target: str) -> None:
        """Write the start of the target's id."""
        self._write(f"syncing to environment {target[:12]}")

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Write for whom the sync waits."""
        self._write(waiting(owner, packages))

    def progressed(self, progress: Progress) -> None:
        """Write a line if the step has ended."""
        row = self._rollout.update(progress)
        if row.took is not None:
            detail = f": {row.detail}" if row.detail else ""
            after = "after" if row.state == "waiting" else "in"
            self._write(f"{row.role} {row.node} {row.label} {after} {duration(row.took)}{detail}")

    def finished(self, report: SyncReport) -> None:
        """Write a summary of the sync, and a line for each discrepancy."""
        self._write(summary(report, self._rollout.seconds))
        for discrepancy in report.discrepancies:
            self._write(str(discrepancy))

    def failed(self, error: BaseException) -> None:
        """Write that the sync failed; the raised error has the details."""
        self._write(failure_summary(error, self._rollout.seconds))

    def _write(self, line: str) -> None:
        if self._file is not None and not self._file.closed:
            self._file.write(f"pkgsync: {line}\n")
            self._file.flush()
