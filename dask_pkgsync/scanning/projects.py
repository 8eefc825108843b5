"""Which modules in the source directory of an editable project are known to be the project's own.

Nothing lists them. Their names are those of the project, of ``top_level.txt``, of the finders that setuptools makes,
and those that ``pyproject.toml`` gives to the build backend.
"""

from __future__ import annotations

import importlib
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.scanning.file_states import Remembered
from dask_pkgsync.scanning.unrecorded import top_level_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.scanning.file_states import Watch

_OF_BACKENDS = (
    ("hatch", "build"),
    ("poetry", "packages"),
    ("flit", "module"),
    ("pdm", "build"),
    ("setuptools",),
    ("uv", "build-backend"),
    ("maturin",),
    ("scikit-build", "wheel"),
)
"""The tables below ``tool`` in which build backends are told what to put into a wheel."""


_NAMES: Remembered[frozenset[str]] = Remembered(limit=1_000)
"""The names that the files of a project give to its modules."""


def project_names(environment: Environment) -> dict[Path, frozenset[str]]:
    """Return the source directory of each editable project, with the names of its modules, in lower case."""
    origins = {
        distribution.name: distribution.origin
        for distribution in environment.distributions.values()
        if isinstance(distribution.origin, FromDirectory) and distribution.origin.editable
    }
    if not origins:
        return {}
    from dask_pkgsync.scanning.direct_url import source_directory  # imported here because they are rarely needed
    from dask_pkgsync.scanning.dist_infos import dist_infos_on

    editable = {name: source_directory(origin).resolve() for name, origin in origins.items()}
    metadata = dist_infos_on([entry for entry in sys.path if isinstance(entry, str)])
    mapped = [(name, Path(path)) for name, path in _mapped()]
    names: dict[Path, set[str]] = {}
    for name, source in editable.items():
        of_project = names.setdefault(source, set())
        of_project.add(name.replace("-", "_"))
        of_project.update(_NAMES.of((source, place := metadata.get(name)), partial(_named, source, place)))
        of_project.update(module for module, path in mapped if source in path.parents)
    return {source: frozenset(name.lower() for name in of_project) for source, of_project in names.items()}


def _named(source: Path, metadata: Path | None, watch: Watch) -> frozenset[str]:
    """Return the names in ``top_level.txt`` and ``pyproject.toml``."""
    watch.state(str(source))
    names = set(_declared(source / "pyproject.toml", watch))
    for place in filter(None, (metadata, *source.glob("*.egg-info"))):
        watch.state(str(place / "top_level.txt"))
        names.update(top_level_names(place))
    return frozenset(names)


def _mapped() -> Iterator[tuple[str, str]]:
    """Yield names and paths of the modules that setuptools makes importable by a finder of an editable project."""
    for name in [name for name in tuple(sys.modules) if name.startswith("__editable__")]:
        mapping = getattr(sys.modules.get(name), "MAPPING", None)
        if isinstance(mapping, dict):
            yield from ((str(module).partition(".")[0], str(path)) for module, path in mapping.items())


def _declared(pyproject: Path, watch: Watch) -> Iterator[str]:
    """Yield the names in what a project tells its build backend; these may be names of other things, too."""
    watch.state(str(pyproject))
    try:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
        data: Any = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    except (OSError, ValueError, ImportError):  # ImportError: Python 3.10 without tomli
        return
    for path in _OF_BACKENDS:
        table = data.get("tool")
        for key in path:
            table = table.get(key) if isinstance(table, dict) else None
        for text in _texts(table):
            yield from filter(str.isidentifier, re.split(r"[^\w]+", text))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts(entry)
