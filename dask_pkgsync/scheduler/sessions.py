"""On the scheduler: who is connected, and what is to happen when the last one has gone."""

from __future__ import annotations

import asyncio
from time import time
from typing import TYPE_CHECKING

from distributed.core import Status

from dask_pkgsync.model.comparison import compare
from dask_pkgsync.model.errors import MessageError
from dask_pkgsync.model.handshake import is_of_worker, only_looks
from dask_pkgsync.model.operator_policy import presented, presented_person
from dask_pkgsync.model.reports.status import ClientStatus
from dask_pkgsync.model.text import human_time
from dask_pkgsync.node.log import logger
from dask_pkgsync.options.settings import seconds_or_never

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from distributed import Scheduler
    from distributed.scheduler import ClientState

    from dask_pkgsync.model.target import Target
    from dask_pkgsync.scheduler.claims import Want, Wants

SHOWN = 5
"""Differences that the status of one client names."""


class Visitors:
    """The clients that are connected.

    Parameters
    ----------
    scheduler : Scheduler
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.since: dict[str, float] = {}

    def came(self, client: str) -> None:
        """Note when a client connected."""
        self.since[client] = time()

    def left(self, client: str) -> None:
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
        return client in self.since or client in self.scheduler.client_comms  # Dask tells of it before it has a comm

    async def status(self, target: Target | None, wants: Wants) -> tuple[ClientStatus, ...]:
        """Return every client against the target."""
        there = [
            state for name, state in self.scheduler.clients.items() if self._is_connected(name) and not only_looks(name)
        ]
        known, waiting = dict(wants.wants), dict(wants.waiting)
        return await asyncio.to_thread(
            lambda: tuple(
                self._status(state, known.get(state.client_key), waiting.get(state.client_key), target)
                for state in there
            )
        )

    def _status(
        self, client: ClientState, want: Want | None, waits_for: str | None, target: Target | None
    ) -> ClientStatus:
        name = client.client_key
        message = {"versions": client.versions}
        person = want.target.owner if want else presented_person(client.versions)
        since = self.since.get(name, 0.0)
        if waits_for is not None:
            return ClientStatus(name, person, "waiting", f"until {waits_for} has disconnected", since)
        if want is not None:
            return ClientStatus(name, person, "synced", "", since)
        if is_of_worker(name):
            return ClientStatus(name, person, "worker", "", since)
        try:
            environment = presented(message)
        except MessageError:  # it came before the gate
            environment = None
        if environment is None or target is None:
            return ClientStatus(name, person, "stock" if environment is None else "presented", "", since)
        rows = list(compare(target.environment, environment, target.policy))
        more = f", and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
        detail = ", ".join(f"{row.name}: cluster {row.expected}, client {row.found}" for row in rows[:SHOWN])
        return ClientStatus(name, person, "differs" if rows else "matches", detail + more, since)


class Expiry:
    """Releases what nobody uses any more, some time after the last client has gone.

    Parameters
    ----------
    scheduler : Scheduler
    is_due : callable
        Whether the target could be released: there is one, and nobody is connected.
    release : callable
        Releases it, if that is still so; returns whether it did.
    """

    def __init__(
        self, scheduler: Scheduler, is_due: Callable[[], bool], release: Callable[[], Awaitable[bool]]
    ) -> None:
        self.scheduler = scheduler
        self.is_due = is_due
        self.release = release
        self.timer: asyncio.TimerHandle | None = None
        self.releasing: asyncio.Task[None] | None = None

    def look(self) -> None:
        """Begin to wait, or stop waiting, whenever somebody has come or gone."""
        if not self.is_due():
            self.stop()
        elif self.timer is None and (seconds := seconds_or_never("release-after")) is not None:
            self.timer = asyncio.get_running_loop().call_later(seconds, self._now)

    def stop(self) -> None:
        """Wait no longer."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None

    @property
    def note(self) -> str:
        """Say when the target will be released, if it will."""
        if self.timer is None:
            return ""
        left = self.timer.when() - asyncio.get_running_loop().time()
        return f"nobody is connected; to be released in {human_time(left)}"

    def _now(self) -> None:
        self.timer = None
        if self.scheduler.status != Status.running or not self.is_due():
            return
        if self.scheduler.tasks:  # work goes on, or published results are kept, that may need these packages
            self.look()
        else:
            self.releasing = asyncio.create_task(self._release())

    async def _release(self) -> None:
        try:
            if await self.release():
                logger.warning("released, as nobody has been connected for a while: the cluster has its own packages")
        except Exception:  # noqa: BLE001  # nobody waits for it
            logger.exception("the environment that nobody uses any more could not be released")
