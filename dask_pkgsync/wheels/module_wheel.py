"""Packs loose modules into a wheel, without a build backend."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from packaging.tags import sys_tags

from dask_pkgsync.model.errors import WheelError
from dask_pkgsync.model.record import recorded
from dask_pkgsync.scanning.records import EXTENSIONS, FIRST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dask_pkgsync.model.environments.distribution import Distribution
    from dask_pkgsync.scanning.loose_modules import LooseModule


_DATE = (1980, 1, 1, 0, 0, 0)


def pack_modules(
    module: LooseModule, distribution: Distribution, directory: Path, *, digest: str, entry_points: str = ""
) -> Path:
    """Pack a loose module into a wheel: for any platform, or for this one if it has compiled code. Blocks.

    Parameters
    ----------
    module : LooseModule
    distribution : Distribution
        As what it travels.
    directory : Path
        The directory that the wheel is written into.
    digest : str
        The digest that the module had when it was scanned.
    entry_points : str
        The text of ``entry_points.txt``; empty: there are none.

    Raises
    ------
    WheelError
        If the files have changed since the scan, or cannot be read.
    """
    stem = f"{distribution.name.replace('-', '_')}-{distribution.version}"
    files = module.files
    compiled = any(file.path.endswith(EXTENSIONS) for file in files)
    tag = str(next(sys_tags())) if compiled else "py3-none-any"
    wheel = directory / f"{stem}-{tag}.whl"
    try:
        if module.digest() != digest:
            raise WheelError(
                f"{distribution.name} {distribution.version}", "the modules changed after the scan", advice=_AGAIN
            )
        with zipfile.ZipFile(wheel, "w", zipfile.ZIP_STORED) as bundle:
            metadata = _metadata(distribution, compiled=compiled, tag=tag)
            metadata |= {"entry_points.txt": entry_points} if entry_points else {}
            record = list(_written(bundle, module, stem, metadata))
            record.append(f"{stem}.dist-info/RECORD,,")
            bundle.writestr(_entry(f"{stem}.dist-info/RECORD", executable=False), "\n".join(record) + "\n")
        if module.digest() != digest:
            raise WheelError(
                f"{distribution.name} {distribution.version}",
                "the modules changed while they were packed",
                advice=_AGAIN,
            )
    except OSError as error:
        raise WheelError(f"{distribution.name} {distribution.version}", str(error), advice=_AGAIN) from None
    return wheel


_AGAIN = "Run the sync again."
_FIRST = (
    f"import sys, os; first = os.path.join(sitedir, {FIRST!r}); "
    "first in sys.path or sys.path.insert(sys.path.index(sitedir) if sitedir in sys.path else len(sys.path), first)\n"
)
"""The .pth file of a module that hides others. `site.addpackage`, which executes it, has the directory in which it lies
in its argument ``sitedir``: setuptools' .pth files rely on it too."""


def _metadata(distribution: Distribution, *, compiled: bool, tag: str) -> dict[str, str]:
    """Return the texts of the files in dist-info, by name."""
    pure = "false" if compiled else "true"
    return {
        "METADATA": f"Metadata-Version: 2.1\nName: {distribution.name}\nVersion: {distribution.version}\n"
        "Summary: Loose modules of a client, packed by dask-pkgsync\n",
        "WHEEL": f"Wheel-Version: 1.0\nGenerator: dask-pkgsync\nRoot-Is-Purelib: {pure}\nTag: {tag}\n",
    }


def _written(
    bundle: zipfile.ZipFile,
    module: LooseModule,
    stem: str,
    metadata: Mapping[str, str],
) -> Iterator[str]:
    """Write all files of the wheel except RECORD, and yield the lines of RECORD."""
    texts = [(f"{stem}.dist-info/{name}", text.encode(), False) for name, text in metadata.items()]
    if module.is_first:
        texts.append((f"{stem}.pth", _FIRST.encode(), False))
    above = f"{FIRST}/" if module.is_first else ""
    contents = ((f"{above}{file.path}", file.read(), file.executable) for file in module.files)
    for path, content, executable in (*contents, *texts):
        bundle.writestr(_entry(path, executable=executable), content)
        yield recorded(path, content)


def _entry(path: str, *, executable: bool) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path, _DATE)
    entry.external_attr = (0o100755 if executable else 0o100644) << 16
    return entry
