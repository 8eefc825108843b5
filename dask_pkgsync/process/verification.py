"""Verifies that this process has the target."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.layers.layer import other_builds_in
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.model.prefix_plan import make_prefix_plan
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.process.activation import forget_caches
from dask_pkgsync.process.imports import editable_sources, importable_now, is_below
from dask_pkgsync.process.shadows import find_shadows, put_behind, wanted_of
from dask_pkgsync.process.state import this_process
from dask_pkgsync.scanning.records import dist_infos

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.shadows import Shadow

_SHOWN = 5
"""The most shadows that an error names."""


def verify(target: Target) -> None:
    """Check that this process imports just what the target says, and record it. Blocks: call it in a thread.

    What shadows the target's packages on the search path is put behind them first (`settle`).

    Raises
    ------
    LayerError
        If it does not, with every difference.
    """
    settle(target)
    found = importable_now(target)
    expected = target.environment.with_any_build(other_builds_in(Path(this_process().layer)))
    lacking = make_plan(found, expected, target.policy)
    conda = make_prefix_plan(found, expected, target.policy)
    if not lacking.empty or conda.packages:
        steps = [f"the conda package {step.name} {step.version} is not there" for step in conda.steps[:_SHOWN]]
        steps += [*(f"{step.name} {step.version} is not there" for step in lacking.changes)]
        steps += [f"{step.name} {step.version} is still importable" for step in lacking.hidden]
        raise LayerError(
            "verify",
            "the process does not have the target: " + "; ".join(steps),
            advice="Run the sync again. If it fails again, see what the node's preloads and PYTHONPATH put on "
            "sys.path.",
        )
    if shadows := find_shadows(_path(), wanted_of(target), loaded=True):
        raise _shadowed(shadows)
    this_process().target = target.id
    this_process().sources = {name: origin.digest for name, origin in editable_sources(found).items()}


def settle(target: Target) -> None:
    """Put what shadows the target's packages on this process's search path behind them. Blocks.

    Uploaded files stay in front, where the next upload has to be found.
    """
    before = _path()
    if (after := put_behind(before, wanted_of(target), this_process().uploads)) != before:
        sys.path[:] = after
        forget_caches()


def refuse_uploads(layer: Layer) -> None:
    """Raise if a file that clients have uploaded to this process would hide a package of a layer. Blocks.

    Dask gives the uploaded files to each worker that starts, in front of everything else, so that a restart would not
    help.
    """
    directory = this_process().uploads
    archives = [entry for entry in _path() if is_below(entry, directory) and Path(entry).is_file()]
    if shadows := find_shadows([directory, *archives, str(layer.site_packages)], dist_infos(layer.site_packages)):
        raise _shadowed(shadows)


def _path() -> list[str]:
    return [entry for entry in sys.path if isinstance(entry, str)]


def _shadowed(shadows: Sequence[Shadow]) -> LayerError:
    shown = [str(shadow) for shadow in shadows[:_SHOWN]]
    more = [f"and {len(shadows) - _SHOWN} more"] if len(shadows) > _SHOWN else []
    names = ", ".join(sorted({shadow.distribution for shadow in shadows}))
    uploads = this_process().uploads
    if uploads and all(is_below(shadow.entry, uploads) for shadow in shadows):
        problem = "files that clients have uploaded hide the target's"
        advice = f"Upload the files as they are now (client.upload_file), and sync again; or name in ignore: {names}."
    else:
        problem = "other code hides the target's"
        advice = (
            "Remove it from the node's PYTHONPATH, working directory, .pth files or preloads, and start the node "
            f"again; or name in ignore: {names}."
        )
    return LayerError("verify", f"{problem}: {'; '.join([*shown, *more])}", advice=advice)
