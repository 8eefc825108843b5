"""The files that describe how a project is built, and what they say about other files."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BUILD_FILES = ("pyproject.toml", "hatch.toml", "setup.cfg", "setup.py", "MANIFEST.in", "CMakeLists.txt", "meson.build")
_TABLE = re.compile(r"\s*\[+([^\]]+)\]+\s*(?:#.*)?")
_NOT_OF_BUILDS = re.compile(
    r"dependency-groups|tool\.(?:uv(?!\.build-backend)|poetry\.(?:group|dev-dependencies|dependencies)|pdm\.dev-|hatch\.envs|"
    r"pixi|ruff|black|isort|mypy|pyright|basedpyright|pytest|coverage|pylint|tox|nox|cibuildwheel|towncrier|bumpversion)\b"
)
"""Tables of ``pyproject.toml`` that builds do not read, and that may name whole other projects."""
_OUTSIDE = re.compile(r"""(?<![\w./\\])(?:\.\./)+[^\s"'`,;:)\]}]+""")
_GLOB = re.compile(r"[*?\[]")


def build_text(root: Path) -> str:
    """Return the text of all files that describe the build of a project, without the tables for other tools."""
    return "\n".join(_texts(root))


def _texts(root: Path) -> Iterator[str]:
    for name in BUILD_FILES:
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


def paths_outside(root: Path) -> list[str]:
    """Return the paths outside of a project that the files of its build name, relative to the project.

    Examples are ``packages = [{include = "common", from = "../common"}]`` of Poetry and ``force-include`` of hatchling.
    A path such as ``..``, which holds the project itself, is none of them: it may be the whole of a large repository.
    """
    base = os.path.abspath(root)  # noqa: PTH100  # links are not followed, as the build will not follow them
    found: dict[str, None] = {}
    for text in _OUTSIDE.findall(build_text(root)):
        glob = _GLOB.search(text)
        named = os.path.dirname(text[: glob.start()]) if glob else text  # noqa: PTH120
        full = os.path.normpath(os.path.join(base, named))  # noqa: PTH118
        if os.path.exists(full) and os.path.commonpath([base, full]) not in (base, full):  # noqa: PTH110
            found.setdefault(os.path.relpath(full, base).replace(os.sep, "/"))
    return list(found)
