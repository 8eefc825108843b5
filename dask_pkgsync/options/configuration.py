"""Checks the ``pkgsync`` section of Dask's configuration: an unknown key or value is an error, never ignored."""

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
"""The Python types of the types in a JSON schema."""


def check_configuration() -> None:
    """Raise an error if the configuration has keys or values that dask-pkgsync does not know.

    Raises
    ------
    PolicyError
        Lists every problem with the key, the place where it is set, and what is expected.
    """
    problems = list(dict.fromkeys([*_in_sources(), *_in_section(dask.config.get("pkgsync", {}), "")]))
    if problems:
        raise PolicyError(
            "the configuration of dask-pkgsync is not valid:\n" + "\n".join(f"  {problem}" for problem in problems)
        )


def _in_sources() -> Iterator[str]:
    """Yield the problems in configuration files and environment variables.

    Dask merges them without a word: if a file has something else than a section ``pkgsync``, it keeps the defaults.
    """
    sources = [(f" (in {path})", content) for path, content in configuration_files()]
    sources.append((" (in an environment variable)", dask.config.collect_env(dict(os.environ))))
    for where, content in sources:
        if not isinstance(content, dict):
            continue
        yield from _in_section(content.get("pkgsync"), where)
        if isinstance(above := content.get("distributed"), dict) and "pkgsync" in above:
            yield f"distributed.pkgsync: the section pkgsync stands beside distributed; move it out of there{where}"


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
    problem = _kind_problem(option.kind, value, is_secret=option.is_secret)
    return f"pkgsync.{key}: {problem}{place(key)}" if problem else None


def _kind_problem(kind: Kind[Any], value: object, *, is_secret: bool = False) -> str | None:
    """Return what was expected and what was found, if a value is not of a kind; else None."""
    found = f"found a {type(value).__name__}" if is_secret else f"found {repr(value)[:100]}"
    if not _has_type(kind.rule, value):
        return f"expected {_expected(kind.rule)}, {found}"
    if kind.entries is not None and isinstance(value, dict):
        problems = ((name, _kind_problem(kind.entries, entry)) for name, entry in value.items())
        return "; ".join(f"{name}: {problem}" for name, problem in problems if problem)
    try:
        kind.read(value)
    except UnfitError as error:
        return f"expected {error.expected}, {found}"
    return None


def _has_type(rule: Mapping[str, Any], value: object) -> bool:
    """Whether a value, and each of its items, has the type in its schema; a value of that type may still be invalid."""
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
