"""Whether the files of a distribution are as they were installed, by one look at each (`os.stat`)."""

from __future__ import annotations

import os
from array import array
from functools import partial
from typing import TYPE_CHECKING

from dask_pkgsync.scanning.content import own_files
from dask_pkgsync.scanning.file_states import Remembered, are_as_listed

if TYPE_CHECKING:
    from dask_pkgsync.scanning.file_states import Listed, Watch

_LISTED: Remembered[Listed | None] = Remembered(limit=5_000)


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
    return are_as_listed(listed, os.path.dirname(dist_info))  # noqa: PTH120


def _listed(dist_info: str, watch: Watch) -> Listed | None:
    """Return what RECORD lists; None if it lists no file, or one whose name has a line break."""
    state = watch.state(f"{dist_info}{os.sep}RECORD")
    files = list(own_files(dist_info))
    if state is None or not files or any("\n" in file.path for file in files):
        return None
    sizes = array("q", (int(file.size) if file.size.isdigit() else -1 for file in files))
    return "\n".join(file.path for file in files), sizes, state[3]
