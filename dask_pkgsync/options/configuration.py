"""Checks the ``pkgsync`` section of Dask's configuration: what nobody knows is an error, not a silent default."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any

import dask

from dask_pkgsync.model.errors import PolicyError
from dask_pkgsync.options.definitions import BY_KEY
from dask_pkgsync.options.kinds import UnfitError
from dask_pkgsync.options.places import configuration_files, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_pkgsync.options.kinds import Kind

_TYPES: dict[str, type | tuple[type, ...]] = {
    "array": (list, tuple),
    "boolean": bool,
    "integer": int,
    "null": type(None),
    "number": (int, float),
    "object": dict,
    "string": str,
}
"""What the types of a JSON schema are in Python."""


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
    sources = [(f" (in {path})", content) for path, content in configuration_files()]
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
    option = BY_KEY.get(key)
    if option is None:
        close = difflib.get_close_matches(key, BY_KEY, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"pkgsync.{key}: there is no such option{place(key)}{hint}"
    wrong = _misfit(option.kind, value, is_secret=option.is_secret)
    return f"pkgsync.{key}: {wrong}{place(key)}" if wrong else None


def _misfit(kind: Kind[Any], value: object, *, is_secret: bool = False) -> str | None:
    """Say what was expected and found, where a value is not of its kind."""
    found = f"found a {type(value).__name__}" if is_secret else f"found {repr(value)[:100]}"
    if not _has_type(kind.rule, value):
        return f"expected {_expected(kind.rule)}, {found}"
    if kind.entries is not None and isinstance(value, dict):
        entries = [f"{name}: {wrong}" for name, one in value.items() if (wrong := _misfit(kind.entries, one))]
        return "; ".join(entries)
    try:
        kind.read(value)
    except UnfitError as error:
        return f"expected {error.expected}, {found}"
    return None


def _has_type(rule: Mapping[str, Any], value: object) -> bool:
    """Whether a value has the type that its schema names, and so have its items; it may still be wrong."""
    if "type" not in rule:
        return True
    items = value if isinstance(value, list | tuple) else []
    return _is_a(value, rule["type"]) and all(_is_a(item, rule["items"]["type"]) for item in items)


def _is_a(value: object, names: str | list[str]) -> bool:
    names = [names] if isinstance(names, str) else names
    if isinstance(value, bool):
        return "boolean" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _expected(rule: Mapping[str, Any]) -> str:
    names = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    return " or ".join(names) + (" of strings" if "array" in names else "")
