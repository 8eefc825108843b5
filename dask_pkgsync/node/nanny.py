"""In a nanny: builds layers while the worker goes on, and starts workers in them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import dask
from distributed.diagnostics.plugin import NannyPlugin

from dask_pkgsync.carry.travel import carried
from dask_pkgsync.model.errors import RestartNeededError
from dask_pkgsync.model.reports.failure import LayerError, failure_to_wire
from dask_pkgsync.model.target import Target, target_from_wire, target_to_wire
from dask_pkgsync.node.agent import NodeAgent, expected, failure_of, is_own_process
from dask_pkgsync.node.dask_internals import (
    add_plugin_to_worker,
    has_process,
    pickled,
    plugins_at_start,
    restart_worker,
    running_worker,
    set_plugins_at_start,
)
from dask_pkgsync.node.log import log_in_sentences
from dask_pkgsync.node.worker import NAME, WorkerSync
from dask_pkgsync.process import spawning

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Nanny

    from dask_pkgsync.process.preparation import Prepared

RESTART_TIMEOUT = 120.0
"""Seconds in which a worker process must have stopped and started again."""

METHOD = "distributed.worker.multiprocessing-method"
HELD = "not restarted yet, and takes no tasks until it is: it has {}"
"""What is told of a node whose worker could not be drained."""

_method_before: list[str] = []
"""What was configured before layers came into use in this process; empty while it is untouched."""


class NannySync(NannyPlugin):
    """Gives a nanny its agent. A nanny that starts prepares the target before its worker process exists."""

    name = NAME

    def __init__(self, target: Target) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel with the package's own source."""
        return carried(f"{__name__}:nanny_sync", target_to_wire(self.target))

    async def setup(self, nanny: Nanny) -> None:
        """Listen; in a nanny that is starting, also prepare and see to it that the worker starts in the target."""
        log_in_sentences()
        agent = NannyAgent(nanny)
        agent.listen()
        if has_process(nanny):
            return  # it is at work already: the scheduler will ask the agent
        try:
            await agent.configure(self.target, await agent.prepare(self.target))
        except Exception as error:
            agent.let_workers_verify(self.target)  # which fails, so that no worker starts without the target
            failure = failure_of(nanny.address, expected(error))
            with contextlib.suppress(OSError):
                await nanny.scheduler.pkgsync_failed(failure=failure_to_wire(failure))
            raise

    async def teardown(self, nanny: Nanny) -> None:
        """Start children as ever."""
        NannyAgent(nanny).unconfigure()


def nanny_sync(state: object) -> NannySync:
    """Make the plugin again at the other end."""
    return NannySync(target_from_wire(state))


class NannyAgent(NodeAgent):
    """Answers the scheduler for a nanny and its worker."""

    role = "nanny"
    server: Nanny
    keeps: int | None = None
    """The process of a worker that still runs in what was released."""

    async def take(self, target: Target, prepared: Prepared) -> tuple[str, str]:
        """Make the worker run the target: live if it can, else by one restart."""
        await self.configure(target, prepared)
        worker = await running_worker(self.server, RESTART_TIMEOUT)  # (killed or restarted just now, it is starting)
        if worker is None:
            return "started", "its next worker starts in the environment"
        reply = await self._ask_worker(worker, target, prepared)
        if reply is None:
            outcome = "left alone" if is_own_process(target) else "live" if prepared.layer else "matched"
            return outcome, ""
        drained = await self._drain()
        if not drained["go"]:
            return "waiting", f"{reply}; {HELD.format(drained['lost'])}"
        await self._restart(reply)
        return "restarted", "; ".join(filter(None, (reply, _computed_again(drained))))

    async def _ask_worker(self, worker: str, target: Target, prepared: Prepared) -> str | None:
        """Ask the worker to take the target live; return why it cannot, or None if it did."""
        plugin = pickled(_worker_sync(target, prepared))
        try:
            exception = await add_plugin_to_worker(self.server, worker, plugin, NAME)
        except OSError as error:  # it died meanwhile, and starts again in the target
            return f"the worker did not answer ({error})"
        if exception is None:
            return None
        if not isinstance(exception, RestartNeededError):
            raise LayerError("activate", f"the worker could not take the target: {exception!r}")
        return str(exception)

    async def _drain(self) -> dict[str, Any]:
        """Have the scheduler move what the worker holds to its peers; return whether it may be restarted."""
        scheduler: Any = self.server.scheduler
        found: dict[str, Any] = await scheduler.pkgsync_drain(
            worker=self.server.worker_address, node=self.server.address
        )
        return found

    async def _restart(self, reason: str) -> None:
        if text := await restart_worker(self.server, RESTART_TIMEOUT, f"pkgsync: {reason}"):
            raise LayerError(
                "restart", f"the worker did not come back in its new environment: {text}",
                advice="Look into the log of this nanny.",
            )  # fmt: skip

    async def configure(self, target: Target, prepared: Prepared) -> None:
        """Let the next worker process of this nanny start in the target, and verify it before it registers."""
        self.let_workers_verify(target, prepared)
        if prepared.layer is None:
            self._start_children_here()
            return
        path = await asyncio.to_thread(spawning.path_in_layer, prepared.layer, prepared.site_packages)
        self._start_children_in(prepared.layer.python, path)

    def let_workers_verify(self, target: Target, prepared: Prepared | None = None) -> None:
        """Give the nanny's workers the plugin that checks them before they register."""
        set_plugins_at_start(self.server, NAME, [_worker_sync(target, prepared)])

    def _start_children_in(self, python: Path, path: list[str]) -> None:
        spawning.start_children_in(self.server.id, python, path)
        # The children of a fork, or of a fork server, cannot run in another interpreter than their parent.
        if (method := dask.config.get(METHOD)) != "spawn":
            _method_before.append(method)
            dask.config.set({METHOD: "spawn"})

    def _start_children_here(self) -> None:
        if spawning.start_children_here(self.server.id) and _method_before:
            dask.config.set({METHOD: _method_before.pop()})

    def unconfigure(self) -> None:
        """Let the next worker process start in the base, as it did before us."""
        set_plugins_at_start(self.server, NAME, [])
        self._start_children_here()

    async def handle_release(self) -> dict[str, Any]:
        """Give the worker its base back: with a restart, if it has a layer."""
        plugins = plugins_at_start(self.server)
        has_layer = any(isinstance(plugin, WorkerSync) and plugin.layer for plugin in plugins)
        self.unconfigure()
        self.ready = {}
        if not has_process(self.server) or not (has_layer or self.keeps == self.server.pid):
            return {"outcome": "matched", "detail": ""}
        try:
            drained = await self._drain()
            if not drained["go"]:
                self.keeps = self.server.pid
                return {"outcome": "left alone", "detail": f"it keeps what was released: it has {drained['lost']}"}
            await self._restart("released")
        except LayerError as error:
            return {"failure": failure_to_wire(failure_of(self.server.address, error))}
        return {"outcome": "restarted", "detail": "; ".join(filter(None, ("released", _computed_again(drained))))}


def _computed_again(drained: dict[str, Any]) -> str:
    return f"computed again, where Dask can: {drained['lost']}" if drained["lost"] else ""


def _worker_sync(target: Target, prepared: Prepared | None) -> WorkerSync:
    layer = prepared.layer if prepared else None
    return WorkerSync(target, layer, sent_by="client's nanny" if is_own_process(target) else "nanny")
