"""Finds where an option is set, for messages: in an environment variable, or in files of Dask's configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dask
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator


def place(key: str) -> str:
    """Return where a key is set, for the end of a message, for example `` (in /etc/dask/pkgsync.yaml)``.

    It is empty if neither an environment variable nor a file sets the key.
    """
    variable = f"DASK_PKGSYNC__{key.upper().replace('-', '_')}"  # Option.variable, but for unknown keys too
    for name in os.environ:
        if name == variable or name.startswith(f"{variable}__"):  # KEY__ENTRY sets one entry of a mapping
            return f" (in the environment variable {name})"
    files = [str(path) for path, content in configuration_files() if _sets(content, key)]
    return f" (in {', '.join(files)})" if files else ""


def configuration_files() -> Iterator[tuple[Path, object]]:
    """Yield the configuration files that Dask reads, each with its content."""
    for path in map(Path, dask.config.paths):
        if path.is_dir():
            files = sorted([*path.glob("*.yaml"), *path.glob("*.yml"), *path.glob("*.json")])
        else:
            files = [path] if path.is_file() else []
        yield from ((file, _content(file)) for file in files)


def _content(path: Path) -> object:
    """Return the content of a file; None if it cannot be read, about which Dask itself raises an error."""
    try:
        return yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None


def _sets(content: object, key: str) -> bool:
    section = content.get("pkgsync") if isinstance(content, dict) else None
    return isinstance(section, dict) and any(str(name).replace("_", "-") == key for name in section)
