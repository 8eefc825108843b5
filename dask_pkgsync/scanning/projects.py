"""Which modules in the source directory of an editable project are known to be the project's own.

Nothing lists them. Their names are those of the project, of ``top_level.txt``, of the finders that setuptools makes,
and those that ``pyproject.toml`` gives to the build backend.
"""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.model.environments.origin import FromDirectory
from dask_pkgsync.scanning.direct_url import source_directory
from dask_pkgsync.scanning.records import installed
from dask_pkgsync.scanning.unrecorded import top_level_names

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from dask_pkgsync.model.environments.environment import Environment

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


def project_names(environment: Environment) -> dict[Path, frozenset[str]]:
    """Return the source directory of each editable project, with the names of its modules, in lower case."""
    names: dict[Path, set[str]] = {}
    metadata: dict[str, Path] | None = None
    for distribution in environment.distributions.values():
        match distribution.origin:
            case FromDirectory(editable=True) as origin:
                if metadata is None:
                    metadata = installed([entry for entry in sys.path if isinstance(entry, str)])
                source = source_directory(origin).resolve()
                of_project = names.setdefault(source, set())
                of_project.add(distribution.name.replace("-", "_"))
                for place in filter(None, (metadata.get(distribution.name), *source.glob("*.egg-info"))):
                    of_project.update(top_level_names(place))
                of_project.update(name for name, path in _mapped() if source in Path(path).parents)
                of_project.update(_declared(source / "pyproject.toml"))
    return {source: frozenset(name.lower() for name in of_project) for source, of_project in names.items()}


def _mapped() -> Iterator[tuple[str, str]]:
    """Yield names and paths of the modules that setuptools makes importable by a finder of an editable project."""
    for name, finder in list(sys.modules.items()):
        mapping = vars(finder).get("MAPPING") if name.startswith("__editable__") else None
        if isinstance(mapping, dict):
            yield from ((str(module).partition(".")[0], str(path)) for module, path in mapping.items())


def _declared(pyproject: Path) -> Iterator[str]:
    """Yield the names in what a project tells its build backend; these may be names of other things, too."""
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
