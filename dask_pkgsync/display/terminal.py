"""Shows the progress of a sync as a live table in a terminal, drawn with rich."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

    from rich.console import Console, RenderableType

    from dask_pkgsync.display.rollout_progress import NodeProgress
    from dask_pkgsync.model.reports.discrepancies import Discrepancy
    from dask_pkgsync.model.reports.progress import Progress
    from dask_pkgsync.model.reports.sync import SyncReport


ROWS_IN_A_TERMINAL = 20
"""The most rows of the table in a terminal; a small window gets fewer."""
STYLES = {"started": "cyan", "finished": "green", "waiting": "yellow", "failed": "bold red"}
"""The colour of a step in each state."""


class TerminalReporter(Reporter):
    """Draws a live table of the nodes with rich.

    It restores the cursor and the standard streams when the sync ends, or at the latest when the interpreter exits, so
    that the terminal stays usable after Ctrl-C.
    """

    def __init__(self, file: TextIO, rollout: RolloutProgress | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._rollout = rollout or RolloutProgress()
        self._console = Console(file=file, highlight=False)
        self._end: tuple[str, str] | None = None
        self._discrepancies: tuple[Discrepancy, ...] = ()
        self._live = Live(
            console=self._console, get_renderable=self._render, refresh_per_second=8, vertical_overflow="crop"
        )

    def started(self, target: str) -> None:  # noqa: ARG002
        """Start to draw."""
        atexit.register(self._live.stop)
        self._live.start()

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Note for whom the sync waits; the next frame shows it."""
        self._rollout.note = waiting(owner, packages)

    def progressed(self, progress: Progress) -> None:
        """Note the step; the next frame shows it."""
        self._rollout.update(progress)

    def finished(self, report: SyncReport) -> None:
        """Draw for the last time, with a summary of the sync, and its discrepancies."""
        self._discrepancies = report.discrepancies
        self._close(summary(report, self._rollout.seconds), "bold yellow" if self._discrepancies else "bold green")

    def failed(self, error: BaseException) -> None:
        """Draw for the last time, with a line that the sync failed; the raised error has the details."""
        self._close(failure_summary(error, self._rollout.seconds), "bold red")

    def _close(self, line: str, style: str) -> None:
        if self._end is not None:  # KeyboardInterrupt closed it already; the sync ends on the event loop later
            return
        self._rollout.stop()
        self._end = (line[0].upper() + line[1:], style)
        if self._live.is_started:
            self._live.stop()
        else:
            self._console.print(self._render())
        atexit.unregister(self._live.stop)

    def _render(self) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        limit = max(3, min(ROWS_IN_A_TERMINAL, self._console.height - 5))
        rows, left_out = self._rollout.rows(limit)
        head = Text(*self._end) if self._end else Text(headline(self._rollout), style="bold")
        parts: list[RenderableType] = [head, *(Text(f"  {one}", style="yellow") for one in self._discrepancies)]
        if rows:
            parts.append(_rich_table(rows, self._rollout.now(), self._console))
        if left_out:
            parts.append(Text(f"  {left_out_line(self._rollout, left_out, ended=self._end is not None)}", style="dim"))
        return Group(*parts)


def _rich_table(rows: list[NodeProgress], now: float, console: Console) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("  node", no_wrap=True)
    table.add_column("role", no_wrap=True)
    table.add_column("step", no_wrap=True)
    table.add_column("elapsed", no_wrap=True, justify="right")
    table.add_column("detail", no_wrap=True, overflow="ellipsis", max_width=max(10, console.width - 60))
    for row in rows:
        style = STYLES[row.state]
        cells = (f"  {row.node}", row.role, row.label, duration(row.elapsed(now)), row.detail.partition("\n")[0])
        table.add_row(*(Text(cell, style=style if cell == row.label else "") for cell in cells))
    return table
