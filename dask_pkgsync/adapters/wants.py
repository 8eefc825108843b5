"""On the scheduler: what several clients want of one cluster, so that it has what all of them want."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dask_pkgsync.core.errors import ConflictError, PkgsyncError
from dask_pkgsync.core.merge import Apart, conflict, merge
from dask_pkgsync.core.parcels import request_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from distributed import Scheduler

    from dask_pkgsync.core.compare import Comparison
    from dask_pkgsync.core.messages import Target
    from dask_pkgsync.core.parcels import Request
    from dask_pkgsync.core.report import Clash

PAUSE = 0.5
"""Seconds between two looks at whether those are still connected who are in the way."""
MAX_APART = 1_000
"""Pairs of distributions that are remembered not to go together."""


class ApartError(Exception):
    """Nodes have found that what two people want cannot be in one environment; now `Wants` knows it, too."""


@dataclass(frozen=True)
class Want:
    """What one client has asked for; clients of one process are one person."""

    client: str
    """Dask's name of it."""
    target: Target


class Wants:
    """What the connected clients have asked for.

    Parameters
    ----------
    scheduler : Scheduler
    tell : callable
        Receives an event (a dictionary) for every conflict.
    """

    def __init__(self, scheduler: Scheduler, tell: Callable[[dict[str, Any]], None]) -> None:
        self.scheduler = scheduler
        self.tell = tell
        self.wants: dict[str, Want] = {}
        self.apart: dict[Apart, None] = {}
        """What nodes have found not to go together, in the order of finding."""
        self.kept = False
        """Whether the cluster keeps what it has when everybody has gone: somebody who got it has said so."""

    def remember(self, want: Want, *, replaces: bool) -> None:
        """Remember what a client has got, and forget those that are gone.

        Parameters
        ----------
        want : Want
        replaces : bool
            Whether the cluster had something else before.
        """
        is_continued = not replaces or bool(self.others(want))
        self.kept = want.target.keep or (self.kept and is_continued)
        self.wants[want.client] = want
        self.wants = {name: one for name, one in self.wants.items() if name in self.scheduler.clients}

    def owners(self, request: Request) -> list[str]:
        """Return the clients whose environment holds something."""
        return [
            name
            for name, want in self.wants.items()
            if request.is_met_by(want.target.environment.distributions.get(request.name))
        ]

    def forget_all(self) -> None:
        """Forget everybody: the cluster was released."""
        self.wants, self.kept = {}, False

    def others(self, want: Want) -> list[Want]:
        """Return what other people want who are still connected."""
        return [
            one
            for one in self.wants.values()
            if one.client in self.scheduler.clients
            and one.client != want.client
            and one.target.client_process != want.target.client_process
        ]

    def conflict(self, one: Want, want: Want) -> Comparison:
        """Return what keeps a client from having what it wants beside another one; false if nothing does."""
        return conflict(one.target, want.target, self.apart)

    def permit(self, clashes: Iterable[Clash], both: Target, want: Want) -> None:
        """Look at what nodes have found when they had built what everybody wants, before anybody gets it.

        Raises
        ------
        ApartError
            If the new client and another one have different files of one path: one of them would get the other's.
        """
        there = both.environment.distributions
        for clash in clashes:
            if (one := there.get(clash.one)) is not None and (other := there.get(clash.other)) is not None:
                self.apart[Apart(request_for(one), request_for(other), clash.path)] = None
        self.apart = dict.fromkeys(list(self.apart)[-MAX_APART:])
        if any(self.conflict(one, want) for one in self.others(want)):
            raise ApartError

    async def wait_for_others(self, want: Want) -> None:
        """Where a client would rather wait than be refused: wait until those have gone who are in the way."""
        if want.target.on_conflict == "wait":
            # (nobody tells when a client goes)
            while any(self.conflict(one, want) for one in self.others(want)):
                await asyncio.sleep(PAUSE)
                self.refuse_the_gone(want)

    def refuse_the_gone(self, want: Want) -> None:
        """Raise for a client that has gone while it waited: nobody wants that any more.

        Raises
        ------
        PkgsyncError
        """
        if want.client and want.client not in self.scheduler.clients:
            raise PkgsyncError(f"{want.target.owner or want.client} has gone, and nothing was done for it")

    def beside_others(self, want: Want) -> Target:
        """Return what the cluster is to have so that everybody who is connected has what they want.

        Raises
        ------
        ConflictError
            If that does not go together.
        """
        asked = both = want.target
        for one in self.others(want):
            owner = one.target.owner
            if not (differences := self.conflict(one, want)):
                both = merge(one.target, both)
            elif asked.on_conflict == "replace":
                self.tell({"action": "replaced", "owner": owner, "by": asked.owner})
                del self.wants[one.client]
            else:
                self.tell({"action": "conflict", "owner": owner, "with": asked.owner, "reason": str(differences)})
                raise ConflictError(owner, differences)
        return both
