"""Finds the packages that an environment has for dask-pkgsync alone, such as uv: a cluster needs none of them."""

from __future__ import annotations

import re
import sys
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from dask_pkgsync.model.policy import CRITICAL
from dask_pkgsync.scanning.consistency import requirements
from dask_pkgsync.scanning.dist_infos import dist_infos_on
from dask_pkgsync.scanning.file_states import Remembered
from dask_pkgsync.scanning.local_files import local_files
from dask_pkgsync.scanning.records import entries, top_level

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from dask_pkgsync.scanning.file_states import Watch
    from dask_pkgsync.scanning.snapshot import Snapshot

OURS = "dask-pkgsync"
_REQUIRES = re.compile(r"^Requires-Dist:\s*([A-Za-z0-9][A-Za-z0-9._-]*)", re.MULTILINE)
_IMPORTS = re.compile(r"^[ \t]*(?:from|import)[ \t]+(\w+)|,[ \t]*(\w+)", re.MULTILINE)
"""What may be imported: with several names in one statement, also the names behind a comma."""
_NEEDS: Remembered[frozenset[str]] = Remembered(limit=20)


def only_ours(snapshot: Snapshot) -> frozenset[str]:
    """Return the canonical names of the packages that nothing but dask-pkgsync needs here.

    These are required by dask-pkgsync, directly or through each other, and nothing else speaks for them: no other
    package mentions them among its requirements, extras included; no local code and nothing in ``__main__`` imports
    them; and no user has asked pip for them by name (the file REQUESTED, PEP 376, which uv writes for every package).

    Parameters
    ----------
    snapshot : Snapshot
        The result of a scan of this process's environment.
    """
    used = frozenset(_used_in_main())
    places = tuple(entry for entry in sys.path if isinstance(entry, str))
    key = snapshot.environment.fingerprint, places, used
    return _NEEDS.of(key, partial(_only_ours, snapshot, places, used))


def _only_ours(snapshot: Snapshot, places: tuple[str, ...], used: frozenset[str], watch: Watch) -> frozenset[str]:
    installed = {
        name: path for name, path in dist_infos_on(places).items() if name in snapshot.environment.distributions
    }
    for path in installed.values():
        watch.state(str(path / "METADATA"))
    script = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    watch.state(script)
    ours = _reachable(installed) - {OURS, *CRITICAL}
    ours -= {name for name in ours if _is_requested(installed[name])}
    requires = {name: frozenset(_mentioned(path)) for name, path in installed.items()} if ours else {}
    imported = used | _imported_in([script, *local_files(snapshot, but=OURS)]) if ours else used
    ours -= {name for name in ours if not imported.isdisjoint(_modules_of(installed[name]))}
    while needed := {
        name for name in ours if any(name in requires[other] for other in requires.keys() - ours - {OURS})
    }:
        ours -= needed
    return frozenset(ours)


def _reachable(installed: Mapping[str, Path]) -> set[str]:
    """Return what dask-pkgsync requires, directly or indirectly, of what is installed."""
    found: set[str] = set()
    ahead = [OURS] if OURS in installed else []
    while ahead:
        required = {str(canonicalize_name(one.name)) for one in requirements(installed[ahead.pop()])}
        new = (required & installed.keys()) - found
        found |= new
        ahead += new
    return found


def _mentioned(dist_info: Path) -> Iterator[str]:
    """Yield the names in the requirements of a distribution, also in those of its extras."""
    try:
        text = (dist_info / "METADATA").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return
    yield from map(str, map(canonicalize_name, _REQUIRES.findall(text.partition("\n\n")[0])))


def _is_requested(dist_info: Path) -> bool:
    try:
        by_pip = (dist_info / "INSTALLER").read_text().strip() != "uv"
    except OSError:
        return True
    return by_pip and (dist_info / "REQUESTED").exists()


def _modules_of(dist_info: Path) -> set[str]:
    return {top for entry in entries(dist_info) if (top := top_level(entry.path)) is not None}


def _imported_in(files: Iterable[str]) -> set[str]:
    """Return the names of the modules that Python files import."""
    names: set[str] = set()
    for path in files:
        if path.endswith(".py"):
            try:
                with open(path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
                    names.update(filter(None, (name for found in _IMPORTS.findall(file.read()) for name in found)))
            except OSError:  # it was removed meanwhile
                continue
    return names


def _used_in_main() -> Iterator[str]:
    """Yield the top-level modules of what a script, notebook or prompt has imported."""
    main = sys.modules.get("__main__")
    for value in list(vars(main).values()) if main is not None else ():
        module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(module, str):
            yield module.partition(".")[0]
