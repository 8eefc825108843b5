"""Where an option is set, for whoever has to look there: an environment variable, or files of Dask's configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator


def place(key: str) -> str:
    """Say where a key is set, for the end of a message: in a variable, or in which files; empty where in none."""
    variable = f"DASK_PKGSYNC__{key.upper().replace('-', '_')}"  # also of a key that is no option
    for name in os.environ:
        if name == variable or name.startswith(f"{variable}__"):  # (one entry of a section)
            return f" (in the environment variable {name})"
    files = [str(path) for path, content in configuration_files() if _sets(content, key)]
    return f" (in {', '.join(files)})" if files else ""


def configuration_files() -> Iterator[tuple[Path, object]]:
    """Yield the files that Dask reads, each with what it holds."""
    for path in map(Path, dask.config.paths):
        if path.is_dir():
            found = sorted([*path.glob("*.yaml"), *path.glob("*.yml"), *path.glob("*.json")])
        else:
            found = [path] if path.is_file() else []
        yield from ((one, _content(one)) for one in found)


def _content(path: Path) -> object:
    """Return what a file holds; None where it cannot be read, which Dask itself tells."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _sets(content: object, key: str) -> bool:
    section = content.get("pkgsync") if isinstance(content, dict) else None
    return isinstance(section, dict) and any(str(one).replace("_", "-") == key for one in section)
