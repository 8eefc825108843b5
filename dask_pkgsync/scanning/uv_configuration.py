"""Reads the configuration files of uv on this machine."""

from __future__ import annotations

import importlib
import logging
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dask_pkgsync.scanning.file_states import Remembered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_pkgsync.scanning.file_states import Watch

logger = logging.getLogger("dask_pkgsync")

_TABLES: Remembered[dict[str, Any]] = Remembered(limit=200)
"""The contents of files."""
TRUE = ("1", "true", "yes", "on", "y", "t")
"""What uv and pip take for true."""


def uv_tables(directory: Path | None, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield the settings of ``uv pip`` in each of uv's files, in the order of precedence.

    Parameters
    ----------
    directory : Path, optional
        Where uv starts to look for a project's configuration, upwards; by default the current directory.
    environ : mapping
        Environment variables, which may name another file or none.
    """
    for table in _files(directory, environ):
        pip = table.get("pip")
        yield {**table, **pip} if isinstance(pip, dict) else table  # [tool.uv.pip] holds the settings of `uv pip`


def _files(directory: Path | None, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    if environ.get("UV_NO_CONFIG", "").lower() in TRUE:
        return
    if chosen := environ.get("UV_CONFIG_FILE"):
        yield _toml(Path(chosen))
        return
    try:
        here = directory or Path.cwd()
    except OSError:  # the current directory was removed
        here = None
    for place in (here, *here.parents) if here else ():
        tools = _toml(place / "pyproject.toml").get("tool")
        project = tools.get("uv") if isinstance(tools, dict) else None
        if (place / "uv.toml").exists() or isinstance(project, dict):
            yield _toml(place / "uv.toml") if (place / "uv.toml").exists() else project or {}
            break
    yield _toml(config_home(environ) / "uv" / "uv.toml")
    systems = [Path(system) / "uv" / "uv.toml" for system in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    yield _toml(next((path for path in systems if path.is_file()), Path("/etc/uv/uv.toml")))


def config_home(environ: Mapping[str, str]) -> Path:
    """Return the directory of the user's configuration files."""
    return Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "~").expanduser() / ".config")


def _toml(path: Path) -> dict[str, Any]:
    return _TABLES.of(str(path), partial(_read, path))


def _read(path: Path, watch: Watch) -> dict[str, Any]:
    if watch.state(str(path)) is None or not path.is_file():
        return {}
    try:
        tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except ImportError:
        logger.warning("the settings in %s are ignored: to read TOML, use Python 3.11 or newer, or install tomli", path)
    except (OSError, ValueError):  # the error is not shown: it may quote a secret in the file
        logger.warning("the settings in %s are ignored: %s could not be read", path, path)
    else:
        return table
    watch.is_complete = False  # so that the warning is repeated
    return {}
