"""The side of a nanny: builds layers while the worker goes on, and starts workers in them."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

import dask
from distributed.diagnostics.plugin import NannyPlugin

from dask_pkgsync.carry.travel import carried
from dask_pkgsync.layers.layer import Layer
from dask_pkgsync.model.errors import RestartNeededError
from dask_pkgsync.model.plan import Plan
from dask_pkgsync.model.reports.failure import LayerError, failure_to_wire
from dask_pkgsync.model.reports.sync import report_to_wire, with_changes
from dask_pkgsync.model.target import Target, target_from_wire, target_to_wire
from dask_pkgsync.node.agent import NodeAgent, expected, failure_of, inspected, is_own_process
from dask_pkgsync.node.dask_internals import (
    add_plugin_to_worker,
    answer_calls,
    before_restarts,
    has_process,
    is_running,
    pickled,
    plugins_at_start,
    restart_worker,
    running_worker,
    set_environment,
    set_plugins_at_start,
)
from dask_pkgsync.node.log import log_in_sentences, logger
from dask_pkgsync.node.successor import Successor, discard_of, turn_of, why_none
from dask_pkgsync.node.worker import NAME, WorkerLoads, WorkerSync
from dask_pkgsync.process import activation, spawning
from dask_pkgsync.process.live import take_partly
from dask_pkgsync.process.preparation import TOO_LATE, Prepared, prepare_running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from distributed import Nanny

    from dask_pkgsync.node.worker import Sender

RESTART_TIMEOUT = 120.0
"""Seconds in which a worker process must have stopped and started again."""

START_METHOD = "distributed.worker.multiprocessing-method"
"""The Dask setting for how a nanny starts its worker process."""

LACKS = "the nanny itself, which runs plugins of nannies but no tasks, takes this only when it is started again: {}"
"""The note in reports of a node whose nanny could not take all of the target."""

_start_method_before: list[str] = []
"""The value of `START_METHOD` before this process used a layer; empty while the setting is unchanged."""


class NannySync(NannyPlugin):
    """The nanny plugin: gives a nanny its agent. A starting nanny prepares the target before its worker exists."""

    name = NAME

    def __init__(self, target: Target) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle together with the source of this package."""
        return carried("nanny", *nanny_parcel(target_to_wire(self.target)))

    async def setup(self, nanny: Nanny) -> None:
        """Answer the scheduler's calls; in a nanny that is starting, also prepare the target for its worker."""
        log_in_sentences()
        agent = NannyAgent(nanny)
        agent.listen()
        if has_process(nanny):
            return  # the nanny runs already: the scheduler will call its agent
        try:
            await agent.relaunch_if_needed(self.target)
            target = await agent.resolved(self.target)
            if note := await agent.configure(target, await agent.prepare(target)):
                logger.warning("%s", note)
        except Exception as error:
            agent.let_workers_verify(self.target)  # the verification fails, so that no worker starts without the target
            await agent.tell_failure(error)
            raise

    async def teardown(self, nanny: Nanny) -> None:
        """Let the next worker process start in the base."""
        await discard_of(nanny)
        await NannyAgent(nanny).unconfigure()


def nanny_parcel(target: dict[str, Any]) -> tuple[str, object]:
    """Return the function that makes the plugin, as ``module:name``, and its argument, for a target as plain data."""
    return f"{__name__}:nanny_sync", target


def nanny_sync(state: object) -> NannySync:
    """Rebuild the plugin in the nanny from the plain data that it travelled as."""
    return NannySync(target_from_wire(state))


class NannyAgent(NodeAgent):
    """Answers the scheduler's calls for a nanny and its worker."""

    role = "nanny"
    server: Nanny
    unreleased_pid: int | None = None
    """Process id of a worker that could not be drained, and still runs in the released environment."""

    def __init__(self, server: Nanny) -> None:
        super().__init__(server)
        self.own: Prepared | LayerError = Prepared(Plan(()), None)
        """What this process itself takes of the target that was prepared last, or why it can take nothing."""
        self.loading: asyncio.Task[None] | None = None
        """Lets the worker import what it needs, while the layer is built."""

    def listen(self) -> None:
        """Answer the calls of the scheduler, and of a successor of the worker, from now on."""
        super().listen()
        answer_calls(self.server, pkgsync_turn=self.handle_turn)

    async def handle_turn(self, pid: int) -> bool:
        """Answer a successor that is ready to register, once it may, or must not."""
        return await turn_of(self.server, pid)

    async def prepared(self, target: Target) -> Prepared:
        """Prepare a target for the worker, and what this process itself takes of it, for plugins of nannies."""
        if is_own_process(target):
            return await super().prepared(target)
        self.loading = asyncio.create_task(self._load_in_worker())  # nobody waits for it
        prepared = await super().prepared(target)
        asking = asyncio.create_task(asyncio.to_thread(spawning.ask_for_paths, prepared.layer))
        try:
            function = partial(prepare_running, children=prepared)
            self.own = await self.prepare_together("this process", function, target)
        except LayerError as error:
            self.own = error
        finally:
            await asking
        return prepared

    async def _load_in_worker(self) -> None:
        """Let the worker, if it runs, import this package while the layer is built."""
        process = self.server.process
        worker = self.server.worker_address if process is not None and is_running(process) else None
        if worker is not None:
            plugin = await asyncio.to_thread(pickled, WorkerLoads())
            with contextlib.suppress(Exception):  # when it is asked to take the target, its errors are told
                await add_plugin_to_worker(self.server, worker, plugin, NAME)

    async def take(self, target: Target, prepared: Prepared) -> tuple[str, str]:
        """Activate the target in the worker: live if the worker can take it, else by one restart."""
        await self._configure_children(target, prepared)
        own = asyncio.create_task(self._configure_this_process(target))
        try:
            outcome, detail = await self._take_in_worker(target, prepared)
        finally:
            note = await own
        return outcome, "; ".join(filter(None, (detail, note)))

    async def _take_in_worker(self, target: Target, prepared: Prepared) -> tuple[str, str]:
        worker = await running_worker(self.server, RESTART_TIMEOUT)  # waits for one that is starting
        if worker is None:
            return "started", "no worker runs: the next one starts in the environment"
        reply = await self._ask_worker(worker, target, prepared)
        if reply is None:
            outcome = "left alone" if is_own_process(target) else "live" if prepared.layer else "matched"
            return outcome, ""
        async with self._successor(target, prepared) as successor:
            drained = await self._drain()
            if not drained["go"]:
                return "waiting", f"{reply}; it has {drained['lost']}"
            if successor is None or await successor.take_over(f"pkgsync: {reply}") == "failed":
                await self._restart(reply)
        return "restarted", "; ".join(filter(None, (reply, _recomputed(drained))))

    @contextlib.asynccontextmanager
    async def _successor(self, target: Target, prepared: Prepared) -> AsyncIterator[Successor | None]:
        """Start the next worker beside the present one, up to where it would register; None where that cannot be."""
        if reason := await why_none(self.server, NAME):
            logger.info("the worker is restarted, and none is started beside it before that: %s", reason)
            yield None
            return
        successor = Successor(self.server, NAME, _worker_sync(target, prepared, waits=True))
        try:
            is_ready = await successor.wait_until_ready()
            if not is_ready:
                await successor.discard()
            yield successor if is_ready else None
        finally:
            await successor.discard()

    async def _ask_worker(self, worker: str, target: Target, prepared: Prepared) -> str | None:
        """Ask the worker to take the target live; return why it cannot, or None if it did."""
        plugin = await asyncio.to_thread(pickled, _worker_sync(target, prepared))
        try:
            exception = await add_plugin_to_worker(self.server, worker, plugin, NAME)
        except OSError as error:  # the worker died; the nanny starts it again in the target
            return f"the worker did not answer ({error})"
        if exception is None:
            return None
        if not isinstance(exception, RestartNeededError):
            raise LayerError("activate", f"the worker could not activate the target: {exception!r}")
        return str(exception)

    async def _drain(self) -> dict[str, Any]:
        """Let the scheduler drain the worker; return its answer (`Drain.handle_drain`)."""
        scheduler: Any = self.server.scheduler
        drained: dict[str, Any] = await scheduler.pkgsync_drain(
            worker=self.server.worker_address, node=self.server.address
        )
        return drained

    async def _restart(self, reason: str) -> None:
        if text := await restart_worker(self.server, RESTART_TIMEOUT, f"pkgsync: {reason}"):
            raise LayerError(
                "restart", f"the worker was restarted, and does not run in its new environment: {text}",
                advice="Look into the log of this nanny.",
            )  # fmt: skip

    async def configure(self, target: Target, prepared: Prepared) -> str:
        """Let the next worker of this nanny start in the target, and this process import from it.

        Returns
        -------
        str
            What this process itself does not have of the target, for the user; empty if it has all.
        """
        await self._configure_children(target, prepared)
        return await self._configure_this_process(target)

    async def _configure_children(self, target: Target, prepared: Prepared) -> None:
        """Let the next worker of this nanny start in the target."""
        self.let_workers_verify(target, prepared)
        self.in_force = target, prepared
        before_restarts(self.server, self.prepare_again)
        set_environment(self.server, prepared.variables)
        if prepared.layer is None:
            self._start_children_here()
        else:
            path = await asyncio.to_thread(spawning.path_in_layer, prepared.layer, prepared.site_packages)
            self._start_children_in(prepared.layer.python, path)

    async def _configure_this_process(self, target: Target) -> str:
        """Let this process import from the target; return what it does not have of it, as `configure` does."""
        if is_own_process(target):
            return ""
        lacks = await asyncio.to_thread(self._take_in_this_process, target)
        return LACKS.format("; ".join(lacks)) if lacks else ""

    def _take_in_this_process(self, target: Target) -> tuple[str, ...]:
        """Take the layer live in the nanny's own process, as far as it can; return what it lacks."""
        match self.own:
            case LayerError() as error:
                return (f"no layer for it could be built: {error.problem}",)
            case Prepared(layer=Layer(complete=True)):
                return ("all of it, as a running process keeps its base, and the layer stands alone",)
            case Prepared(plan=plan, layer=layer):
                late = [step for step in plan.skipped if step.reason == TOO_LATE]
                skipped = {step.name for step in plan.skipped}
                lacks = take_partly(layer, target, known=skipped, programs=False)
                return (*(f"{step.name} {step.version}, imported in another version" for step in late), *lacks)

    async def prepare_again(self) -> None:
        """Prepare the target once more where its layer or the base has changed, as the nanny starts its worker again.

        If that fails, the worker does not start, as in a nanny that has just started.
        """
        if (in_force := self.in_force) is None:
            return
        target, prepared = in_force
        try:
            changes = await inspected(target, prepared)
            if not changes:
                return
            logger.warning("the environment is prepared once more before the worker starts: %s", "; ".join(changes))
            anew = await self.prepared(target)
            if self.in_force is not in_force:  # a sync or a release has changed the target meanwhile
                return
            await self.configure(target, anew)
        except Exception as error:  # noqa: BLE001  # after any error the verification in the worker fails
            if self.in_force is None or self.in_force[0] is target:  # no sync has changed the target meanwhile
                self.let_workers_verify(target)
                self._start_children_here()
                await self.tell_failure(error)
            return
        report = with_changes(self.report(anew, outcome="started"), changes)
        with contextlib.suppress(OSError):
            await self.server.scheduler.pkgsync_report(report=report_to_wire(report), target=target.id)

    async def tell_failure(self, error: Exception) -> None:
        """Tell the scheduler why this node could not be prepared."""
        failure = failure_of(self.server.address, expected(error))
        with contextlib.suppress(OSError):
            await self.server.scheduler.pkgsync_failed(failure=failure_to_wire(failure))

    def let_workers_verify(self, target: Target, prepared: Prepared | None = None) -> None:
        """Give the next workers of this nanny the plugin that verifies them before they register."""
        set_plugins_at_start(self.server, NAME, [_worker_sync(target, prepared)])

    def _start_children_in(self, python: Path, path: list[str]) -> None:
        spawning.start_children_in(self.server.id, python, path)
        # Children that are forked, also by a fork server, cannot run in another interpreter than their parent.
        if (method := dask.config.get(START_METHOD)) != "spawn":
            _start_method_before.append(method)
            dask.config.set({START_METHOD: "spawn"})

    def _start_children_here(self) -> bool:
        """Let workers start in the base; return whether no other nanny in this process has a layer."""
        is_last = spawning.start_children_here(self.server.id)
        if is_last and _start_method_before:
            dask.config.set({START_METHOD: _start_method_before.pop()})
        return is_last

    async def unconfigure(self) -> None:
        """Undo `configure`: let the next worker of this nanny start in the base, and this process import from it."""
        set_plugins_at_start(self.server, NAME, [])
        before_restarts(self.server, None)
        set_environment(self.server, {})
        self.in_force = None
        if self._start_children_here():
            await asyncio.to_thread(activation.deactivate)

    async def handle_release(self) -> dict[str, Any]:
        """Give the worker its base back: by a restart, if it runs in a layer."""
        plugins = plugins_at_start(self.server)
        has_layer = any(isinstance(plugin, WorkerSync) and plugin.layer for plugin in plugins)
        await self.unconfigure()
        self.ready = {}
        if not has_process(self.server) or not (has_layer or self.unreleased_pid == self.server.pid):
            return {"outcome": "matched", "detail": ""}
        try:
            drained = await self._drain()
            if not drained["go"]:
                self.unreleased_pid = self.server.pid
                return {
                    "outcome": "left alone",
                    "detail": f"its worker still runs in the released environment: it has {drained['lost']}",
                }
            await self._restart("released")
        except LayerError as error:
            return {"failure": failure_to_wire(failure_of(self.server.address, error))}
        return {"outcome": "restarted", "detail": "; ".join(filter(None, ("released", _recomputed(drained))))}


def _recomputed(drained: dict[str, Any]) -> str:
    return f"computed again, where Dask can: {drained['lost']}" if drained["lost"] else ""


def _worker_sync(target: Target, prepared: Prepared | None, *, waits: bool = False) -> WorkerSync:
    layer = prepared.layer if prepared else None
    sent_by: Sender = "client's nanny" if is_own_process(target) else "nanny"
    return WorkerSync(target, layer, sent_by=sent_by, waits=waits)
