"""Shows a running sync to the person: live in a terminal, in place in a notebook, as plain lines anywhere else.

This module travels to the nodes with the rest of the package, and nodes may lack rich and IPython: both are imported
only where something is drawn with them.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dask_pkgsync.display.notebook import NotebookReporter
from dask_pkgsync.display.plain import PlainReporter
from dask_pkgsync.display.terminal import TerminalReporter
from dask_pkgsync.model.reports.progress import Reporter

if TYPE_CHECKING:
    from typing import TextIO


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
