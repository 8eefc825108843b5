"""The sessions of a cluster: which clients are connected, and how each compares with the target."""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING

from dask_pkgsync.model.comparison import compare
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.handshake import is_of_worker, only_looks
from dask_pkgsync.model.presentation import presented, presented_person, recognition_in
from dask_pkgsync.model.reports.status import ClientStatus
from dask_pkgsync.model.wire.releases import ReleaseMismatchError
from dask_pkgsync.scheduler.dask_internals import has_connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import Scheduler
    from distributed.scheduler import ClientState

    from dask_pkgsync.model.environments.environment import Environment
    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.clients.claims import Claim, Claims


MAX_SHOWN = 5
"""The most differences that the status of one client names."""


class Sessions:
    """The clients that are connected.

    Parameters
    ----------
    scheduler : Scheduler
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.since: dict[str, float] = {}
        """By Dask's name of a client, when it connected, in seconds since the epoch."""

    def connected(self, client: str) -> None:
        """Note that a client has connected, and when."""
        self.since[client] = time()

    def disconnected(self, client: str) -> None:
        """Forget a client that has disconnected."""
        self.since.pop(client, None)

    @property
    def anybody(self) -> bool:
        """Whether a user's client is connected.

        Clients of tasks do not count, nor clients that only read the status, nor the names under which Dask itself
        holds results, for example those of published datasets.
        """
        return any(
            self._is_connected(name) and not is_of_worker(name) and not only_looks(name)
            for name in self.scheduler.clients
        )

    def _is_connected(self, client: str) -> bool:
        # Dask calls add_client of the plugins before the client has a comm.
        return client in self.since or has_connection(self.scheduler, client)

    async def status(
        self, target: Target | None, claims: Claims, acquaintances: Mapping[str, Environment]
    ) -> tuple[ClientStatus, ...]:
        """Return the state of every connected client, compared with the target.

        Parameters
        ----------
        target : Target or None
        claims : Claims
        acquaintances : mapping of str to Environment
            By fingerprint, the environments of clients that did not present them again.
        """
        connected = [
            state for name, state in self.scheduler.clients.items() if self._is_connected(name) and not only_looks(name)
        ]
        claimed, waiting = dict(claims.claims), dict(claims.waiting)
        return await asyncio.to_thread(
            lambda: tuple(
                self._status(state, claimed.get(state.client_key), waiting.get(state.client_key), target, acquaintances)
                for state in connected
            )
        )

    def _status(
        self,
        client: ClientState,
        claim: Claim | None,
        waits_for: str | None,
        target: Target | None,
        acquaintances: Mapping[str, Environment],
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
            recognition = recognition_in(message)
            environment = acquaintances.get(recognition.fingerprint) if recognition else presented(message)
        except (MessageError, ReleaseMismatchError):  # it connected before the gate was closed, or the mode is warn
            recognition = environment = None
        if environment is None or target is None:
            is_stock = environment is None and recognition is None
            return ClientStatus(name, person, "stock" if is_stock else "presented", "", since)
        rows = list(compare(target.environment, environment, target.policy))
        more = f", and {len(rows) - MAX_SHOWN} more" if len(rows) > MAX_SHOWN else ""
        detail = ", ".join(f"{row.name}: cluster {row.expected}, client {row.found}" for row in rows[:MAX_SHOWN])
        return ClientStatus(name, person, "differs" if rows else "matches", detail + more, since)
