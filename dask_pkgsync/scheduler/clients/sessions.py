"""On the scheduler: who is connected, and what is to happen when the last one has gone."""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import compare
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.handshake import is_of_worker, only_looks
from dask_pkgsync.model.presentation import presented, presented_person
from dask_pkgsync.model.reports.status import ClientStatus
from dask_pkgsync.model.wire.releases import ReleaseMismatchError
from dask_pkgsync.scheduler.dask_internals import has_connection

if TYPE_CHECKING:
    from distributed import Scheduler
    from distributed.scheduler import ClientState

    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.clients.claims import Claim, Claims


SHOWN = 5
"""Differences that the status of one client names."""


class Sessions:
    """The clients that are connected.

    Parameters
    ----------
    scheduler : Scheduler
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.since: dict[str, float] = {}

    def connected(self, client: str) -> None:
        """Note when a client connected."""
        self.since[client] = time()

    def disconnected(self, client: str) -> None:
        """Forget it."""
        self.since.pop(client, None)

    @property
    def anybody(self) -> bool:
        """Whether a person's client is connected.

        A task's is none, nor is one that only looks, nor are the names under which Dask itself holds results, for
        example for published datasets.
        """
        return any(
            self._is_connected(name) and not is_of_worker(name) and not only_looks(name)
            for name in self.scheduler.clients
        )

    def _is_connected(self, client: str) -> bool:
        return client in self.since or has_connection(self.scheduler, client)  # Dask tells of it before it has a comm

    async def status(self, target: Target | None, claims: Claims) -> tuple[ClientStatus, ...]:
        """Return every client against the target."""
        there = [
            state for name, state in self.scheduler.clients.items() if self._is_connected(name) and not only_looks(name)
        ]
        known, waiting = dict(claims.claims), dict(claims.waiting)
        return await asyncio.to_thread(
            lambda: tuple(
                self._status(state, known.get(state.client_key), waiting.get(state.client_key), target)
                for state in there
            )
        )

    def _status(
        self, client: ClientState, claim: Claim | None, waits_for: str | None, target: Target | None
    ) -> ClientStatus:
        name = client.client_key
        message = {"versions": client.versions}
        person = claim.target.owner if claim else presented_person(client.versions)
        since = self.since.get(name, 0.0)
        if waits_for is not None:
            return ClientStatus(name, person, "waiting", f"until {waits_for} has disconnected", since)
        if claim is not None:
            return ClientStatus(name, person, "synced", "", since)
        if is_of_worker(name):
            return ClientStatus(name, person, "worker", "", since)
        try:
            environment = presented(message)
        except (MessageError, ReleaseMismatchError):  # it came before the gate, or differences are only told
            environment = None
        if environment is None or target is None:
            return ClientStatus(name, person, "stock" if environment is None else "presented", "", since)
        rows = list(compare(target.environment, environment, target.policy))
        more = f", and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        detail = ", ".join(f"{row.name}: cluster {row.expected}, client {row.found}" for row in rows[:SHOWN])
        return ClientStatus(name, person, "differs" if rows else "matches", detail + more, since)
