"""The progress of a sync, and the interface that displays implement (`Reporter`)."""

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
    """The state of one step on one node: it began, ended, waits or failed."""

    node: str
    """Address of the node, for example ``tcp://10.0.0.3:40331``."""
    role: str
    """``scheduler``, ``nanny`` or ``worker``."""
    step: str
    """``resolve``, ``prepare`` (plan, build and verify the layer) or ``activate`` (live or by a restart)."""
    state: StepState
    detail: str = ""
    """A text for people, for example ``12 to install, 3 to replace`` or ``restarted``."""


def progress_event(progress: Progress) -> dict[str, str]:
    """Return the event by which a scheduler publishes progress."""
    return {
        "action": "step",
        "node": progress.node,
        "role": progress.role,
        "step": progress.step,
        "state": progress.state,
        "detail": progress.detail,
    }


def progress_in(event: Mapping[str, object]) -> Progress | None:
    """Return the progress that an event of a scheduler describes.

    None if it describes none: any client of a cluster can log events on the topic.
    """
    match event:
        case {"node": str(node), "role": str(role), "step": str(step), "state": state, "detail": str(detail)}:
            known = next((step_state for step_state in STATES if step_state == state), None)
            return known and Progress(harmless(node), harmless(role), harmless(step), known, harmless(detail))
    return None


class Reporter:
    """Receives the progress of one sync. This base class does nothing; override the methods to show something."""

    def started(self, target: str) -> None:
        """Receive the start of a sync towards the target with this id."""

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Receive, repeatedly, that the sync waits for another client to disconnect.

        Parameters
        ----------
        owner : str
            User of the other client, for example ``ann@laptop``.
        packages : sequence of str
            Names of the packages that conflict with that client's.
        """

    def progressed(self, progress: Progress) -> None:
        """Receive that a step on a node began, ended, waits or failed."""

    def finished(self, report: SyncReport) -> None:
        """Receive the report of a sync that succeeded on every node."""

    def failed(self, error: BaseException) -> None:
        """Receive the error with which the sync ends; it is raised right after."""


class OnlyIfNeeded(Reporter):
    """Passes progress on to another reporter once a node takes a step, so that a cluster that matches shows nothing."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.target = ""
        self.begun = False

    def started(self, target: str) -> None:
        """Remember the target for the moment at which a node takes a step."""
        self.target = target

    def waits(self, owner: str, packages: Sequence[str]) -> None:
        """Pass the wait on, after the start if it was not passed on before."""
        self._begin()
        self.reporter.waits(owner, packages)

    def progressed(self, progress: Progress) -> None:
        """Pass the step on, after the start if it was not passed on before."""
        self._begin()
        self.reporter.progressed(progress)

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            self.reporter.started(self.target)

    def finished(self, report: SyncReport) -> None:
        """Pass the report on if the start was passed on."""
        if self.begun:
            self.reporter.finished(report)

    def failed(self, error: BaseException) -> None:
        """Pass the error on if the start was passed on."""
        if self.begun:
            self.reporter.failed(error)
