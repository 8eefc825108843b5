"""Distributions without a list of their files, as system packages and old tools leave them.

Their modules and packages are found by ``top_level.txt``, or by name.
"""

from __future__ import annotations

import re
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from dask_pkgsync.model.wire.names import canonical

SITE_NAMES = ("site-packages", "dist-packages")
"""The names of the directories into which installers put packages."""


def metadata_of(name: str) -> Path | None:
    """Return the ``.egg-info`` of an installed distribution; None if there is none.

    Parameters
    ----------
    name : str
        Canonical name of the distribution.
    """
    for entry in sys.path:
        directory = Path(entry) if isinstance(entry, str) and entry else None
        if directory is None or directory.name not in SITE_NAMES or not directory.is_dir():
            continue
        for metadata in sorted(directory.glob("*.egg-info")):
            if canonical(_plain(metadata)) == name:
                return metadata
    return None


def top_level_names(metadata: Path) -> tuple[str, ...]:
    """Return the names of the modules and packages in ``top_level.txt``, which setuptools writes."""
    try:
        lines = (metadata / "top_level.txt").read_text(encoding="utf-8", errors="replace").split()
    except OSError:
        return ()
    return tuple(dict.fromkeys(line.partition("/")[0] for line in lines))


def modules_of(metadata: Path) -> tuple[str, ...]:
    """Return the entries beside metadata without a list of files that are the distribution's modules and packages.

    They are found by ``top_level.txt``, or else by the name of the distribution.
    """
    if metadata.parent.name not in SITE_NAMES:
        return ()  # that of a source tree, which need not be installed
    if names := top_level_names(metadata):
        return tuple(entry for name in names for entry in entries_of(metadata.parent, name))
    plain = _plain(metadata).replace("-", "_")
    for name in (plain, plain.lower()):
        if found := entries_of(metadata.parent, name):
            return tuple(found)
    return ()


def entries_of(directory: Path, module: str) -> list[str]:
    """Return the entries of a directory that a module may be imported from, for example ``["six.py"]``."""
    if not module.isidentifier():
        return []
    files = (f"{module}{suffix}" for suffix in (".py", *EXTENSION_SUFFIXES))
    return [name for name in (module,) if (directory / name).is_dir()] + [
        name for name in files if (directory / name).is_file()
    ]


def _plain(metadata: Path) -> str:
    """Return the name of a distribution as the name of its metadata has it."""
    return re.split(r"-\d", metadata.name.rpartition(".")[0], maxsplit=1)[0]
