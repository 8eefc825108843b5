"""Progress in the cell of a notebook that runs the sync."""

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

    from dask_pkgsync.model.reports.progress import Progress
    from dask_pkgsync.model.reports.sync import SyncReport


ROWS_IN_A_NOTEBOOK = 20
"""Lines of the table in a notebook, where nothing says how tall the window is."""


class Canvas(Protocol):
    """Something in a notebook that shows HTML and can be drawn again (IPython's ``DisplayHandle``)."""

    def update(self, obj: Any) -> None:
        """Replace what is shown."""


class NotebookReporter(Reporter):
    """Draws the table into the cell that runs the sync, and again as things change.

    Parameters
    ----------
    canvas : Canvas, optional
        Where to draw; a new display of the running cell by default.
    html : callable, optional
        Wraps HTML text for the canvas; ``IPython.display.HTML`` by default.
    interval : float
        Seconds between two frames.
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
        if canvas is None or html is None:
            from IPython.display import HTML, display  # type: ignore[import-not-found,unused-ignore]

            # The display has to be made here, in the thread of the running cell, to appear below it.
            html = HTML
            canvas = display(HTML(self._page()), display_id=True)
        self._canvas: Canvas = canvas
        self._html: Callable[[str], Any] = html
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._draw_until_stopped, args=(interval,), daemon=True)

    def started(self, target: str) -> None:  # noqa: ARG002
        """Begin to draw."""
        self._thread.start()

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Take it in; the next frame shows it."""
        self._rollout.note = waiting(owner, packages)

    def progressed(self, progress: Progress) -> None:
        """Take it in; the next frame shows it."""
        self._rollout.update(progress)

    def finished(self, report: SyncReport) -> None:
        """Draw the last frame and how it ended."""
        self._close(summary(report, self._rollout.seconds))

    def failed(self, error: BaseException) -> None:
        """Draw the last frame and that it failed; the error tells the rest."""
        self._close(failure_summary(error, self._rollout.seconds))

    def _close(self, line: str) -> None:
        if self._end:  # interrupted here, and ended on the event loop later
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
        if cells:
            page += html_table(["node", "role", "step", "elapsed", "detail"], cells)
        if left_out:
            page += f"<i>{escape(left_out_line(self._rollout, left_out, ended=bool(self._end)))}</i>"
        return page
