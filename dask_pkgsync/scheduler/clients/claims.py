"""The claims of several clients on one cluster, and the target that satisfies all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from dask_pkgsync.model.blobs import request_for
from dask_pkgsync.model.claims import ConflictError, FileConflict, conflict, merge
from dask_pkgsync.model.errors import PkgsyncError
from dask_pkgsync.model.wire.protocol import TOLD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from distributed import Scheduler

    from dask_pkgsync.model.blobs import BlobRequest
    from dask_pkgsync.model.clash import Clash
    from dask_pkgsync.model.comparison import Comparison
    from dask_pkgsync.model.target import Target

EVENT_INTERVAL = 20.0
"""Seconds after which the event that a client waits for another one is published again."""
PAUSE = 0.5
"""Seconds between two checks whether the clients that another one waits for are still connected."""
MAX_APART = 1_000
"""The most pairs of distributions that are remembered as file conflicts."""


class FileConflictError(Exception):
    """Nodes have found that the claims of two clients need different files of one path; `Claims` has noted the pair."""


class MustWaitError(Exception):
    """A client that chose to wait on a conflict has one with a claim that came first."""


@dataclass(frozen=True)
class Claim:
    """The target that one client has asked for. The clients of one process count as one: they never conflict."""

    client: str
    """Dask's name of the client."""
    target: Target

    def has(self, request: BlobRequest) -> bool:
        """Whether the client's environment has the requested package."""
        return request.is_met_in(self.target.environment)


@dataclass(frozen=True)
class CombinedTarget:
    """The target that satisfies a new claim together with the claims of the other connected clients."""

    target: Target
    replaced: tuple[Claim, ...] = ()
    """The claims that conflict with the new one and are ended for it (``on_conflict="replace"``)."""


class Claims:
    """The claims of the connected clients.

    Parameters
    ----------
    scheduler : Scheduler
    log_event : callable
        Receives an event (a dictionary) for every conflict, wait and replaced claim.
    """

    def __init__(self, scheduler: Scheduler, log_event: Callable[[dict[str, Any]], None]) -> None:
        self.scheduler = scheduler
        self.log_event = log_event
        self.claims: dict[str, Claim] = {}
        """The claims that the cluster's target satisfies, by Dask's name of the client."""
        self.waiting: dict[str, str] = {}
        """By Dask's name of a waiting client, the user whose claim it waits for."""
        self.file_conflicts: dict[FileConflict, None] = {}
        """The pairs of distributions that nodes have found to have different files of one path, oldest first."""
        self.kept = False
        """Whether the cluster keeps its target after the last client has disconnected, as a claim has asked for."""

    def remember(self, claim: Claim, *, replaces: bool) -> None:
        """Remember a claim that the target satisfies, and forget the claims of clients that have disconnected.

        Parameters
        ----------
        claim : Claim
        replaces : bool
            Whether the cluster had another target before.
        """
        is_continued = not replaces or bool(self.others(claim))
        self.kept = claim.target.keep or (self.kept and is_continued)
        self.claims[claim.client] = claim
        self.claims = {name: known for name, known in self.claims.items() if name in self.scheduler.clients}

    def owners(self, request: BlobRequest) -> list[Claim]:
        """Return the claims of the clients whose environment has the requested package."""
        return [claim for claim in self.claims.values() if claim.has(request)]

    def forget_all(self, client: str = "", person: str = "") -> None:
        """Forget all claims because the cluster is released, and tell the other clients who released it.

        Parameters
        ----------
        client : str
            Dask's name of the client that releases.
        person : str
            The name of its user. If both are empty, the release is automatic and no client is told.
        """
        known, self.claims, self.kept = self.claims, {}, False
        for name, claim in known.items():
            if name != client and (client or person):
                text = "has released this cluster: tasks run in the cluster's own packages from now on. Sync again to "
                self._notify(claim, f"{person or 'somebody'} {text}get yours.")

    @property
    def anybody(self) -> bool:
        """Whether a client with a claim is connected."""
        return any(name in self.scheduler.clients for name in self.claims)

    def others(self, claim: Claim) -> list[Claim]:
        """Return the claims of other connected clients, without those of the same process."""
        return [other for other in self.of_other_processes(claim.target.client_process) if other.client != claim.client]

    def of_other_processes(self, process: str) -> list[Claim]:
        """Return the claims of connected clients whose process has another token than this."""
        return [
            claim
            for claim in self.claims.values()
            if claim.client in self.scheduler.clients and claim.target.client_process != process
        ]

    def conflict(self, other: Claim, claim: Claim) -> Comparison:
        """Return the differences for which one cluster cannot satisfy both claims; false if there are none."""
        return conflict(other.target, claim.target, self.file_conflicts)

    async def permit(self, clashes: Iterable[Clash], plan: CombinedTarget, claim: Claim) -> None:
        """Check the clashes that nodes found in the layers of a combined target, before the target is adopted.

        Raises
        ------
        FileConflictError
            If the new client and another one have different files of one path: one of them would get the other's.
        """
        distributions = plan.target.environment.distributions
        found = [
            FileConflict(request_for(distributions[clash.one]), request_for(distributions[clash.other]), clash.path)
            for clash in clashes
            if clash.one in distributions and clash.other in distributions
        ]
        others = [other for other in self.others(claim) if other not in plan.replaced]
        blocking = [
            file_conflict
            for file_conflict in found
            if any(file_conflict.between(other.target, claim.target) for other in others)
        ]
        # The limit drops the oldest. The blocking pairs are repeated at the end, as the next round must know them.
        self.file_conflicts = dict.fromkeys([*self.file_conflicts, *found, *blocking][-MAX_APART:])
        if blocking:
            raise FileConflictError

    async def wait_for_others(self, claim: Claim) -> None:
        """Wait until no other client's claim conflicts with this one, if its client chose ``on_conflict="wait"``."""
        if claim.target.on_conflict != "wait":
            return
        published, checked, blocked = -inf, None, None
        try:
            while True:
                if (others := self.others(claim)) != checked:
                    blocked, checked = await asyncio.to_thread(self._first_conflict, others, claim), others
                if blocked is None:
                    return
                owner, differences = blocked
                self.waiting[claim.client] = owner
                if monotonic() - published > EVENT_INTERVAL:
                    published = monotonic()
                    packages = [row.name for row in differences]
                    self.log_event({"action": "waiting", "client": claim.client, "owner": owner, "packages": packages})
                await asyncio.sleep(PAUSE)  # no call reports here that a client has disconnected
                self.refuse_if_gone(claim)
        finally:
            self.waiting.pop(claim.client, None)

    def _first_conflict(self, others: Iterable[Claim], claim: Claim) -> tuple[str, Comparison] | None:
        """Return the user of the first claim that conflicts with this one, and the differences; None if none does."""
        for other in others:
            if differences := self.conflict(other, claim):
                return other.target.owner, differences
        return None

    def refuse_if_gone(self, claim: Claim) -> None:
        """End the sync of a client that has disconnected while it waited.

        Raises
        ------
        PkgsyncError
            If the client is not connected any more.
        """
        if claim.client and claim.client not in self.scheduler.clients:
            user = claim.target.owner or claim.client
            raise PkgsyncError(
                f"{user} has gone: the client disconnected while its sync waited, and nothing was changed"
            )

    async def combined_with_others(self, claim: Claim) -> CombinedTarget:
        """Return the target that satisfies this claim and those of the other connected clients.

        Raises
        ------
        ConflictError
            If another claim conflicts with this one, and its client chose to be refused then.
        MustWaitError
            If another claim conflicts with this one, and its client chose to wait.
        """
        combined, conflicts = await asyncio.to_thread(self._combine, self.others(claim), claim)
        if not conflicts or claim.target.on_conflict == "replace":
            return CombinedTarget(combined, tuple(conflicts))
        if claim.target.on_conflict == "wait":
            raise MustWaitError
        (other, differences), *_ = conflicts.items()
        owner, asker = other.target.owner, claim.target.owner
        self.log_event({"action": "conflict", "owner": owner, "with": asker, "reason": str(differences)})
        raise ConflictError(owner, differences)

    def _combine(self, others: Iterable[Claim], claim: Claim) -> tuple[Target, dict[Claim, Comparison]]:
        """Return the claim merged with all that do not conflict with it, and the others with their differences."""
        combined, conflicts = claim.target, {}
        for other in others:
            if differences := self.conflict(other, claim):
                conflicts[other] = differences
            else:
                combined = merge(other.target, combined)
        return combined, conflicts

    def end(self, replaced: Iterable[Claim], by: str) -> None:
        """Forget the claims that another user's claim has replaced, and tell their clients."""
        for claim in replaced:
            self.claims.pop(claim.client, None)
            self.log_event({"action": "replaced", "owner": claim.target.owner, "by": by})
            self._notify(
                claim,
                f"{by} has replaced the environment that this client had synced: tasks run in theirs from now on. "
                "Sync again to get yours, or to read how the two conflict.",
            )

    def _notify(self, claim: Claim, text: str) -> None:
        """Send a client a message that its user reads as a warning."""
        self.scheduler.client_send(claim.client, {"op": TOLD, "text": text})
