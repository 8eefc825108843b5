"""Conda prefixes on this machine: built as nodes build them, scanned, and compared file by file."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.conda.prefix import CondaSources, build_prefix
from dask_pkgsync.conda.tool import own_rattler
from dask_pkgsync.scanning.installed import scan_installed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dask_pkgsync.cache.directory import Cache
    from dask_pkgsync.layers.fill import Fetch
    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.environments.conda import CondaPackage

SMALL = ("python", "libfoo", "twins", "greeter 1.0 pyh0_0")
"""What a small environment is made of."""
_OF_LAYERS = ("CACHEDIR.TAG", "pkgsync-files", "pkgsync-layer.json")


def tool() -> Path:
    """Return the directory of the py-rattler that the tests have."""
    found = own_rattler()
    assert found is not None
    return found


def build(
    packages: Sequence[CondaPackage],
    cache: Cache,
    transport: str = "index",
    fetch: Fetch | None = None,
    *,
    tool: Callable[[], Path] = tool,
    timeout: float = 100,
) -> Layer:
    """Build a prefix as a node does."""
    sources = CondaSources(transport, fetch) if fetch else CondaSources(transport)
    return build_prefix(packages, cache, tool, sources, timeout=timeout)


def packages_in(prefix: Path) -> tuple[CondaPackage, ...]:
    """Return the conda packages of a prefix; the size of scripts, which depends on its path, is left out."""
    return tuple(replace(package, installed_size=0) for package in scanned(prefix))


def scanned(prefix: Path) -> tuple[CondaPackage, ...]:
    """Return the conda packages of a prefix, as a client scans them."""
    (site_packages,) = prefix.glob("lib/python*/site-packages")
    return tuple(scan_installed([str(site_packages)]).conda.values())


def files_of(prefix: Path) -> Mapping[str, tuple[int, bytes | str]]:
    """Return mode and content of each file of the packages in a prefix, as if all prefixes had the same path."""
    found: dict[str, tuple[int, bytes | str]] = {}
    for directory, folders, names in os.walk(prefix):
        folders[:] = [name for name in folders if name not in ("__pycache__", "conda-meta")]
        for name in names:
            path = Path(directory, name)
            place = path.relative_to(prefix).as_posix()
            if path.is_symlink():
                found[place] = (0, str(path.readlink()))
            elif place not in _OF_LAYERS:
                found[place] = (path.stat().st_mode, without_path(path.read_bytes(), os.fsencode(prefix)))
    return found


def without_path(content: bytes, prefix: bytes) -> bytes:
    """Return a file without the path of its prefix: in binary files zeros fill what the path leaves of its room.

    In the first line of a script no path may have more than 127 bytes; a longer one is given to a shell.
    """
    long = re.match(rb"#!/bin/sh\n'''exec' \"(.*)\" \"\$0\" \"\$@\" #'''\n", content)
    if long:
        content = b"#!" + long[1] + content[long.end() - 1 :]
    return re.sub(rb"\0+", b"\0", content.replace(prefix, b"PREFIX")) if prefix in content else content
