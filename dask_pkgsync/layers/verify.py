"""Verifies installed files against the RECORD of their distributions (PEP 376, PEP 427)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.scanning.records import dist_infos, entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from dask_pkgsync.scanning.records import Entry


_SHOWN = 8


def verify(site_packages: Path, pins: Sequence[str]) -> int:
    """Verify that every file in RECORD exists and has the recorded size.

    If two distributions have different files of the same path, the file of either counts (see `clashes`).

    An installer that was killed leaves a dist-info directory without INSTALLER, or without some files, and its next run
    does not repair that (uv 0.13). The installer itself has verified the contents when it unpacked the wheel.

    Parameters
    ----------
    site_packages : Path
        The directory of the installed distributions.
    pins : sequence of str
        The distributions to verify, each as ``name==version``.

    Returns
    -------
    int
        Bytes of all files.

    Raises
    ------
    LayerError
        If a file is missing or has another size, with the names of files and packages.
    """
    installed = dist_infos(site_packages)
    problems: dict[str, list[str]] = {}
    wrong: dict[str, list[Entry]] = {}
    total = 0
    for pin in pins:
        name = pin.partition("==")[0]
        dist_info = installed.get(name)
        if dist_info is None or not (dist_info / "INSTALLER").exists():
            problems[pin] = ["not installed" if dist_info is None else "not completely installed"]
            continue
        size, missing, wrong[pin] = _check(site_packages, dist_info)
        total += size
        if missing:
            problems[pin] = missing
    for pin, entry, size in _of_no_distribution(site_packages, wrong):
        problems.setdefault(pin, []).append(f"{entry.path} has {size} bytes instead of {entry.size}")
    if problems:
        shown = [f"{pin}: {', '.join(what[:_SHOWN])}" for pin, what in list(problems.items())[:_SHOWN]]
        raise LayerError(
            "verify",
            "the installed files are not those that the packages' RECORD lists: " + "; ".join(shown),
            advice="Run the sync again. If it fails again, remove the directory uv in dask-pkgsync's cache directory.",
            packages=tuple(problems),
        )
    return total


def _check(site_packages: Path, dist_info: Path) -> tuple[int, list[str], list[Entry]]:
    """Return the bytes of all files, the files that are missing, and the entries of files with another size."""
    root = str(site_packages)
    total, missing, wrong = 0, [], []
    lines = 0
    for entry in entries(dist_info):
        lines += 1
        try:
            size = os.stat(f"{root}/{entry.path}").st_size  # noqa: PTH116  # three times faster than Path.stat, for many thousand files
        except OSError:
            missing.append(f"{entry.path} is missing")
            continue
        total += size
        if entry.size is not None and size != entry.size:
            wrong.append(entry)
    return total, missing if lines else ["no RECORD"], wrong


def _of_no_distribution(site_packages: Path, wrong: Mapping[str, Sequence[Entry]]) -> Iterator[tuple[str, Entry, int]]:
    """Yield pin, entry and size of each file that has the size of no distribution with this path."""
    paths = {entry.path for found in wrong.values() for entry in found}
    if not paths:
        return
    everything = (entry for dist_info in dist_infos(site_packages).values() for entry in entries(dist_info))
    known = {(entry.path, entry.size) for entry in everything if entry.path in paths}
    for pin, found in wrong.items():
        for entry in found:
            size = (site_packages / entry.path).stat().st_size
            if (entry.path, size) not in known:
                yield pin, entry, size
