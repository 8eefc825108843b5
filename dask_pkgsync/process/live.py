"""Takes a target live: puts its layer in front of the base of a running process, so that it is as a new process."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal

from dask_pkgsync.model.errors import RestartNeededError
from dask_pkgsync.model.reports.failure import LayerError
from dask_pkgsync.process.activation import is_active, switch_to
from dask_pkgsync.process.imports import remaining, stale
from dask_pkgsync.process.live_change import live_change
from dask_pkgsync.process.state import this_process
from dask_pkgsync.process.verification import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from pathlib import Path

    from dask_pkgsync.layers.layer import Layer
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.process.live_change import LiveChange

Step = Literal["compare", "ask", "activate", "wait for imports", "ask again", "verify", "end"]

_guard = threading.Lock()
"""Held while this process is changed: several nannies can share a process."""


def _nobody(_step: Step) -> None:
    """Do nothing."""


def take_live(
    layer: Layer | None, target: Target, place: Path | None = None, *, before: Callable[[Step], None] = _nobody
) -> None:
    """Take a layer live, so that this process is as one that starts in it; else leave it as it was. Blocks.

    Parameters
    ----------
    layer : Layer or None
        None for the base alone.
    target : Target
        What the process has to match afterwards.
    place : Path, optional
        A directory that ends with this process, for its own environment; by default a temporary one.
    before : callable
        Is told each step before it begins.

    Raises
    ------
    RestartNeededError
        If only a new process can have the target, with the reason. This process has what it had before.
    """
    with _guard:
        before("compare")
        if edited := stale(target):
            raise RestartNeededError(f"its source was edited after the worker imported it: {', '.join(edited)}")
        if is_active(layer) and remaining(target).empty:
            _verified(target)
            return
        change = live_change(layer, target)
        before("ask")
        if reason := change.why_restart():
            raise RestartNeededError(reason)
        before("activate")
        undo = switch_to(layer, place)
        try:
            _ask_again(change, before)
            before("verify")
            _verified(target)
        except BaseException:
            undo()
            raise
        before("end")


def take_partly(layer: Layer | None, target: Target, *, known: Container[str] = (), programs: bool) -> tuple[str, ...]:
    """Take a layer live in a process that is not restarted for it, and that keeps what it has imported. Blocks.

    Parameters
    ----------
    layer : Layer or None
        None for the base alone.
    target : Target
    known : container of str
        The distributions of which the user knows already that the process has imported another version.
    programs : bool
        Whether programs that this process starts are to use the layer as well.

    Returns
    -------
    tuple of str
        What the process lacks of the layer until it is started again, a sentence each.
    """
    with _guard:
        state = this_process()
        if is_active(layer):
            return state.lacks
        change = live_change(layer, target, mixed=True)
        switch_to(layer, programs=programs)
        change.wait_for_imports()
        late = [name for name in change.imported() if name not in known]
        versions = target.environment.distributions
        kept = [f"it has imported another version of {name} than {versions[name].version} already" for name in late]
        state.lacks = (*kept, *change.not_found())
        return state.lacks


def _ask_again(change: LiveChange, before: Callable[[Step], None]) -> None:
    """Raise if tasks have imported something that changes since the process was asked."""
    before("wait for imports")
    if reason := change.wait_for_imports():
        raise RestartNeededError(reason)
    before("ask again")
    if reason := change.why_restart():
        raise RestartNeededError(reason)


def _verified(target: Target) -> None:
    try:
        verify(target)
    except LayerError as error:
        raise RestartNeededError(error.problem) from None
