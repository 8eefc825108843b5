"""The files that describe how a project is built, and what they say about other files."""

from __future__ import annotations

import fnmatch
import importlib
import os
import re
from importlib.machinery import EXTENSION_SUFFIXES
from typing import TYPE_CHECKING

from dask_pkgsync.scanning.file_states import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import Any

_BUILD_FILES = ("pyproject.toml", "hatch.toml", "setup.cfg", "setup.py", "MANIFEST.in", "CMakeLists.txt", "meson.build")
_TABLE = re.compile(r"\s*\[+([^\]]+)\]+\s*(?:#.*)?")
_NOT_OF_BUILDS = re.compile(
    r"dependency-groups|tool\.(?:uv(?!\.build-backend)|poetry\.(?:group|dev-dependencies|dependencies)|pdm\.dev-|hatch\.envs|"
    r"pixi|ruff|black|isort|mypy|pyright|basedpyright|pytest|coverage|pylint|tox|nox|cibuildwheel|towncrier|bumpversion)\b"
)
"""Tables of ``pyproject.toml`` that builds do not read, and that may name whole other projects."""
_DECLARATIVE = frozenset(
    (
        *("hatchling.build", "setuptools.build_meta", "flit_core.buildapi", "poetry.core.masonry.api"),
        *("pdm.backend", "uv_build"),
    )
)
"""Build backends that read only packages, and what ``pyproject.toml`` names, unless the project has code of its own for
them."""
_PLAIN_REQUIREMENT = re.compile(
    r"(setuptools|wheel|setuptools[-_.]scm|setuptools[-_.]git[-_.]versioning|versioningit|hatchling|hatch[-_.]vcs|flit[-_.]core|"
    r"poetry[-_.]core|pdm[-_.]backend|uv[-_.]build)\b(?![-_.])",
    re.IGNORECASE,
)
"""Build requirements that read no further files."""
_OWN_CODE = frozenset(
    ("setup.py", "setup.cfg", "MANIFEST.in", "hatch.toml", "hatch_build.py", "pdm_build.py", "build.py")
)
"""Files at the top of a project that may make its build read further files."""
_USUAL = re.compile(r"pyproject\.toml|PKG-INFO|(README|LICEN[CS]E|COPYING|NOTICE|AUTHORS).*", re.IGNORECASE)
"""Files at the top of a project that backends find by themselves."""
_OUTSIDE = re.compile(r"""(?<![\w./\\])(?:\.\./)+[^\s"'`,;:)\]}]+""")
_PATTERN = re.compile(r"""["']([^"'\n]*[*?\[][^"'\n]*)["']""")
_GLOB = re.compile(r"[*?\[]")


def build_text(root: Path, watch: Watch | None = None) -> str:
    """Return the text of all files that describe the build of a project, without the tables for other tools.

    The files are noted in ``watch``, if there is one.
    """
    return "\n".join(_texts(root, watch or Watch()))


def _texts(root: Path, watch: Watch) -> Iterator[str]:
    for name in _BUILD_FILES:
        if watch.state(str(root / name)) is None:
            continue
        try:
            text = (root / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        yield _of_builds(text) if name.endswith(".toml") else text


def _of_builds(toml: str) -> str:
    lines, table = [], ""
    for line in toml.splitlines():
        if (match := _TABLE.fullmatch(line)) is not None:
            table = re.sub(r"[\s\"']", "", match[1])
        if not _NOT_OF_BUILDS.match(table):
            lines.append(line)
    return "\n".join(lines)


def paths_outside(root: Path, watch: Watch) -> list[str]:
    """Return the paths outside of a project that the files of its build name, relative to the project.

    Examples are ``packages = [{include = "common", from = "../common"}]`` of Poetry and ``force-include`` of hatchling.
    A path such as ``..``, which holds the project itself, is none of them: it may be the whole of a large repository.
    All that the answer depends on is noted in ``watch``.
    """
    base = os.path.abspath(root)  # noqa: PTH100  # links are not followed, as the build will not follow them
    found: dict[str, None] = {}
    for text in _OUTSIDE.findall(build_text(root, watch)):
        glob = _GLOB.search(text)
        named = os.path.dirname(text[: glob.start()]) if glob else text  # noqa: PTH120
        full = os.path.normpath(os.path.join(base, named))  # noqa: PTH118
        if watch.exists(full) and os.path.commonpath([base, full]) not in (base, full):
            found.setdefault(os.path.relpath(full, base).replace(os.sep, "/"))
    return list(found)


def needed(root: Path, contents: Mapping[str, Sequence[str]], watch: Watch) -> frozenset[str]:
    """Return which entries at the top of a project its build may read.

    Where that cannot be known, these are all. It is known where ``pyproject.toml`` alone says how the project is built:
    then entries without code that it does not name stay unread, for example directories of documents or data.

    Parameters
    ----------
    root : Path
        The directory of the project.
    contents : mapping of str to sequence of str
        For each entry at its top, the paths of the files in it.
    watch : Watch
        The files that are read are noted in it.
    """
    if _OWN_CODE & contents.keys() or not _is_declared(root, watch):
        return frozenset(contents)
    text, code = build_text(root, watch), (".py", ".pyi", *EXTENSION_SUFFIXES)
    patterns = [pattern.removeprefix("/").partition("/")[0] for pattern in _PATTERN.findall(text)]

    def is_named(name: str) -> bool:
        return name in text or any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)

    return frozenset(
        name
        for name, paths in contents.items()
        if is_named(name) or _USUAL.fullmatch(name) or any(path.endswith(code) for path in paths)
    )


def _is_declared(root: Path, watch: Watch) -> bool:
    """Whether ``pyproject.toml`` names everything that a build reads, except for packages."""
    watch.state(str(root / "pyproject.toml"))
    try:
        toml = importlib.import_module("tomllib")
        project = toml.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except (ImportError, OSError, ValueError):  # ImportError: Python 3.10
        return False
    system = _table(project, "build-system")
    requires = system.get("requires", [])
    return (
        system.get("build-backend") in _DECLARATIVE
        and "backend-path" not in system
        and isinstance(requires, list)
        and all(isinstance(entry, str) and _PLAIN_REQUIREMENT.match(entry) for entry in requires)
        and _table(project, "tool", "hatch", "build", "hooks").keys() <= {"vcs", "version"}
        and "build" not in _table(project, "tool", "poetry")
    )


def _table(toml: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """Return a table below some keys; an empty one if there is none."""
    for key in keys:
        inner = toml.get(key)
        toml = inner if isinstance(inner, dict) else {}
    return toml
