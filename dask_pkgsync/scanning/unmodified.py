"""Whether the files of a distribution are as they were installed, by one look at each (`os.stat`)."""

from __future__ import annotations

import os
from array import array
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from dask_pkgsync.scanning.content import own_files
from dask_pkgsync.scanning.file_states import Remembered

if TYPE_CHECKING:
    from dask_pkgsync.scanning.file_states import Watch

_Listed: TypeAlias = "tuple[str, array[int], int]"
"""What RECORD lists: the paths, one a line; the sizes in bytes, -1 where none is recorded; and RECORD's own time of
change in nanoseconds since 1970. Of 40,000 files this takes 4 MB."""
_LISTED: Remembered[_Listed | None] = Remembered(limit=5_000)


def is_unmodified(dist_info: str) -> bool:
    """Whether each file has the size that RECORD lists, and none was changed after RECORD was written. Blocks.

    If not, files may be missing or have other bytes: `content.looked_at` reads them.

    Parameters
    ----------
    dist_info : str
        Path of its dist-info directory.

    Raises
    ------
    OSError
        If RECORD cannot be read.
    """
    listed = _LISTED.of(dist_info, partial(_listed, dist_info))
    if listed is None:
        return False
    paths, sizes, recorded = listed
    directory, stat = os.path.dirname(dist_info) + os.sep, os.stat  # noqa: PTH120
    try:
        for path, size in zip(paths.split("\n"), sizes, strict=True):
            facts = stat(directory + path)
            if facts.st_mtime_ns > recorded or (facts.st_size != size and size >= 0):
                return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _listed(dist_info: str, watch: Watch) -> _Listed | None:
    """Return what RECORD lists; None if it lists no file, or one whose name has a line break."""
    state = watch.state(f"{dist_info}{os.sep}RECORD")
    files = list(own_files(dist_info))
    if state is None or not files or any("\n" in file.path for file in files):
        return None
    sizes = array("q", (int(file.size) if file.size.isdigit() else -1 for file in files))
    return "\n".join(file.path for file in files), sizes, state[3]
