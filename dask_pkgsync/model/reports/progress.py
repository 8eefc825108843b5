"""How far a sync is, told to whoever wants to show it. The base class shows nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dask_pkgsync.model.text import harmless

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dask_pkgsync.model.reports.sync import SyncReport

StepState = Literal["started", "finished", "waiting", "failed"]
STATES: tuple[StepState, ...] = ("started", "finished", "waiting", "failed")


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of one node began or ended."""

    node: str
    """Address, for example ``tcp://10.0.0.3:40331``."""
    role: str
    """``scheduler``, ``nanny`` or ``worker``."""
    step: str
    """``resolve``, ``prepare`` (plan, build and verify the layer) or ``activate`` (live or by a restart)."""
    state: StepState
    detail: str = ""
    """For people, for example ``12 to install, 3 to replace`` or ``restarted``."""


def progress_in(event: Mapping[str, object]) -> Progress | None:
    """Return the step that an event tells of; None for one that is none: anybody on a cluster can log events."""
    match event:
        case {"node": str(node), "role": str(role), "step": str(step), "state": state, "detail": str(detail)}:
            known = next((one for one in STATES if one == state), None)
            return known and Progress(harmless(node), harmless(role), harmless(step), known, harmless(detail))
    return None


class Reporter:
    """Receives the progress of one sync; does nothing."""

    def started(self, target: str) -> None:
        """Say that the sync towards this target begins."""

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Say, now and then, that the sync waits until somebody has gone whose packages conflict with these."""

    def progressed(self, progress: Progress) -> None:
        """Say that one step of one node began or ended."""

    def finished(self, report: SyncReport) -> None:
        """Say that every node matches."""

    def failed(self, error: BaseException) -> None:
        """Say that the sync ended with an error, which is raised right after."""


class OnlyIfNeeded(Reporter):
    """Passes on to another reporter, from the first step of a node on: a cluster that matches is worth no line."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.target = ""
        self.begun = False

    def started(self, target: str) -> None:
        """Remember the target."""
        self.target = target

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Begin, and go on."""
        self._begin()
        self.reporter.waits(owner, packages)

    def progressed(self, progress: Progress) -> None:
        """Begin, and go on."""
        self._begin()
        self.reporter.progressed(progress)

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            self.reporter.started(self.target)

    def finished(self, report: SyncReport) -> None:
        """End what was begun."""
        if self.begun:
            self.reporter.finished(report)

    def failed(self, error: BaseException) -> None:
        """End what was begun."""
        if self.begun:
            self.reporter.failed(error)
