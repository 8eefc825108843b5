"""Says what is measured, and lets scripts of other processes import it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask_pkgsync
from benchmarks import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = Path(dask_pkgsync.__file__).resolve().parent
"""The package that is measured."""


def commit() -> str:
    """Return the commit that is measured, and whether files differ from it; or why it is not known."""
    if shutil.which("git") is None or not (CHECKOUT / ".git").exists():
        return "no commit is known (no git checkout)"
    found = _git("rev-parse", "--short=12", "HEAD") + _git("log", "-1", "--format= (%s)")
    return f"{found}, and changes that are not committed" if _git("status", "--porcelain") else found


def _git(*argv: str) -> str:
    done = subprocess.run(["git", "-C", str(CHECKOUT), *argv], capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\n")


def about() -> dict[str, str]:
    """Return what is measured, and by which Python."""
    python = f"{platform.python_implementation()} {platform.python_version()}, {platform.platform()}"
    return {"commit": commit(), "source": str(PACKAGE), "python": python}


def imports(**names: type | Callable[..., Any]) -> str:
    """Return the lines that import something in a script of another process.

    They are made from what is imported here, so that the script of a string follows when something moves.
    """
    return "".join(f"from {what.__module__} import {what.__qualname__} as {name}\n" for name, what in names.items())
