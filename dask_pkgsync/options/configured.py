"""Whether any option is configured, for commands that start faster without Dask, which reads the configuration."""

from __future__ import annotations

import os
import site
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUFFIXES = (".yaml", ".yml", ".json")


def is_configured() -> bool:
    """Whether a variable or a file of Dask's configuration may set an option of dask-pkgsync.

    It looks where Dask does (its documentation: "Configuration", read in 2026.8.0). A file that mentions pkgsync, or
    that cannot be read, may set an option.
    """
    if any(name.startswith("DASK_PKGSYNC") or name == "DASK_INTERNAL_INHERIT_CONFIG" for name in os.environ):
        return True
    return any(map(_mentions, _files()))


def _files() -> Iterator[Path]:
    """Yield the files of Dask's configuration."""
    home = Path(os.path.expanduser("~"), ".config")  # noqa: PTH111  # there may be no home directory
    prefixes = (Path(prefix, "etc") for prefix in (sys.prefix, *site.PREFIXES))
    places = [Path(os.environ.get("DASK_ROOT_CONFIG", "/etc/dask")), *(place / "dask" for place in (*prefixes, home))]
    if (chosen := os.environ.get("DASK_CONFIG")) is not None:
        places.append(Path(chosen))
    for place in dict.fromkeys(places):
        if place.is_dir():
            yield from (file for file in place.iterdir() if file.suffix.lower() in _SUFFIXES)
        elif place.exists():
            yield place


def _mentions(file: Path) -> bool:
    try:
        return b"pkgsync" in file.read_bytes()
    except OSError:
        return True
