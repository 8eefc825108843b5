"""The scheduler plugins: who tells the controller of clients, and what a client's `PackageSync` is at the scheduler."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_pkgsync.model.reports.failure import SyncError
from dask_pkgsync.model.target import Target, target_from_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.scheduler.extension import controller_of

if TYPE_CHECKING:
    from distributed import Scheduler


class SessionHooks(SchedulerPlugin):
    """Tells the controller which clients connect and disconnect, for as long as it is on the scheduler."""

    is_pkgsync = True

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Tell of a client that was let in."""
        controller_of(scheduler).client_connected(client)

    def restart(self, scheduler: Scheduler) -> None:
        """Announce again: Dask forgets all metadata when its client restarts a cluster."""
        controller_of(scheduler).announce()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Tell of a client that has gone."""
        controller_of(scheduler).client_disconnected(client)


class PermanentHooks(SessionHooks):
    """The same on a scheduler that is guarded by its own configuration, for as long as the scheduler runs."""

    name = "pkgsync-preload"
    is_permanent = True


class RegisteredPlugin(SessionHooks):
    """What a client has registered: `client.plugin.PackageSync`, as it arrives here.

    Parameters
    ----------
    target : Target
        What the client asks for.
    client : str
        Dask's name of it.
    """

    name = "pkgsync"

    def __init__(self, target: Target, client: str) -> None:
        self.target, self.client = target, client

    async def start(self, scheduler: Scheduler) -> None:
        """Sync; what is raised here reaches the caller on the client."""
        controller = controller_of(scheduler)
        try:
            await controller.register(self.target, self.client)
        except SyncError as error:
            if error.adopted:
                self._replace_earlier(scheduler)
                scheduler.add_plugin(self)  # Dask adds no plugin whose start failed, but this gate is to stay
            raise
        self._replace_earlier(scheduler)

    def _replace_earlier(self, scheduler: Scheduler) -> None:
        """Remove an earlier registration, which Dask would warn of."""
        for name, other in list(scheduler.plugins.items()):
            if getattr(other, "is_pkgsync", False) and not getattr(other, "is_permanent", False):
                scheduler.remove_plugin(name)


def registered_plugin(state: object) -> RegisteredPlugin:
    """Make the plugin again at the scheduler."""
    field = Field(state, "plugin")
    return RegisteredPlugin(target_from_wire(field.key("target").value), field.key("client").text(200))
