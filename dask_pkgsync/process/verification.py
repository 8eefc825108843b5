"""Verifies that this process has the target."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dask_pkgsync.layers.layer import other_builds_in
from dask_pkgsync.model.plan import make_plan
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.process.imports import editable_sources, importable_now
from dask_pkgsync.process.state import this_process

if TYPE_CHECKING:
    from dask_pkgsync.model.target import Target


def verify(target: Target) -> None:
    """Check that this process can import just what the target says, and record it. Blocks: call it in a thread.

    Raises
    ------
    LayerError
        If it cannot, with every difference.
    """
    found = importable_now(target)
    expected = target.environment.with_any_build(other_builds_in(Path(this_process().layer)))
    lacking = make_plan(found, expected, target.policy)
    if lacking.empty:
        this_process().target = target.id
        this_process().sources = {name: origin.digest for name, origin in editable_sources(found).items()}
        return
    steps = [*(f"{step.name} {step.version} is not there" for step in lacking.changes)]
    steps += [f"{step.name} {step.version} is still importable" for step in lacking.hidden]
    raise LayerError(
        "verify",
        "the process does not have the target: " + "; ".join(steps),
        advice="Run the sync again. If it fails again, see what the node's preloads and PYTHONPATH put on sys.path.",
    )
