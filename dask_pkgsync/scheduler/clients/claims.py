"""On the scheduler: what several clients want of one cluster, so that it has what all of them want."""

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

TELL_AGAIN = 20.0
"""Seconds after which somebody who waits is told again for whom."""
PAUSE = 0.5
"""Seconds between two looks at whether those are still connected who are in the way."""
MAX_APART = 1_000
"""Pairs of distributions that are remembered not to go together."""


class FileConflictError(Exception):
    """Nodes have found that what two people want cannot be in one environment; now `Claims` knows it, too."""


class MustWaitError(Exception):
    """Somebody else was quicker, with whom a client that would rather wait conflicts."""


@dataclass(frozen=True)
class Claim:
    """What one client has asked for; clients of one process are one person."""

    client: str
    """Dask's name of it."""
    target: Target

    def has(self, request: BlobRequest) -> bool:
        """Whether the client's environment holds something."""
        return request.is_met_by(self.target.environment.distributions.get(request.name))


@dataclass(frozen=True)
class CombinedTarget:
    """What a cluster is to have for everybody."""

    target: Target
    replaced: tuple[Claim, ...] = ()
    """Those whose place the new client takes."""


class Claims:
    """What the connected clients have asked for.

    Parameters
    ----------
    scheduler : Scheduler
    log_event : callable
        Receives an event (a dictionary) for every conflict.
    """

    def __init__(self, scheduler: Scheduler, log_event: Callable[[dict[str, Any]], None]) -> None:
        self.scheduler = scheduler
        self.log_event = log_event
        self.claims: dict[str, Claim] = {}
        self.waiting: dict[str, str] = {}
        """By the name of a client that waits, for whom."""
        self.file_conflicts: dict[FileConflict, None] = {}
        """What nodes have found not to go together, in the order of finding."""
        self.kept = False
        """Whether the cluster keeps what it has when everybody has gone: somebody who got it has said so."""

    def remember(self, claim: Claim, *, replaces: bool) -> None:
        """Remember what a client has got, and forget those that are gone.

        Parameters
        ----------
        claim : Claim
        replaces : bool
            Whether the cluster had something else before.
        """
        is_continued = not replaces or bool(self.others(claim))
        self.kept = claim.target.keep or (self.kept and is_continued)
        self.claims[claim.client] = claim
        self.claims = {name: one for name, one in self.claims.items() if name in self.scheduler.clients}

    def owners(self, request: BlobRequest) -> list[Claim]:
        """Return what the clients have asked for whose environment holds something."""
        return [claim for claim in self.claims.values() if claim.has(request)]

    def forget_all(self, client: str = "", person: str = "") -> None:
        """Forget everybody, as the cluster is being released, and tell them by whom; by nobody if both are empty."""
        known, self.claims, self.kept = self.claims, {}, False
        for name, one in known.items():
            if name != client and (client or person):
                text = "has released this cluster: tasks run in the cluster's own packages from now on. Sync again to "
                self._say(one, f"{person or 'somebody'} {text}get yours.")

    @property
    def anybody(self) -> bool:
        """Whether somebody is connected who has got something."""
        return any(name in self.scheduler.clients for name in self.claims)

    def others(self, claim: Claim) -> list[Claim]:
        """Return what other people want who are still connected."""
        return [one for one in self.of_other_processes(claim.target.client_process) if one.client != claim.client]

    def of_other_processes(self, process: str) -> list[Claim]:
        """Return what those want who are still connected from other processes than this one."""
        return [
            one
            for one in self.claims.values()
            if one.client in self.scheduler.clients and one.target.client_process != process
        ]

    def conflict(self, one: Claim, claim: Claim) -> Comparison:
        """Return what keeps a client from having what it wants beside another one; false if nothing does."""
        return conflict(one.target, claim.target, self.file_conflicts)

    async def permit(self, clashes: Iterable[Clash], plan: CombinedTarget, claim: Claim) -> None:
        """Look at what nodes have found when they had built what everybody wants, before anybody gets it.

        Raises
        ------
        FileConflictError
            If the new client and another one have different files of one path: one of them would get the other's.
        """
        there = plan.target.environment.distributions
        found = [
            FileConflict(request_for(there[clash.one]), request_for(there[clash.other]), clash.path)
            for clash in clashes
            if clash.one in there and clash.other in there
        ]
        others = [one for one in self.others(claim) if one not in plan.replaced]
        in_the_way = [
            file_conflicts
            for file_conflicts in found
            if any(file_conflicts.between(one.target, claim.target) for one in others)
        ]
        self.file_conflicts = dict.fromkeys(
            [*self.file_conflicts, *found, *in_the_way][-MAX_APART:]
        )  # these must be known from now on
        if in_the_way:
            raise FileConflictError

    async def wait_for_others(self, claim: Claim) -> None:
        """Where a client would rather wait than be refused: wait until those have gone who are in the way."""
        if claim.target.on_conflict != "wait":
            return
        told, looked_at, blocked = -inf, None, None
        try:
            while True:
                if (others := self.others(claim)) != looked_at:
                    blocked, looked_at = await asyncio.to_thread(self._in_the_way, others, claim), others
                if blocked is None:
                    return
                owner, differences = blocked
                self.waiting[claim.client] = owner
                if monotonic() - told > TELL_AGAIN:
                    told = monotonic()
                    packages = [row.name for row in differences]
                    self.log_event({"action": "waiting", "client": claim.client, "owner": owner, "packages": packages})
                await asyncio.sleep(PAUSE)  # (nobody tells when a client goes)
                self.refuse_if_gone(claim)
        finally:
            self.waiting.pop(claim.client, None)

    def _in_the_way(self, others: Iterable[Claim], claim: Claim) -> tuple[str, Comparison] | None:
        """Return the first person whose environment does not go together with a want, and why."""
        for one in others:
            if differences := self.conflict(one, claim):
                return one.target.owner, differences
        return None

    def refuse_if_gone(self, claim: Claim) -> None:
        """Raise for a client that has gone while it waited: nobody wants that any more.

        Raises
        ------
        PkgsyncError
        """
        if claim.client and claim.client not in self.scheduler.clients:
            raise PkgsyncError(f"{claim.target.owner or claim.client} has gone, and nothing was done for it")

    async def combined_with_others(self, claim: Claim) -> CombinedTarget:
        """Return what the cluster is to have so that everybody who is connected has what they want.

        Raises
        ------
        ConflictError
            If that does not go together.
        MustWaitError
            If the client would rather wait until it does.
        """
        both, in_the_way = await asyncio.to_thread(self._together, self.others(claim), claim)
        if not in_the_way or claim.target.on_conflict == "replace":
            return CombinedTarget(both, tuple(in_the_way))
        if claim.target.on_conflict == "wait":
            raise MustWaitError
        (one, differences), *_ = in_the_way.items()
        owner, asker = one.target.owner, claim.target.owner
        self.log_event({"action": "conflict", "owner": owner, "with": asker, "reason": str(differences)})
        raise ConflictError(owner, differences)

    def _together(self, others: Iterable[Claim], claim: Claim) -> tuple[Target, dict[Claim, Comparison]]:
        """Return what all want who go together with a client, and the rest, with the reasons."""
        both, in_the_way = claim.target, {}
        for one in others:
            if differences := self.conflict(one, claim):
                in_the_way[one] = differences
            else:
                both = merge(one.target, both)
        return both, in_the_way

    def end(self, replaced: Iterable[Claim], by: str) -> None:
        """Forget those whose place somebody has taken, and tell them."""
        for one in replaced:
            self.claims.pop(one.client, None)
            self.log_event({"action": "replaced", "owner": one.target.owner, "by": by})
            self._say(
                one,
                f"{by} has replaced the environment that this client had synced: tasks run in theirs from now on. "
                "Sync again to get yours, or to read how the two conflict.",
            )

    def _say(self, claim: Claim, text: str) -> None:
        """Tell a client's person, who has not asked for anything just now."""
        self.scheduler.client_send(claim.client, {"op": TOLD, "text": text})
