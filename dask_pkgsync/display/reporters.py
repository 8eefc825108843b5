"""Chooses how a running sync is shown: as a live table in a terminal or notebook, or as plain lines.

The modules of `display` import rich and IPython only when they draw, because either may not be installed.
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
    """Return the reporter that suits the output of this process.

    Parameters
    ----------
    progress : bool, optional
        False: shows nothing. None or True: shows a live table in a notebook, or in a terminal if rich is installed, and
        plain lines otherwise.
    file : file object, optional
        The output; standard error by default.

    Returns
    -------
    Reporter
        Its methods may be called from any thread, but only from one at a time.
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
    """Whether this process is an IPython kernel (IPython in a terminal has no kernel)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
