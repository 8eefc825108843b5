"""The dist-info directories on a search path, which are listed again only if a directory has changed."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from dask_pkgsync.scanning.file_states import Remembered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from dask_pkgsync.scanning.file_states import Watch

_DIST_INFOS: Remembered[dict[str, Path]] = Remembered(limit=1_000)


def dist_infos_on(path: Sequence[str]) -> dict[str, Path]:
    """Return the dist-info directories on a search path, by canonical name; of several with one name the first.

    It returns what `records.installed` returns.
    """
    directories: dict[str, Path] = {}
    for place in reversed(path):
        directories.update(_DIST_INFOS.of(place, partial(_in, place)))
    return directories


def _in(place: str, watch: Watch) -> dict[str, Path]:
    from dask_pkgsync.scanning.records import dist_infos  # imported here because it is rarely needed

    watch.state(place)
    found = dist_infos(place)
    with suppress(OSError):  # of two of one name, the files tell which is in use
        watch.is_complete = len(found) == sum(name.endswith(".dist-info") for name in os.listdir(place))  # noqa: PTH208
    return found
