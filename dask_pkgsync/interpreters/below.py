"""The interpreter below virtual environments (PEP 405)."""

from __future__ import annotations

import os
from pathlib import Path

from dask_pkgsync.model.reports.failure import LayerError

CONFIGURATION = "pyvenv.cfg"
"""The file that makes a directory a virtual environment."""
_DEPTH = 40
"""The most links, or environments, from one interpreter to the one below them; as many as Linux follows itself."""


def interpreter_below(python: Path) -> Path:
    """Return the interpreter that a virtual environment was made for; the interpreter itself if it is in none.

    Links outside of virtual environments are not followed: they stay the same when a package manager replaces what they
    point to, and ``home`` must be where the interpreter finds its library, as for `sys._base_executable`.

    Raises
    ------
    LayerError
        If there is none, as it was removed, or the links go in a circle.
    """
    found = Path(os.path.abspath(python))  # noqa: PTH100  # only the text changes: links are followed one by one
    for _ in range(_DEPTH):
        configuration = _configuration(found)
        if configuration is None:
            if found.exists():
                return found
            break
        if found.is_symlink():
            found = Path(os.path.normpath(found.parent / found.readlink()))
        else:  # a copy of the interpreter
            home = Path(configuration.get("home", ""))
            names = (found.name, "python3", "python")
            found = next((home / name for name in names if (home / name).exists()), home / found.name)
    raise LayerError(
        "install",
        f"the interpreter below {python} cannot be found: {found} does not exist, or leads to itself",
        advice="Make the node's virtual environment anew.",
    )


def _configuration(python: Path) -> dict[str, str] | None:
    """Return the keys of the ``pyvenv.cfg`` of an interpreter; None if it is in no virtual environment."""
    for directory in (python.parent, python.parent.parent):
        try:
            text = (directory / CONFIGURATION).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
        return {key.strip().lower(): value.strip() for key, _, value in pairs}
    return None
