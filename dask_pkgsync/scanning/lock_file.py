"""Reads a lock file from the disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.lockfile import environment_from_lock
from dask_pkgsync.scanning.installed import this_interpreter

if TYPE_CHECKING:
    from dask_pkgsync.model.environments.environment import Environment


def read_lock(path: str) -> Environment:
    """Return the environment that a lock file pins.

    Parameters
    ----------
    path : str
        Path of the file; ``~`` is the home directory.

    Raises
    ------
    PolicyError
        If the file cannot be read, or is no lock file (`environment_from_lock`).
    """
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8")
    except OSError as error:
        raise PolicyError(f"{path} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise PolicyError(f"{path} cannot be read: it is no text in UTF-8") from None
    return environment_from_lock(path, text, this_interpreter())
