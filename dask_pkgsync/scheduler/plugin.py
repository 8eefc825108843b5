"""`PackageSync`: what a client registers, and what the scheduler then runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_pkgsync.scheduler.controller import coordinator_of

if TYPE_CHECKING:
    from distributed import Scheduler


class OnDuty(SchedulerPlugin):
    """Tells the coordinator who comes and goes, for as long as it is on the scheduler."""

    is_pkgsync = True

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Tell of a client that was let in."""
        coordinator_of(scheduler).came(client)

    def restart(self, scheduler: Scheduler) -> None:
        """Announce again: Dask forgets all metadata when its client restarts a cluster."""
        coordinator_of(scheduler).announce()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Tell of a client that has gone."""
        coordinator_of(scheduler).left(client)

