"""Checks the ``pkgsync`` section of Dask's configuration: what nobody knows is an error, not a silent default."""

from __future__ import annotations

import difflib
import os
import pkgutil
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import yaml

from dask_pkgsync.core.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": (list, tuple),
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}


@cache
def schema() -> dict[str, Any]:
    """Return the JSON schema of the section, by key."""
    text = pkgutil.get_data("dask_pkgsync", "pkgsync-schema.yaml")  # works from a zip as well
    found: dict[str, Any] = yaml.safe_load(text or b"")["properties"]["pkgsync"]["properties"]
    return found


def check_configuration() -> None:
    """Raise for keys and values that dask-pkgsync does not know.

    Raises
    ------
    PolicyError
        With everything that is wrong: the key, where it stands, what is expected.
    """
    section = dask.config.get("pkgsync", {})
    if not isinstance(section, dict):
        raise PolicyError(f"pkgsync: expected a section with keys, found {section!r}{_place('')}")
    problems = [problem for key, value in section.items() if (problem := _problem(str(key).replace("_", "-"), value))]
    if problems:
        raise PolicyError(
            "the configuration of dask-pkgsync is not right:\n" + "\n".join(f"  {one}" for one in problems)
        )


def _problem(key: str, value: object) -> str | None:
    rule = schema().get(key)
    if rule is None:
        close = difflib.get_close_matches(key, schema(), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"pkgsync.{key}: there is no such option{_place(key)}{hint}"
    expected = _expected(rule)
    if "enum" in rule:
        fits = value in rule["enum"]
    else:
        fits = _is_a(value, rule["type"]) and all(_is_a(item, rule["items"]["type"]) for item in _items(value))
    return None if fits else f"pkgsync.{key}: expected {expected}, found {_shown(key, value)}{_place(key)}"


def _items(value: object) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, list | tuple) else []


def _is_a(value: object, names: str | list[str]) -> bool:
    names = [names] if isinstance(names, str) else names
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _expected(rule: dict[str, Any]) -> str:
    if "enum" in rule:
        return "one of " + ", ".join(rule["enum"])
    names = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    return " or ".join(names) + (" of strings" if "array" in names else "")


def _shown(key: str, value: object) -> str:
    is_address = key in ("index-url", "extra-index-urls", "find-links", "store")  # which may hold a password
    return f"a {type(value).__name__}" if is_address else repr(value)[:100]


def _place(key: str) -> str:
    """Say where a key is set: in a variable, or in which files."""
    variable = f"DASK_PKGSYNC__{key.upper().replace('-', '_')}"
    if variable in os.environ:
        return f" (in the environment variable {variable})"
    files = [str(path) for path in _files() if _sets(path, key)]
    return f" (in {', '.join(files)})" if files else ""


def _files() -> Iterator[Path]:
    for place in map(Path, dask.config.paths):
        if place.is_dir():
            yield from sorted([*place.glob("*.yaml"), *place.glob("*.yml"), *place.glob("*.json")])
        elif place.is_file():
            yield place


def _sets(path: Path, key: str) -> bool:
    try:
        section = (yaml.safe_load(path.read_text()) or {}).get("pkgsync")
    except (OSError, yaml.YAMLError, AttributeError):
        return False
    return not key or (isinstance(section, dict) and any(str(one).replace("_", "-") == key for one in section))
