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
from dask.utils import parse_bytes, parse_timedelta

from dask_pkgsync.model.errors import PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": (list, tuple),
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}
_ADDRESSES = ("index-url", "extra-index-urls", "find-links", "store")
"""Keys whose values may hold a password."""


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
    problems = list(dict.fromkeys([*_in_sources(), *_in_section(dask.config.get("pkgsync", {}), "")]))
    if problems:
        raise PolicyError(
            "the configuration of dask-pkgsync is not right:\n" + "\n".join(f"  {one}" for one in problems)
        )


def _in_sources() -> Iterator[str]:
    """Yield what is wrong in a file or variable: where it has no section, Dask keeps the defaults and says nothing."""
    sources = [(f" (in {path})", _content(path)) for path in _files()]
    sources.append((" (in an environment variable)", dask.config.collect_env(dict(os.environ))))
    for where, content in sources:
        if not isinstance(content, dict):
            continue
        yield from _in_section(content.get("pkgsync"), where)
        if isinstance(above := content.get("distributed"), dict) and "pkgsync" in above:
            yield f"distributed.pkgsync: the section pkgsync stands beside distributed, and not in it{where}"


def _in_section(section: object, where: str) -> Iterator[str]:
    if section is not None and not isinstance(section, dict):
        yield f"pkgsync: expected a section with keys, found {section!r:.100}{where}"
    elif section:
        yield from filter(None, (_problem(str(key).replace("_", "-"), value) for key, value in section.items()))


def _problem(key: str, value: object) -> str | None:
    rule = schema().get(key)
    if rule is None:
        close = difflib.get_close_matches(key, schema(), 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"pkgsync.{key}: there is no such option{place(key)}{hint}"
    if isinstance(value, dict) and "additionalProperties" in rule:
        inner = rule["additionalProperties"]
        entries = [f"{name}: {wrong}" for name, one in value.items() if (wrong := _misfit(inner, one))]
        return f"pkgsync.{key}: {'; '.join(entries)}{place(key)}" if entries else None
    wrong = _misfit(rule, value, is_secret=key in _ADDRESSES)
    return f"pkgsync.{key}: {wrong}{place(key)}" if wrong else None


def _misfit(rule: dict[str, Any], value: object, *, is_secret: bool = False) -> str | None:
    """Say what was expected and found, where a value is not what the schema says."""
    if "enum" in rule:
        fits = value in rule["enum"]
    else:
        fits = _is_a(value, rule["type"]) and all(_is_a(item, rule["items"]["type"]) for item in _items(value))
    shown = f"a {type(value).__name__}" if is_secret else repr(value)[:100]
    if not fits:
        return f"expected {_expected(rule)}, found {shown}"
    if "maximum" in rule and not rule["minimum"] <= value <= rule["maximum"]:
        return f"expected a number from {rule['minimum']} to {rule['maximum']}, found {shown}"
    if value is None or "format" not in rule:
        return None
    measure, example = _MEASURES[rule["format"]]
    try:
        found = measure(value)
    except ValueError:
        return f"expected {example}, found {shown}"
    is_enough = found > 0 if "exclusiveMinimum" in rule else found >= 0  # (and not what is no number, such as .nan)
    return None if is_enough else f"expected {example}, found {shown}"


def seconds_in(value: Any) -> float:
    """Return the seconds of a number, or of a text such as ``"10m"``.

    Raises
    ------
    ValueError
    """
    try:
        return float(parse_timedelta(value))
    except (IndexError, KeyError, TypeError, ValueError):
        raise ValueError(value) from None


def bytes_in(value: Any) -> int:
    """Return the bytes of a number, or of a text such as ``"50 MB"``.

    Raises
    ------
    ValueError
    """
    try:
        return int(parse_bytes(value))
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):
        raise ValueError(value) from None


DURATION = "a time such as '600s' or 600"
SIZE = "a size such as '50 MB' or a number of bytes"
_MEASURES: dict[str, tuple[Callable[[Any], float], str]] = {
    "timedelta": (seconds_in, DURATION),
    "bytes": (bytes_in, SIZE),
}
"""What the formats in the schema mean."""


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


def place(key: str) -> str:
    """Say where a key is set, for the end of a message: in a variable, or in which files; empty where in none."""
    variable = f"DASK_PKGSYNC__{key.upper().replace('-', '_')}"
    for name in os.environ:
        if name == variable or name.startswith(f"{variable}__"):  # (one entry of a section)
            return f" (in the environment variable {name})"
    files = [str(path) for path in _files() if _sets(path, key)]
    return f" (in {', '.join(files)})" if files else ""


def _files() -> Iterator[Path]:
    for place in map(Path, dask.config.paths):
        if place.is_dir():
            yield from sorted([*place.glob("*.yaml"), *place.glob("*.yml"), *place.glob("*.json")])
        elif place.is_file():
            yield place


def _sets(path: Path, key: str) -> bool:
    content = _content(path)
    section = content.get("pkgsync") if isinstance(content, dict) else None
    return isinstance(section, dict) and any(str(one).replace("_", "-") == key for one in section)


def _content(path: Path) -> object:
    """Return what a file holds; None where it cannot be read, which Dask itself tells."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
