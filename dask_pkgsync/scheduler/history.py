"""What has happened on a cluster since its controller began, as the controller's own events tell it."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from time import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from dask_pkgsync.model.reports.sync import SyncReport

REMEMBERED = 50
"""The most refusals, and the most other happenings, that are remembered."""
_REFUSALS = {"client-refused": "client", "worker-refused": "worker"}
_HAPPENINGS = ("synced", "sync-failed", "released", "replaced", "conflict", "node-expelled", "gate-open", "mismatch")
"""The actions of events that are remembered as a line of their own."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A client or worker that the gate has refused."""

    at: float
    """When, in seconds since the epoch."""
    who: str
    """``client`` or ``worker``."""
    name: str
    """Dask's name of the client, or the address of the worker."""
    person: str
    """User and host, as the client has told them; may be empty."""
    reason: str
    """The text that it was told, with the table of all differences."""


class History:
    """Remembers the last refusals and happenings, and counts for the metrics. The newest come first."""

    def __init__(self) -> None:
        self.refusals: deque[Refusal] = deque(maxlen=REMEMBERED)
        self.happenings: deque[tuple[float, dict[str, Any]]] = deque(maxlen=REMEMBERED)
        """When, in seconds since the epoch, and the event."""
        self.refused: Counter[tuple[str, str]] = Counter()
        """How many were refused, by ``client`` or ``worker``, and the kind of the reason."""
        self.rollouts: Counter[str] = Counter()
        """How many rollouts there were, by outcome: ``synced``, ``partly`` (nodes failed), ``failed``."""
        self.seconds: dict[str, float] = defaultdict(float)
        """The seconds that they took, by outcome."""
        self.bytes: Counter[str] = Counter()
        """Bytes by source: ``client`` (uploaded by clients), ``scheduler`` (served to nodes), ``built`` (layers)."""
        self.layers: Counter[str] = Counter()
        """Layers of nodes, ``built`` or ``reused``."""
        self.began: float | None = None
        """When the rollout that runs now began, in seconds since the epoch; None if none runs."""
        self.target_since = 0.0
        """When the present target was set, in seconds since the epoch; 0 if there is none."""

    def note(self, event: Mapping[str, Any]) -> None:
        """Note an event of the controller."""
        now = time()
        match event.get("action"):
            case "client-refused" | "worker-refused" as action:
                who = _REFUSALS[action]
                reason, person = str(event["reason"]), str(event.get("person", ""))
                self.refusals.appendleft(Refusal(now, who, str(event[who]), person, reason))
                self.refused[who, kind_of(reason)] += 1
            case "uploaded":
                self.bytes["client"] += int(event["bytes"])
            case "served":
                self.bytes["scheduler"] += int(event["bytes"])
            case "released":
                self.target_since = 0.0
        if event.get("action") in _HAPPENINGS:
            self.happenings.appendleft((now, dict(event)))

    def begin(self) -> None:
        """Note that a rollout begins."""
        self.began = time()

    def end(self, report: SyncReport | None, failures: Collection[str]) -> None:
        """Note that the rollout has ended.

        Parameters
        ----------
        report : SyncReport or None
            None if it has failed, and changed nothing.
        failures : collection of str
            The addresses of the nodes that could not be brought to the target.
        """
        began, self.began = self.began or time(), None
        outcome = "failed" if report is None else "partly" if failures else "synced"
        self.rollouts[outcome] += 1
        self.seconds[outcome] += time() - began
        if report is None:
            return
        self.target_since = time()
        for node in report.nodes:
            if node.layer:
                self.layers["built" if node.fetched else "reused"] += 1
            self.bytes["built"] += node.fetched


def kind_of(reason: str) -> str:
    """Return of which kind the reason of a refusal is, for metrics, which have few values of a label.

    Returns
    -------
    str
        ``critical`` (Python, or what Dask needs in one version everywhere), ``packages``, ``unverified`` (a worker),
        ``malformed`` (a handshake), or ``other``.
    """
    if "malformed message" in reason:
        return "malformed"
    if "has not been verified" in reason:
        return "unverified"
    if "critical" in reason:
        return "critical"
    return "packages" if "package" in reason else "other"
