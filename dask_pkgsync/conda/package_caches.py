"""Finds the archive of a conda package in the package caches of this machine.

Nothing else is read from the configuration of conda, and no credential in it.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from dask_pkgsync.model.blobs import CONDA_SUFFIXES
from dask_pkgsync.scanning.file_states import Remembered

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dask_pkgsync.model.environments.conda import CondaPackage
    from dask_pkgsync.scanning.conda_files import CondaRecord
    from dask_pkgsync.scanning.file_states import Watch

_CHUNK = 1 << 20
_MAX_CONFIGURATION = 1_000_000
"""Bytes of a file of configuration."""
_CONFIGURED: Remembered[tuple[Path, ...]] = Remembered(limit=100)
"""The package caches that files of configuration name."""
_DIGESTS: Remembered[tuple[str, str]] = Remembered(limit=5_000)
"""SHA-256 and MD5 of archives."""


def find_archive(package: CondaPackage, record: CondaRecord, prefix: Path) -> tuple[Path, str] | None:
    """Return the archive of a conda package and its SHA-256, if this machine still has it; else None. Blocks.

    Only an archive with the recorded digest is returned.

    Parameters
    ----------
    package : CondaPackage
    record : CondaRecord
        Its record in the prefix.
    prefix : Path
        The prefix in which it is installed.
    """
    if not (package.sha256 or package.md5):
        return None
    for path in dict.fromkeys(_places(package, record, prefix)):
        with suppress(OSError, ValueError):
            if not path.name.endswith(CONDA_SUFFIXES) or (package.size and path.stat().st_size != package.size):
                continue
            sha256, md5 = _DIGESTS.of(str(path), partial(_digests, path))
            if sha256 == package.sha256 or (not package.sha256 and md5 == package.md5):
                return path, sha256
    return None


def extracted_directories(record: CondaRecord, prefix: Path) -> Iterator[Path]:
    """Yield the directories in which package caches may have the files of a package as they were in its archive."""
    yield from map(Path, _noted(record, "extracted_package_dir"))
    stem = _without_suffix(str(record.facts.get("fn") or ""))
    if stem and "/" not in stem:
        yield from (directory / stem for directory in package_caches(prefix))


def package_caches(prefix: Path, environment: Mapping[str, str] = os.environ) -> Iterator[Path]:
    """Yield the directories that may be package caches, of conda, mamba, micromamba, pixi and rattler.

    Parameters
    ----------
    prefix : Path
        The prefix whose packages are searched.
    environment : mapping
        Environment variables.
    """
    yield from (Path(path) for path in re.split(rf"[,{os.pathsep}]", environment.get("CONDA_PKGS_DIRS", "")) if path)
    home, roots = Path("~").expanduser(), list(_roots(prefix, environment))
    chosen = environment.get("CONDARC", "")
    configuration = [home / ".condarc", home / ".mambarc", *(root / ".condarc" for root in roots)]
    for file in [*([Path(chosen)] if chosen else []), *configuration]:
        yield from _CONFIGURED.of(str(file), partial(_configured, file))
    yield from (root / "pkgs" for root in roots)
    yield from (home / ".conda" / "pkgs", home / ".mamba" / "pkgs")
    caches = [Path(environment.get("XDG_CACHE_HOME") or home / ".cache"), home / "Library" / "Caches"]
    of_rattler = [environment.get(name, "") for name in ("RATTLER_CACHE_DIR", "PIXI_CACHE_DIR")]
    yield from (Path(path) / "pkgs" for path in of_rattler if path)
    yield from (cache / "rattler" / "cache" / "pkgs" for cache in caches)


def _roots(prefix: Path, environment: Mapping[str, str]) -> Iterator[Path]:
    """Yield the directories in which a conda or mamba, with its package cache, may be installed."""
    yield prefix
    if prefix.parent.name == "envs":
        yield prefix.parent.parent
    if program := environment.get("CONDA_EXE"):
        yield Path(program).parent.parent
    if root := environment.get("MAMBA_ROOT_PREFIX"):
        yield Path(root)
    yield from (Path("~/micromamba").expanduser(), Path("~/.local/share/mamba").expanduser())


def _configured(file: Path, watch: Watch) -> tuple[Path, ...]:
    """Return the package caches that a file of conda's configuration names."""
    import yaml  # Dask's configuration needs it, too

    watch.state(str(file))
    with suppress(OSError, ValueError, RecursionError, yaml.YAMLError):
        if file.is_file() and file.stat().st_size <= _MAX_CONFIGURATION:
            settings: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
            names = settings.get("pkgs_dirs") if isinstance(settings, dict) else None
            listed = names if isinstance(names, list) else []
            return tuple(Path(os.path.expandvars(str(name))).expanduser() for name in listed if name)
    return ()


def _places(package: CondaPackage, record: CondaRecord, prefix: Path) -> Iterator[Path]:
    """Yield the paths at which the archive of a package may be, the likeliest first."""
    yield from map(Path, _noted(record, "package_tarball_full_path"))
    yield from (
        Path(f"{path}{suffix}") for path in _noted(record, "extracted_package_dir") for suffix in CONDA_SUFFIXES
    )
    if package.url.startswith("file:"):
        yield Path(unquote(urlsplit(package.url).path))
    yield from (directory / package.filename for directory in package_caches(prefix))


def _noted(record: CondaRecord, key: str) -> list[str]:
    """Return a path that the installer has noted in a record, if it is absolute: conda-pack makes it empty."""
    path = record.facts.get(key)
    return [path] if isinstance(path, str) and os.path.isabs(path) else []  # noqa: PTH117


def _without_suffix(filename: str) -> str:
    return next((filename.removesuffix(suffix) for suffix in CONDA_SUFFIXES if filename.endswith(suffix)), "")


def _digests(path: Path, watch: Watch) -> tuple[str, str]:
    watch.state(str(path))
    sha256, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            sha256.update(chunk)
            md5.update(chunk)
    return sha256.hexdigest(), md5.hexdigest()
