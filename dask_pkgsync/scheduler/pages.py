"""Puts the page and the metrics on the scheduler's HTTP server, and gives them the state of the controller."""

from __future__ import annotations

import asyncio
from time import monotonic, time
from typing import TYPE_CHECKING

from dask_pkgsync.cache.meter import CacheMeter
from dask_pkgsync.node.dask_internals import metrics_namespace
from dask_pkgsync.options.node import node_settings
from dask_pkgsync.scheduler.dask_internals import EXTENSION, add_pages, extension_of, link_page
from dask_pkgsync.scheduler.metrics import metrics_of
from dask_pkgsync.version import __version__
from dask_pkgsync.web.metrics import publish
from dask_pkgsync.web.pages import routes
from dask_pkgsync.web.state import ClusterState

if TYPE_CHECKING:
    from typing import Any

    from distributed import Scheduler

    from dask_pkgsync.model.reports.status import ClientStatus
    from dask_pkgsync.scheduler.controller import Controller

FRESH = 0.9
"""Seconds for which one state answers all viewers."""
CLIENTS_FRESH = 5.0
"""Seconds for which the comparison of clients with the target is shown."""


class Pages:
    """What the page shows of the controller of one scheduler."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.state: ClusterState | None = None
        self.made = self.clients_made = -CLIENTS_FRESH
        self.clients: tuple[ClientStatus, ...] = ()
        self.lock = asyncio.Lock()

    @property
    def controller(self) -> Controller:
        """The scheduler's present controller, which another client's copy of this package may have replaced."""
        found: Controller = extension_of(self.scheduler, EXTENSION)
        return found

    async def mount(self) -> None:
        """Add page and metrics to the scheduler's HTTP server, and a link to Dask's navigation, if it has them."""
        scheduler = self.scheduler

        async def current() -> ClusterState:
            """Return the state of the present controller, as its own copy of this package makes it."""
            found: ClusterState = await extension_of(scheduler, EXTENSION).pages.current()
            return found

        handlers = await asyncio.to_thread(routes, current)
        if not add_pages(scheduler, handlers):
            return
        link_page(scheduler, "pkgsync")
        meter = CacheMeter(lambda: node_settings().cache_directory)

        if publish("scheduler", lambda: metrics_of(self.controller, meter), metrics_namespace()):
            await asyncio.to_thread(meter.measure)

    async def current(self) -> ClusterState:
        """Return the state, which is made at most once a second, however many people look."""
        async with self.lock:
            if self.state is None or monotonic() - self.made > FRESH:
                self.state, self.made = await self._make(), monotonic()
            return self.state

    async def _make(self) -> ClusterState:
        controller = self.controller
        nodes, target = controller.nodes, controller.target
        if monotonic() - self.clients_made > CLIENTS_FRESH:
            shown = target or controller.operator_policy.expected
            environments = controller.acquaintances.environments
            self.clients = await controller.sessions.status(shown, controller.claims, environments)
            self.clients_made = monotonic()
        statuses = nodes.status(target)
        hosts = {ws.nanny or ws.address: str(ws.host) for ws in controller.scheduler.workers.values()}
        hosts = {node.address: hosts.get(node.address) or _host(node.address) for node in statuses}
        return ClusterState(
            self._head(), target, statuses, hosts, dict(nodes.reports), dict(nodes.failures), self.clients
        )

    def _head(self) -> dict[str, Any]:
        controller, history = self.controller, self.controller.history
        claims = controller.claims
        return {
            "now": time(),
            "release": __version__,
            "scheduler": str(controller.scheduler.address),
            "mode": controller.operator_policy.mode if controller.is_permanent else "",
            "note": controller.expiry.note,
            "target": {
                "since": history.target_since,
                "kept": claims.kept,
                "claims": sorted({claim.target.owner for claim in claims.claims.values()}),
                "enforced": controller.operator_policy.enforced is not None,
            },
            "rollout": {
                "running": history.began is not None,
                "since": history.began or 0.0,
                "adopting": controller.rollout.adopting,
                "outcomes": dict(history.rollouts),
            },
            "refusals": [
                {"at": one.at, "who": one.who, "name": one.name, "person": one.person, "reason": one.reason}
                for one in list(history.refusals)[:20]
            ],
            "happenings": [
                {"at": at, "action": event["action"], "text": _sentence(event)}
                for at, event in list(history.happenings)[:20]
            ],
            "caches": {
                "blobs": len(controller.blob_service.locations),
                "blob-bytes": sum(one.blob.size for one in controller.blob_service.locations.values()),
                "bytes": dict(history.bytes),
                "layers": dict(history.layers),
            },
        }


def _host(address: str) -> str:
    return address.partition("://")[2].rpartition(":")[0]


def _sentence(event: dict[str, Any]) -> str:
    """Return an event as a line for people."""
    values = {
        name: ", ".join(map(str, value[:5]))
        if isinstance(value, list)
        else str(value)[: 12 if name == "target" else None]
        for name, value in event.items()
        if name != "action" and value
    }
    return "; ".join(f"{name}: {value[:1000]}" for name, value in values.items())
