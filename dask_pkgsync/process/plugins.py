"""Finds the plugins (entry points) that a new search path adds or removes, and whether they were looked up already."""

from __future__ import annotations

import configparser
import sys
import types
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    EntryPoint = tuple[str, str, str]
    """Group, name, and the object that it names."""


READERS: dict[str, str] = {
    "dask.array.backends": "dask.array",
    "dask.dataframe.backends": "dask.dataframe",
    "dask.sizeof": "dask.sizeof",
}
"""The module that looks up a group of plugins once and keeps what it found, where the name of the group does not begin
with the name of this module alone (dask 2024.6.0 and 2026.8.0)."""

LOOKED_UP_EACH_TIME = frozenset(
    {
        "console_scripts",  # scripts, which installers write
        "gui_scripts",
        "dask_cli",  # dask 2026.8.0: only the command line reads it
        "distributed.comm.backends",  # distributed 2026.8.0: comm.registry.get_backend
        "pandas_plotting_backends",  # pandas 2.3: plotting._core._load_backend
        "pygments.filters",  # pygments 2.19: plugin.iter_entry_points
        "pygments.formatters",
        "pygments.lexers",
        "pygments.styles",
        "sqlalchemy.dialects",  # sqlalchemy 2.0: util.langhelpers.PluginLoader.load
        "sqlalchemy.plugins",
    }
)
"""The groups whose readers look again for a plugin that they have not found yet."""


def changed_groups(before: Iterable[Path], after: Iterable[Path]) -> tuple[str, ...]:
    """Return the groups of plugins that change when some distributions take the place of others.

    Groups that are looked up each time are left out.

    Parameters
    ----------
    before, after : iterable of Path
        The dist-info directories of the distributions.
    """
    changed = _entry_points(before) ^ _entry_points(after)
    return tuple(sorted({group for group, _, _ in changed} - LOOKED_UP_EACH_TIME))


def readers(groups: Iterable[str]) -> dict[str, str]:
    """Return the groups of plugins that this process may have looked up, each with the imported module that reads it.

    The reader of a group is the module in `READERS`, or the package with whose name the name of the group begins. Where
    no such package is imported, it is an imported module that names the group in a function or variable.
    """
    found = {group: _reader(group) for group in groups}
    unknown = [group for group, reader in found.items() if reader is None and group not in READERS]
    found |= _modules_that_name(unknown) if unknown else {}
    return {group: reader for group, reader in sorted(found.items()) if reader is not None}


def _entry_points(dist_infos: Iterable[Path]) -> set[EntryPoint]:
    points: set[EntryPoint] = set()
    for dist_info in dist_infos:
        parser = configparser.ConfigParser(delimiters=("=",), strict=False, interpolation=None, default_section="")
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # names are case-sensitive
        try:
            parser.read_string((dist_info / "entry_points.txt").read_text(encoding="utf-8"))
        except (OSError, ValueError, configparser.Error):  # there is none, or nobody can read it
            continue
        points |= {(group, name, value) for group in parser.sections() for name, value in parser.items(group)}
    return points


def _reader(group: str) -> str | None:
    """Return the reader of a group, by its name, if this process has imported it."""
    if (known := READERS.get(group)) is not None:
        return known if known in sys.modules else None
    top = group.partition(".")[0]
    words = top.replace("-", "_").split("_")
    prefixes = ["_".join(words[:count]) for count in range(len(words), 0, -1)]  # spacy_factories: of spacy
    return next((prefix for prefix in prefixes if prefix in sys.modules and prefix not in _STANDARD), None)


_STANDARD = sys.stdlib_module_names


def _modules_that_name(groups: Sequence[str]) -> dict[str, str | None]:
    """Return the imported module that names each group in a function, method or variable of its own."""
    found: dict[str, str | None] = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in _STANDARD and isinstance(module, types.ModuleType):
            found |= dict.fromkeys(_texts(module).intersection(groups) - found.keys(), name)
    return found


def _texts(module: types.ModuleType) -> set[str]:
    """Return the texts in the variables, functions and classes of a module; nothing of the module is called."""
    values = list(vars(module).values())
    for value in vars(module).values():
        if isinstance(value, type) and value.__module__ == module.__name__:
            values += vars(value).values()
    texts = {value for value in values if type(value) is str}
    codes = [code for value in values if (code := _code(value)) is not None]
    while codes:
        constants = codes.pop().co_consts
        texts |= {constant for constant in constants if type(constant) is str}
        codes += [constant for constant in constants if type(constant) is types.CodeType]
    return texts


def _code(value: object) -> types.CodeType | None:
    """Return the code of a function or method, also of one that keeps its results."""
    if type(value) in (classmethod, staticmethod, _Cached):
        value = value.__wrapped__  # type: ignore[attr-defined]
    return value.__code__ if type(value) is types.FunctionType else None


_Cached = type(cache(lambda: None))
