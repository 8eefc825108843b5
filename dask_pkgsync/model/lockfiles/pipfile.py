"""Reads Pipfile.lock, which Pipenv writes: JSON with a section for each group."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from packaging.markers import InvalidMarker, Marker
from packaging.utils import canonicalize_name

from dask_pkgsync.model.environments.origin import FromVcs
from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.model.lockfiles.markers import applies
from dask_pkgsync.model.lockfiles.pin import Pin, digests

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from dask_pkgsync.model.environments.interpreter import Interpreter
    from dask_pkgsync.model.lockfiles.pin import Choice

MAIN = "default"
"""The section of the packages that are always installed; ``develop`` and further categories can be chosen."""


def pins_of_pipfile(name: str, text: str, interpreter: Interpreter, choice: Choice) -> Iterator[Pin]:
    """Yield each pin of a Pipfile.lock that was chosen and applies to an interpreter.

    Raises
    ------
    PolicyError
        If it is no Pipfile.lock, lacks a group that was chosen, or has packages without a version.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError(f"{name}: is no JSON: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get(MAIN), dict):
        raise PolicyError(f"{name}: has no section {MAIN}, which a Pipfile.lock has")
    if choice.extras:
        raise PolicyError(f"{name}: a Pipfile.lock has no extras; name its sections as groups")
    sections = [key for key, entries in data.items() if key != "_meta" and isinstance(entries, dict)]
    if unknown := [group for group in choice.groups if group not in sections]:
        raise PolicyError(f"{name}: has no group {', '.join(unknown)}; its groups are {', '.join(sections)}")
    for section in dict.fromkeys([MAIN, *choice.groups]):
        for package, entry in data[section].items():
            if isinstance(entry, dict) and _applies(name, package, entry, interpreter):
                yield _pin(name, str(canonicalize_name(package)), entry)


def _pin(name: str, package: str, entry: dict[str, Any]) -> Pin:
    version, hashes = entry.get("version"), entry.get("hashes", [])
    if isinstance(entry.get("git"), str) and isinstance(entry.get("ref"), str):
        return Pin(package, "0", origin=FromVcs(entry["git"], entry["ref"]))
    if not isinstance(version, str) or not version.startswith("=="):
        raise PolicyError(f"{name}: {package}: expected one exact version (==), found {version!r}")
    return Pin(package, version.lstrip("="), digests(map(str, hashes)) if isinstance(hashes, list) else ())


def _applies(name: str, package: str, entry: dict[str, Any], interpreter: Interpreter) -> bool:
    marker = entry.get("markers")
    try:
        return not isinstance(marker, str) or applies(Marker(marker), interpreter)
    except InvalidMarker:
        raise PolicyError(f"{name}: {package}: {marker!r} is no environment marker") from None
