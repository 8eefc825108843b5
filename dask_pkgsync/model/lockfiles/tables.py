"""Pins of lock files in TOML: pylock.toml (PEP 751), uv.lock, poetry.lock."""

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


def pins_of_toml(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the pins of a lock file in TOML, as names and versions."""
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
    """Whether it is the project that was locked itself (uv), which no index has."""
    source = entry.get("source")
    return isinstance(source, dict) and any(kind in source for kind in ("virtual", "editable"))


def _applies(name: str, entry: dict[str, Any]) -> bool:
    marker = entry.get("marker") or " or ".join(f"({one})" for one in entry.get("resolution-markers", []))
    try:
        return not marker or Marker(marker).evaluate()
    except InvalidMarker:
        raise PolicyError(f"{name}: {entry['name']}: {marker!r} is no environment marker") from None


def _toml(name: str, text: str) -> dict[str, Any]:
    try:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError:
        raise PolicyError(f"{name}: reading it needs Python 3.11, or tomli") from None
    try:
        found: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise PolicyError(f"{name}: is no TOML: {error}") from None
    return found
