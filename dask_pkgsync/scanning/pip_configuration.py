"""Reads the settings of pip on this machine, from its environment variables and configuration files.

Environment variables precede files.
"""

from __future__ import annotations

import logging
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.scanning.file_states import Remembered
from dask_pkgsync.scanning.uv_configuration import config_home

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_pkgsync.scanning.file_states import Watch

logger = logging.getLogger("dask_pkgsync")

_SECTIONS: Remembered[dict[str, dict[str, str]]] = Remembered(limit=200)
"""The contents of files."""
OF_THE_MACHINE = Path("/etc/pip.conf")
"""The file for all users."""


def pip_settings(names: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Return those of some settings that pip is configured with.

    Parameters
    ----------
    names : sequence of str
        Names of options of ``pip install``, for example ``index-url``.
    environ : mapping
        Environment variables.
    """
    files = [_ini(path) for path in _files(environ)]
    settings = {  # later files override earlier ones, and the section [install] overrides [global]
        name: value
        for section in ("global", "install")
        for sections in files
        for name, value in sections.get(section, {}).items()
        if name in names
    }
    for name in names:
        if value := environ.get(variable(name)):
            settings[name] = value
    return {name: value.strip() for name, value in settings.items()}


def variable(name: str) -> str:
    """Return the environment variable of an option of pip, for example ``PIP_INDEX_URL`` for ``index-url``."""
    return f"PIP_{name.upper().replace('-', '_')}"


def _files(environ: Mapping[str, str]) -> list[Path]:
    chosen = environ.get("PIP_CONFIG_FILE")
    if chosen == os.devnull:
        return []
    systems = [Path(place) / "pip" / "pip.conf" for place in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    home = Path(environ.get("HOME") or "~").expanduser()
    user = [home / ".pip" / "pip.conf", config_home(environ) / "pip" / "pip.conf"]
    if chosen and Path(chosen).exists():
        user = []
    last = [Path(chosen)] if chosen else []
    return [*systems, OF_THE_MACHINE, *user, Path(sys.prefix) / "pip.conf", *last]


def _ini(path: Path) -> dict[str, dict[str, str]]:
    """Return the sections of a configuration file of pip."""
    return _SECTIONS.of(str(path), partial(_read, path))


def _read(path: Path, watch: Watch) -> dict[str, dict[str, str]]:
    if watch.state(str(path)) is None or not path.is_file():
        return {}
    import configparser  # imported here because it is rarely needed

    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, configparser.Error):  # the error is not shown: it may quote a secret in the file
        logger.warning("the settings in %s are ignored: %s could not be read", path, path)
        watch.is_complete = False  # so that the warning is repeated
        return {}
    return {
        section: {name.replace("_", "-"): value for name, value in parser.items(section)}
        for section in parser.sections()
    }
