"""Packs loose modules into a wheel, without a build backend."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from packaging.tags import sys_tags

from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.scanning.records import EXTENSIONS, recorded
from dask_pkgsync.scanning.sources import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.scanning.sources import SourceFile


_DATE = (1980, 1, 1, 0, 0, 0)


def pack_modules(files: Sequence[SourceFile], distribution: Distribution, directory: Path) -> Path:
    """Pack loose modules into a wheel: for any platform, or for this one if some of the modules are compiled. Blocks.

    Raises
    ------
    WheelError
        If the files have changed since the scan, or cannot be read.
    """
    stem = f"{distribution.name.replace('-', '_')}-{distribution.version}"
    compiled = any(file.path.endswith(EXTENSIONS) for file in files)
    tag = str(next(sys_tags())) if compiled else "py3-none-any"
    wheel = directory / f"{stem}-{tag}.whl"
    try:
        if digest_of(files) != distribution.identity:
            raise WheelError(
                f"{distribution.name} {distribution.version}", "the modules changed after the scan", advice=_AGAIN
            )
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as bundle:
            record = list(_written(bundle, files, stem, compiled=compiled, tag=tag, distribution=distribution))
            record.append(f"{stem}.dist-info/RECORD,,")
            bundle.writestr(_entry(f"{stem}.dist-info/RECORD", executable=False), "\n".join(record) + "\n")
        if digest_of(files) != distribution.identity:
            raise WheelError(
                f"{distribution.name} {distribution.version}",
                "the modules changed while they were packed",
                advice=_AGAIN,
            )
    except OSError as error:
        raise WheelError(f"{distribution.name} {distribution.version}", str(error), advice=_AGAIN) from None
    return wheel


_AGAIN = "Run the sync again."


def _written(
    bundle: zipfile.ZipFile,
    files: Sequence[SourceFile],
    stem: str,
    *,
    compiled: bool,
    tag: str,
    distribution: Distribution,
) -> Iterator[str]:
    """Write all files of the wheel except RECORD, and yield the lines of RECORD."""
    pure = "false" if compiled else "true"
    metadata = {
        "METADATA": f"Metadata-Version: 2.1\nName: {distribution.name}\nVersion: {distribution.version}\n"
        "Summary: Loose modules of a client, packed by dask-pkgsync\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: dask-pkgsync\nRoot-Is-Purelib: {pure}\nTag: {tag}\n",
    }
    texts = [(f"{stem}.dist-info/{name}", text.encode(), False) for name, text in metadata.items()]
    contents = ((file.path, file.full.read_bytes(), file.executable) for file in files)
    for path, content, executable in (*contents, *texts):
        bundle.writestr(_entry(path, executable=executable), content)
        yield recorded(path, content)


def _entry(path: str, *, executable: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, _DATE)
    entry.external_attr = (0o100755 if executable else 0o100644) << 16
    return entry
