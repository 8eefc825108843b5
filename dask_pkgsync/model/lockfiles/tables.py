"""Reads the pins of lock files in TOML: pylock.toml (PEP 751), uv.lock, poetry.lock."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from dask_pkgsync.model.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


KINDS = "requirements.txt with pins, pylock.toml, uv.lock, poetry.lock, or what `dask pkgsync scan --json` writes"
"""The formats of lock files, for messages."""


def pins_of_toml(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield canonical name and version of each pin in a TOML lock file that applies to this interpreter.

    Parameters
    ----------
    name : str
        Path of the file, for messages.
    text : str
        Content of the file.

    Raises
    ------
    PolicyError
        If the file is not TOML, or holds no list of packages, or an entry of the list has no name.
    """
    data = _toml(name, text)
    listed = data.get("packages" if "lock-version" in data else "package")
    if not isinstance(listed, list):
        raise PolicyError(f"{name}: holds no list of packages; expected {KINDS}")
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise PolicyError(f"{name}: an entry has no name: {entry!r:.100}")
        version = entry.get("version")
        if isinstance(version, str) and not _is_the_project(entry) and _applies(name, entry):
            yield str(canonicalize_name(entry["name"])), version


def _is_the_project(entry: dict[str, Any]) -> bool:
    """Whether an entry of uv.lock is the locked project itself, which no index has."""
    source = entry.get("source")
    return isinstance(source, dict) and any(kind in source for kind in ("virtual", "editable"))


def _applies(name: str, entry: dict[str, Any]) -> bool:
    """Whether the environment marker of an entry is true for this interpreter."""
    marker = entry.get("marker") or " or ".join(f"({marker})" for marker in entry.get("resolution-markers", []))
    try:
        return not marker or Marker(marker).evaluate()
    except InvalidMarker:
        raise PolicyError(f"{name}: {entry['name']}: {marker!r} is no environment marker") from None


def _toml(name: str, text: str) -> dict[str, Any]:
    try:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError:
        raise PolicyError(f"{name}: to read TOML, use Python 3.11 or newer, or install tomli") from None
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise PolicyError(f"{name}: is no TOML: {error}") from None
    return data
