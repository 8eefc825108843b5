"""Shows the progress of a sync below the notebook cell that runs it."""

from __future__ import annotations

import threading
from html import escape
from typing import TYPE_CHECKING, Protocol

from dask_pkgsync.display.rollout_progress import (
    RolloutProgress,
    duration,
    failure_summary,
    headline,
    left_out_line,
    summary,
    waiting,
)
from dask_pkgsync.model.reports.progress import Reporter
from dask_pkgsync.model.text import html_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from dask_pkgsync.model.reports.discrepancies import Discrepancy
    from dask_pkgsync.model.reports.progress import Progress
    from dask_pkgsync.model.reports.sync import SyncReport


ROWS_IN_A_NOTEBOOK = 20
"""The most rows of the table in a notebook, where the height of the window is not known."""


class Canvas(Protocol):
    """A place in a notebook that shows HTML and can be updated (IPython's ``DisplayHandle``)."""

    def update(self, obj: Any) -> None:
        """Replace the shown HTML."""


class NotebookReporter(Reporter):
    """Draws a table of the nodes below the cell that runs the sync, and updates it while the sync runs.

    Parameters
    ----------
    canvas : Canvas, optional
        Where to draw; by default a new display below the running cell.
    html : callable, optional
        Wraps HTML text for the canvas; ``IPython.display.HTML`` by default.
    rollout : RolloutProgress, optional
        Collects the state of the nodes; a new one by default.
    interval : float
        Seconds between two updates of the display.
    """

    def __init__(
        self,
        canvas: Canvas | None = None,
        html: Callable[[str], Any] | None = None,
        *,
        rollout: RolloutProgress | None = None,
        interval: float = 0.25,
    ) -> None:
        self._rollout = rollout or RolloutProgress()
        self._end = ""
        self._discrepancies: tuple[Discrepancy, ...] = ()
        if canvas is None or html is None:
            from IPython.display import HTML, display  # type: ignore[import-not-found,unused-ignore]

            # The display must be made in the thread of the running cell to appear below that cell.
            html = HTML
            canvas = display(HTML(self._page()), display_id=True)
        self._canvas: Canvas = canvas
        self._html: Callable[[str], Any] = html
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_stopped, args=(interval,), daemon=True)

    def started(self, target: str) -> None:  # noqa: ARG002
        """Start to draw."""
        self._thread.start()

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Note for whom the sync waits; the next update of the display shows it."""
        self._rollout.note = waiting(owner, packages)

    def progressed(self, progress: Progress) -> None:
        """Note the step; the next update of the display shows it."""
        self._rollout.update(progress)

    def finished(self, report: SyncReport) -> None:
        """Draw for the last time, with a summary of the sync, and its discrepancies."""
        self._discrepancies = report.discrepancies
        self._close(summary(report, self._rollout.seconds))

    def failed(self, error: BaseException) -> None:
        """Draw for the last time, with a line that the sync failed; the raised error has the details."""
        self._close(failure_summary(error, self._rollout.seconds))

    def _close(self, line: str) -> None:
        if self._end:  # KeyboardInterrupt closed it already; the sync ends on the event loop later
            return
        self._rollout.stop()
        self._end = line[0].upper() + line[1:]
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self._draw()

    def _draw_until_stopped(self, interval: float) -> None:
        while not self._stop.wait(interval):
            self._draw()

    def _draw(self) -> None:
        self._canvas.update(self._html(self._page()))

    def _page(self) -> str:
        rows, left_out = self._rollout.rows(ROWS_IN_A_NOTEBOOK)
        now = self._rollout.now()
        cells = [[row.node, row.role, row.label, duration(row.elapsed(now)), row.detail] for row in rows]
        page = f"<b>{escape(self._end or headline(self._rollout))}</b>"
        if self._discrepancies:
            page += f"<ul>{''.join(f'<li>{escape(str(one))}</li>' for one in self._discrepancies)}</ul>"
        if cells:
            page += html_table(["node", "role", "step", "elapsed", "detail"], cells)
        if left_out:
            page += f"<i>{escape(left_out_line(self._rollout, left_out, ended=bool(self._end)))}</i>"
        return page
