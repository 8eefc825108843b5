"""What nannies and workers use of Dask without being promised it, each use behind a function named after its purpose.

Each function says what it uses, in which versions of distributed that was read, and what to do when it changes.
`tests/contracts/node.py` checks all of them by what Dask does, under the oldest Dask that is supported and under the
newest: where a release of Dask breaks one, the test that fails names the function to mend.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from distributed import Status, versions
from distributed.core import clean_exception
from distributed.metrics import time
from distributed.protocol.pickle import dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributed import Nanny, NannyPlugin, Worker, WorkerPlugin
    from distributed.core import Server


# -- every node -------------------------------------------------------------------------------------------------------


def answer_calls(server: Server, **handlers: Callable[..., Any]) -> None:
    """Let a scheduler, nanny or worker answer calls of these names, for as long as it runs.

    Notes
    -----
    Uses ``Server.handlers``, a dictionary that Dask looks into at each call, and whose own extensions add to it:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: do what ``distributed.lock`` does, whose extension of the scheduler answers calls as well.
    """
    server.handlers.update(handlers)


def pickled(plugin: NannyPlugin | WorkerPlugin) -> bytes:
    """Return a plugin as it travels to nannies and workers.

    Notes
    -----
    Uses ``distributed.protocol.pickle.dumps``, as ``Client.register_plugin`` does: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Nanny.plugin_add`` and ``Worker.plugin_add`` unpickle with.
    """
    return bytes(dumps(plugin))


def plugin_loggers() -> list[logging.Logger]:
    """Return the loggers on which Dask logs what plugins of schedulers, nannies and workers raise, as ``exc_info``.

    Notes
    -----
    Uses the names of Dask's loggers, one for each of its modules: distributed 2024.6.0 and 2026.8.0. In 2024.6.0
    nannies and running workers do not log it at all.
    If it changes: our errors stand in the logs with a traceback; look for the name at the beginning of those lines.
    """
    names = ("distributed.core", "distributed.nanny", "distributed.scheduler", "distributed.worker")
    return [logging.getLogger(name) for name in names]


# -- a nanny ----------------------------------------------------------------------------------------------------------


def has_process(nanny: Nanny) -> bool:
    """Whether a nanny has begun to start a worker: false in the ``setup`` of plugins that the scheduler sends it.

    Notes
    -----
    Uses ``Nanny.process``, which ``Nanny.instantiate`` sets, after the plugins, and which stays while the worker is
    restarted: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Nanny.start_unsafe`` does after it has set up the plugins.
    """
    return nanny.process is not None


async def running_worker(nanny: Nanny, timeout: float) -> str | None:
    """Return the address of a nanny's worker, if it runs; one that is starting is waited for, as many seconds.

    Notes
    -----
    Uses ``status`` and the event ``running`` of the ``WorkerProcess`` in ``Nanny.process``, and
    ``Nanny.worker_address``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``WorkerProcess.kill`` waits for before it ends a process.
    """
    process = nanny.process
    if process is not None and process.status == Status.starting:
        await asyncio.wait_for(process.running.wait(), timeout)
    address = nanny.worker_address
    if address is None or process is None or process.status != Status.running:
        return None
    return str(address)


async def restart_worker(nanny: Nanny, timeout: float, reason: str) -> str:
    """Restart a nanny's worker; return why it does not run after that, or nothing.

    Notes
    -----
    ``Nanny.restart`` answers ``OK``, ``timed out``, or the message of an exception with ``exception_text``. It also
    answers ``OK`` where no worker runs, so ``Nanny.process`` is asked: distributed 2024.6.0 and 2026.8.0.
    If it changes: only the address from `running_worker` counts; the rest is for people.
    """
    result = await nanny.restart(timeout=timeout, reason=reason)
    process = nanny.process
    if result == "OK" and process is not None and process.status == Status.running:
        return ""
    return str(result["exception_text"]) if isinstance(result, dict) else f"{result}, and it does not run"


def plugins_at_start(nanny: Nanny) -> list[Any]:
    """Return the plugins that a nanny's next worker sets up before it registers.

    Notes
    -----
    Uses ``plugins`` in ``Nanny.worker_kwargs``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `set_plugins_at_start`.
    """
    return list(nanny.worker_kwargs.get("plugins") or ())


def set_plugins_at_start(nanny: Nanny, name: str, plugins: Sequence[WorkerPlugin]) -> None:
    """Have the next workers of a nanny set up these plugins, and no others of that name, before they register.

    What such a plugin raises fails the start of the worker.

    Notes
    -----
    Uses ``plugins`` in ``Nanny.worker_kwargs``, from which the first worker is made, and in ``worker_kwargs`` of the
    ``WorkerProcess`` in ``Nanny.process``, from which all others are: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``WorkerProcess.start`` makes the worker of; it must come before the worker registers.
    """
    process = nanny.process
    for kwargs in (nanny.worker_kwargs, *([process.worker_kwargs] if process else [])):
        others = [other for other in kwargs.get("plugins") or () if getattr(other, "name", None) != name]
        kwargs["plugins"] = [*others, *plugins]


async def add_plugin_to_worker(nanny: Nanny, worker: str, plugin: bytes, name: str) -> BaseException | None:
    """Set up a plugin in a nanny's running worker; return what it raised there, or None.

    Notes
    -----
    Uses the handler ``plugin-add`` of workers, which answers ``status``, and where that is not ``OK`` also what
    `distributed.core.clean_exception` makes an exception of: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Scheduler.register_worker_plugin`` broadcasts.
    """
    reply = await getattr(nanny.rpc(worker), "plugin-add")(plugin=plugin, name=name)
    if reply["status"] == "OK":
        return None
    _, exception, _ = clean_exception(reply["exception"], reply["traceback"])
    return exception


# -- a worker ---------------------------------------------------------------------------------------------------------


def is_before_registration(worker: Worker) -> bool:
    """Whether a worker has not registered: so it is in the ``setup`` of plugins that it was made with.

    Notes
    -----
    Uses ``Status.init``: distributed 2024.6.0 and 2026.8.0. A worker is ``running`` before it sets up the plugins that
    come with the scheduler's answer.
    If it changes: find what ``Worker.start_unsafe`` does between its own plugins and ``_register_with_scheduler``.
    """
    return bool(worker.status == Status.init)


def is_at_work(worker: Worker) -> bool:
    """Whether a worker has registered, and set up the plugins that came with the scheduler's answer.

    Notes
    -----
    Uses ``heartbeat`` in ``Worker.periodic_callbacks``, which starts after those plugins: distributed 2024.6.0 and
    2026.8.0.
    If it changes: find what ``Worker._register_with_scheduler`` does after the plugins.
    """
    return bool(worker.status == Status.running and worker.periodic_callbacks["heartbeat"].is_running())


def tell_at_registration(worker: Worker, name: str, function: Callable[[Worker], Any]) -> None:
    """Let a worker tell the scheduler what a function returns when it registers: ``extra`` of its `WorkerState`.

    Notes
    -----
    Uses ``Worker.startup_information``: distributed 2024.6.0 and 2026.8.0. It is public as an argument of `Worker`, and
    the workers are made by others.
    If it changes: find what ``Worker._register_with_scheduler`` sends as ``extra``.
    """
    worker.startup_information[name] = function


async def send_heartbeat(worker: Worker) -> None:
    """Tell the scheduler that a worker lives, as Dask itself does only once the worker is at work.

    Notes
    -----
    Uses the handler ``heartbeat_worker`` of schedulers, ``Worker.contact_address``, ``Worker.get_metrics`` and
    ``distributed.metrics.time``: distributed 2024.6.0 and 2026.8.0. ``Worker.heartbeat`` would close a worker that the
    scheduler does not know.
    If it changes: send what ``Worker.heartbeat`` sends.
    """
    await worker.scheduler.heartbeat_worker(
        address=worker.contact_address,
        now=float(time()),
        metrics=await worker.get_metrics(),
        executing={},
        extensions={},
    )


def forget_versions() -> None:
    """Let ``get_versions`` of this process look again for what is installed.

    Notes
    -----
    Empties the cache of ``distributed.versions._version_cached``: distributed 2026.8.0. In 2024.6.0 there is no such
    function: it asks the modules themselves.
    If it changes: find what ``distributed.versions.get_package_info`` remembers.
    """
    cached = getattr(versions, "_version_cached", None)
    if cached is not None:
        cached.cache_clear()
