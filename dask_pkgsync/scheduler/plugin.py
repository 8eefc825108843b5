"""The scheduler plugins: they report sessions to the controller, and start the sync that a client has asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributed.diagnostics.plugin import SchedulerPlugin

from dask_pkgsync.model.reports.failure import SyncError
from dask_pkgsync.model.target import Target, target_from_wire
from dask_pkgsync.model.wire.fields import Field
from dask_pkgsync.node.dask_internals import answer_calls
from dask_pkgsync.scheduler.dask_internals import EXTENSION, extension_of
from dask_pkgsync.scheduler.extension import controller_of

if TYPE_CHECKING:
    from typing import Any

    from distributed import Scheduler


def _controller(scheduler: Scheduler) -> Any:
    """Return the controller that a scheduler has, of whatever copy of this package.

    The plugin of one client may still be on the scheduler when another client's copy of the package has taken its
    place: this plugin's own copy must not replace the newer controller.
    """
    return extension_of(scheduler, EXTENSION)


class SessionHooks(SchedulerPlugin):
    """Reports to the controller which clients connect and disconnect."""

    is_pkgsync = True

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Report a client that has connected."""
        _controller(scheduler).client_connected(client)

    def restart(self, scheduler: Scheduler) -> None:
        """Announce the target again, as Dask drops all metadata when a client restarts the cluster."""
        _controller(scheduler).announce()

    def remove_client(self, scheduler: Scheduler, client: str) -> None:
        """Report a client that has disconnected."""
        _controller(scheduler).client_disconnected(client)


class PermanentHooks(SessionHooks):
    """The hooks of a scheduler whose operator has configured the gate: they stay for as long as the scheduler runs."""

    name = "pkgsync-preload"
    is_permanent = True


class RegisteredPlugin(SessionHooks):
    """The scheduler plugin that a client's `client.plugin.PackageSync` becomes when it arrives at the scheduler.

    Parameters
    ----------
    target : Target
        What the client asks for.
    client : str
        Dask's name of the client.
    """

    name = "pkgsync"

    def __init__(self, target: Target, client: str) -> None:
        self.target, self.client = target, client

    async def start(self, scheduler: Scheduler) -> None:
        """Sync the cluster to the target; an error that is raised here reaches the caller on the client."""
        controller = controller_of(scheduler)
        await controller.pages.mount()
        try:
            await controller.register(self.target, self.client)
        except SyncError as error:
            if error.adopted:
                controller.remove_registered_plugins()
                scheduler.add_plugin(self)  # Dask adds no plugin whose start failed, but the gate must stay
            raise
        controller.remove_registered_plugins()  # Dask adds this one now, and would warn that it replaces another


class Visitor(SchedulerPlugin):
    """Lets a scheduler answer our calls, and changes nothing else: what a client brings that may not connect."""

    name = "pkgsync-visitor"

    async def start(self, scheduler: Scheduler) -> None:
        """Answer calls from now on."""
        controller = controller_of(scheduler)
        answer_calls(scheduler, **controller.handlers)


def visitor(_state: object) -> Visitor:
    """Make the plugin at the scheduler."""
    return Visitor()


def registered_plugin(state: object) -> RegisteredPlugin:
    """Rebuild the plugin at the scheduler from the plain data that it travelled as."""
    field = Field(state, "plugin")
    return RegisteredPlugin(target_from_wire(field.key("target").value), field.key("client").text(200))
