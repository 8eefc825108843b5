"""Reads lock files in TOML without a library of their own: poetry.lock, and others where their libraries lack."""

from __future__ import annotations

import importlib
import sys
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


KINDS = (
    "requirements.txt with pins, pylock.toml, uv.lock, poetry.lock, Pipfile.lock, or what `dask pkgsync scan --json` "
    "writes"
)
"""The formats of lock files, for messages."""
MAIN = "main"
"""Poetry's name for the group of a project's own requirements."""


def toml(name: str, text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises
    ------
    PolicyError
        If it is none, or this Python cannot read any.
    """
    try:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    except ImportError:
        raise PolicyError(f"{name}: to read TOML, use Python 3.11 or newer, or install tomli") from None
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise PolicyError(f"{name}: is no TOML: {error}") from None
    return data


def pins_of_tables(name: str, data: dict[str, Any], interpreter: Interpreter, choice: Choice) -> Iterator[Pin]:
    """Yield each pin in a TOML lock file that was chosen and applies to an interpreter.

    Parameters
    ----------
    name : str
        Path of the file, for messages.
    data : dict
        Its content.
    interpreter : Interpreter
    choice : Choice

    Raises
    ------
    PolicyError
        If the file holds no list of packages, or an entry of the list has no name; or if a group or extra that was
        chosen is not in it.
    """
    listed = data.get("packages" if "lock-version" in data else "package")
    if not isinstance(listed, list):
        raise PolicyError(f"{name}: holds no list of packages; expected {KINDS}")
    optional = _needed_by_extras(name, data, choice)
    known = {MAIN, *(group for entry in listed if isinstance(entry, dict) for group in _groups(entry))}
    if unknown := [group for group in choice.groups if group not in known]:
        raise PolicyError(f"{name}: has no group {', '.join(unknown)}; its groups are {', '.join(sorted(known))}")
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise PolicyError(f"{name}: an entry has no name: {entry!r:.100}")
        version, package = entry.get("version"), str(canonicalize_name(entry["name"]))
        is_chosen = _is_in_group(entry, choice) and (not entry.get("optional") or package in optional)
        is_chosen = is_chosen and not _is_the_project(entry)
        if isinstance(version, str) and is_chosen and _applies(name, entry, interpreter, choice):
            yield _pin(package, version, entry)


def _pin(package: str, version: str, entry: dict[str, Any]) -> Pin:
    """Return the pin of an entry, with the files that poetry.lock lists."""
    source = entry.get("source")
    if isinstance(source, dict) and source.get("type") == "git" and isinstance(source.get("resolved_reference"), str):
        return Pin(package, version, origin=FromVcs(str(source.get("url", "")), source["resolved_reference"]))
    listed = entry.get("files")
    files = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    names = [str(one.get("file", "")) for one in files]
    return Pin(
        package,
        version,
        digests(str(one.get("hash", "")) for one in files),
        tuple(file for file in names if file.endswith(".whl")),
        has_source=any(not file.endswith(".whl") for file in names),
    )


def _groups(entry: dict[str, Any]) -> list[str]:
    """Return the groups that need the package of an entry; Poetry writes them since version 2.1 of the format."""
    groups = entry.get("groups")
    return [str(group) for group in groups] if isinstance(groups, list) else []


def _is_in_group(entry: dict[str, Any], choice: Choice) -> bool:
    groups = _groups(entry)
    return not choice.groups or not groups or not {MAIN, *choice.groups}.isdisjoint(groups)


def _needed_by_extras(name: str, data: dict[str, Any], choice: Choice) -> set[str]:
    """Return the packages that the chosen extras of poetry.lock need; of all extras, if none was chosen."""
    extras = data.get("extras")
    extras = extras if isinstance(extras, dict) else {}
    if unknown := [extra for extra in choice.extras if extra not in extras]:
        raise PolicyError(f"{name}: has no extra {', '.join(unknown)}; its extras are {', '.join(extras) or 'none'}")
    chosen = [needed for extra, needed in extras.items() if extra in choice.extras or not choice.extras]
    return {str(canonicalize_name(str(one).split(" ")[0])) for needed in chosen for one in needed}


def _is_the_project(entry: dict[str, Any]) -> bool:
    """Whether an entry of uv.lock is the locked project itself, which no index has."""
    source = entry.get("source")
    return isinstance(source, dict) and any(kind in source for kind in ("virtual", "editable"))


def _applies(name: str, entry: dict[str, Any], interpreter: Interpreter, choice: Choice) -> bool:
    """Whether the environment marker of an entry is true for an interpreter."""
    marker = entry.get("marker") or entry.get("markers") or ""
    marker = marker or " or ".join(f"({one})" for one in entry.get("resolution-markers", []))
    if isinstance(marker, dict):  # of Poetry: by group, where they differ
        chosen = [one for group, one in marker.items() if not choice.groups or group in {MAIN, *choice.groups}]
        marker = " or ".join(f"({one})" for one in chosen)
    try:
        return not marker or any(applies(Marker(marker), interpreter, extra) for extra in choice.extras or ("",))
    except InvalidMarker:
        raise PolicyError(f"{name}: {entry['name']}: {marker!r} is no environment marker") from None
