"""Shows a running sync to the person: live in a terminal, in place in a notebook, as plain lines anywhere else.

This module travels to the nodes with the rest of the package, and nodes may lack rich and IPython: both are imported
only where something is drawn with them.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from dask_pkgsync.display.rollout_progress import Board, Row, duration, failure_summary, nodes, summary, waiting
from dask_pkgsync.model.reports.progress import Progress, Reporter
from dask_pkgsync.model.text import html_table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console, RenderableType

    from dask_pkgsync.model.reports.sync import SyncReport

ROWS_IN_A_NOTEBOOK = 20
"""Lines of the table in a notebook, where nothing says how tall the window is."""
ROWS_IN_A_TERMINAL = 20
"""Lines of the table in a terminal, at most; fewer where the window is small."""
STYLES = {"started": "cyan", "finished": "green", "waiting": "yellow", "failed": "bold red"}
"""Colour of a step by its state."""


def make_reporter(progress: bool | None = None, *, file: TextIO | None = None) -> Reporter:  # noqa: FBT001
    """Choose how a sync is shown.

    Parameters
    ----------
    progress : bool, optional
        False shows nothing. None and True choose by where the output goes: a live table in a terminal, the same
        in a notebook, plain lines elsewhere and where rich is not installed.
    file : file object, optional
        Where to write; standard error by default.

    Returns
    -------
    Reporter
        Call its methods from any one thread.
    """
    if progress is False:
        return Reporter()
    if file is None and _in_notebook():
        return NotebookReporter()
    stream = file if file is not None else sys.stderr
    if _is_terminal(stream) and find_spec("rich") is not None:
        return TerminalReporter(stream)
    return PlainReporter(stream)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"
    except ValueError:  # a closed file
        return False


def _in_notebook() -> bool:
    """Whether an IPython kernel runs this process (IPython in a terminal has none)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class PlainReporter(Reporter):
    """Writes a line for each step that ends and one at the end: for logs and pipes."""

    def __init__(self, file: TextIO | None, board: Board | None = None) -> None:
        self._file = file
        self._board = board or Board()

    def started(self, target: str) -> None:
        """Write which target it is."""
        self._write(f"syncing to environment {target[:12]}")

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Write for whom."""
        self._write(waiting(owner, packages))

    def progressed(self, progress: Progress) -> None:
        """Write a line if a step ended."""
        row = self._board.update(progress)
        if row.took is not None:
            detail = f": {row.detail}" if row.detail else ""
            after = "after" if row.state == "waiting" else "in"
            self._write(f"{row.role} {row.node} {row.label} {after} {duration(row.took)}{detail}")

    def finished(self, report: SyncReport) -> None:
        """Write how it ended."""
        self._write(summary(report, self._board.seconds))

    def failed(self, error: BaseException) -> None:
        """Write that it failed; the error tells the rest."""
        self._write(failure_summary(error, self._board.seconds))

    def _write(self, line: str) -> None:
        if self._file is not None and not self._file.closed:
            self._file.write(f"pkgsync: {line}\n")
            self._file.flush()


class TerminalReporter(Reporter):
    """Draws a live table with rich.

    The cursor and the standard streams are given back when the sync ends, and at the latest when the interpreter
    does: a person who presses Ctrl-C keeps a usable terminal.
    """

    def __init__(self, file: TextIO, board: Board | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._board = board or Board()
        self._console = Console(file=file, highlight=False)
        self._end: tuple[str, str] | None = None
        self._live = Live(
            console=self._console, get_renderable=self._render, refresh_per_second=8, vertical_overflow="crop"
        )

    def started(self, target: str) -> None:  # noqa: ARG002
        """Begin to draw."""
        atexit.register(self._live.stop)
        self._live.start()

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Take it in; the next frame shows it."""
        self._board.note = waiting(owner, packages)

    def progressed(self, progress: Progress) -> None:
        """Take it in; the next frame shows it."""
        self._board.update(progress)

    def finished(self, report: SyncReport) -> None:
        """Draw the last frame and how it ended."""
        self._close(summary(report, self._board.seconds), "bold green")

    def failed(self, error: BaseException) -> None:
        """Draw the last frame and that it failed; the error tells the rest."""
        self._close(failure_summary(error, self._board.seconds), "bold red")

    def _close(self, line: str, style: str) -> None:
        if self._end is not None:  # interrupted here, and ended on the event loop later
            return
        self._board.stop()
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
        rows, left_out = self._board.rows(limit)
        head = Text(*self._end) if self._end else Text(_headline(self._board), style="bold")
        parts: list[RenderableType] = [head]
        if rows:
            parts.append(_rich_table(rows, self._board.now(), self._console))
        if left_out:
            parts.append(Text(f"  {_rest(self._board, left_out, ended=self._end is not None)}", style="dim"))
        return Group(*parts)


def _rich_table(rows: list[Row], now: float, console: Console) -> RenderableType:
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


def _headline(board: Board) -> str:
    now = board.note or _counts(board)
    return f"Syncing for {duration(board.seconds)}" + (f": {now}" if now else " …")


def _counts(board: Board) -> str:
    return ", ".join(f"{count} {label}" for label, count in board.counts().items())


def _rest(board: Board, left_out: int, *, ended: bool) -> str:
    """Say what is not shown; while the sync runs, the headline has the counts already."""
    return f"… and {nodes(left_out)} more" + (f"; in all {_counts(board)}" if ended else "")


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
        board: Board | None = None,
        interval: float = 0.25,
    ) -> None:
        self._board = board or Board()
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
        self._board.note = waiting(owner, packages)

    def progressed(self, progress: Progress) -> None:
        """Take it in; the next frame shows it."""
        self._board.update(progress)

    def finished(self, report: SyncReport) -> None:
        """Draw the last frame and how it ended."""
        self._close(summary(report, self._board.seconds))

    def failed(self, error: BaseException) -> None:
        """Draw the last frame and that it failed; the error tells the rest."""
        self._close(failure_summary(error, self._board.seconds))

    def _close(self, line: str) -> None:
        if self._end:  # interrupted here, and ended on the event loop later
            return
        self._board.stop()
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
        rows, left_out = self._board.rows(ROWS_IN_A_NOTEBOOK)
        now = self._board.now()
        cells = [[row.node, row.role, row.label, duration(row.elapsed(now)), row.detail] for row in rows]
        page = f"<b>{escape(self._end or _headline(self._board))}</b>"
        if cells:
            page += html_table(["node", "role", "step", "elapsed", "detail"], cells)
        if left_out:
            page += f"<i>{escape(_rest(self._board, left_out, ended=bool(self._end)))}</i>"
        return page
