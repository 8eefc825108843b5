"""The internals of Dask that nannies and workers use, each in a function that is named after its purpose.

Each function says which internals it uses, in which versions of distributed they were read, and what to do when they
change. `tests/contracts/node.py` tests the behaviour of each against the oldest supported Dask and the newest: where a
release of Dask breaks a function, the test that fails names it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import dask
from distributed import Nanny, Status, Worker, versions
from distributed.core import clean_exception, rpc
from distributed.metrics import time
from distributed.protocol.pickle import dumps

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from distributed import WorkerPlugin
    from distributed.core import Server


# -- every node -------------------------------------------------------------------------------------------------------


def answer_calls(server: Server, **handlers: Callable[..., Any]) -> None:
    """Let a scheduler, nanny or worker answer calls with these handlers, by name, for as long as it runs.

    Notes
    -----
    Uses the dictionary ``Server.handlers``, in which Dask looks up each call, and to which its own extensions add:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: do what the scheduler extension of ``distributed.lock`` does, which answers calls as well.
    """
    server.handlers.update(handlers)


def pickled(plugin: object) -> bytes:
    """Return a plugin, or what unpickles as one, pickled as Dask sends it to nannies and workers.

    Notes
    -----
    Uses ``distributed.protocol.pickle.dumps``, as ``Client.register_plugin`` does: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Nanny.plugin_add`` and ``Worker.plugin_add`` unpickle with.
    """
    return bytes(dumps(plugin))


def plugin_loggers() -> list[logging.Logger]:
    """Return the loggers on which Dask logs the errors of scheduler, nanny and worker plugins, as ``exc_info``.

    Notes
    -----
    Uses the names of Dask's loggers, one for each of its modules: distributed 2024.6.0 and 2026.8.0. In 2024.6.0
    nannies and running workers do not log these errors at all.
    If it changes: our errors are logged with a traceback; those lines begin with the name of the logger.
    """
    names = ("distributed.core", "distributed.nanny", "distributed.scheduler", "distributed.worker")
    return [logging.getLogger(name) for name in names]


# -- a nanny ----------------------------------------------------------------------------------------------------------


def has_process(nanny: Nanny) -> bool:
    """Whether a nanny has begun to start a worker; false in the ``setup`` of plugins that it receives when it starts.

    Notes
    -----
    Uses ``Nanny.process``, which ``Nanny.instantiate`` sets after the plugins, and which stays set while the worker is
    restarted: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Nanny.start_unsafe`` does after it has set up the plugins.
    """
    return nanny.process is not None


async def running_worker(nanny: Nanny, timeout: float) -> str | None:
    """Return the address of a nanny's worker, if it runs; wait for one that is starting, at most ``timeout`` seconds.

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
    """Restart a nanny's worker; return why it does not run afterwards, as text, or nothing.

    Notes
    -----
    ``Nanny.restart`` returns ``OK``, ``timed out``, or an error message with ``exception_text``. It also returns ``OK``
    where no worker runs, so this also reads ``Nanny.process``: distributed 2024.6.0 and 2026.8.0.
    If it changes: decide by `running_worker` alone; the texts are only for error messages.
    """
    result = await nanny.restart(timeout=timeout, reason=reason)
    process = nanny.process
    if result == "OK" and process is not None and process.status == Status.running:
        return ""
    return str(result["exception_text"]) if isinstance(result, dict) else f"{result}, and it does not run"


def plugins_at_start(nanny: Nanny) -> list[Any]:
    """Return the plugins that the next worker of a nanny sets up before it registers.

    Notes
    -----
    Uses ``plugins`` in ``Nanny.worker_kwargs``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `set_plugins_at_start`.
    """
    return list(nanny.worker_kwargs.get("plugins") or ())


def set_plugins_at_start(nanny: Nanny, name: str, plugins: Sequence[WorkerPlugin]) -> None:
    """Have the next workers of a nanny set up these plugins, and no others of that name, before they register.

    If such a plugin raises, the worker does not start.

    Notes
    -----
    Uses ``plugins`` in ``Nanny.worker_kwargs``, from which the first worker is made, and in ``worker_kwargs`` of the
    ``WorkerProcess`` in ``Nanny.process``, from which all others are: distributed 2024.6.0 and 2026.8.0.
    If it changes: find the arguments from which ``WorkerProcess.start`` makes the worker; the plugins must be set up
    before the worker registers.
    """
    process = nanny.process
    for kwargs in (nanny.worker_kwargs, *([process.worker_kwargs] if process else [])):
        others = [other for other in kwargs.get("plugins") or () if getattr(other, "name", None) != name]
        kwargs["plugins"] = [*others, *plugins]


_variables: WeakKeyDictionary[Nanny, frozenset[str]] = WeakKeyDictionary()
"""By nanny, the names of the variables that `set_environment` has set."""


def set_environment(nanny: Nanny, variables: Mapping[str, str]) -> None:
    """Have the next workers of a nanny start with these environment variables, and no others that were set so before.

    Variables that the nanny was given for its workers stay as they are.

    Notes
    -----
    Changes the dictionary ``Nanny.env``, which the ``WorkerProcess`` in ``Nanny.process`` shares, and which each worker
    adds to `os.environ` before it does anything else: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``WorkerProcess._run`` does with ``env``.
    """
    env = nanny.env
    for name in _variables.pop(nanny, frozenset()):
        env.pop(name, None)
    new = {name: value for name, value in variables.items() if name not in env}
    _variables[nanny] = frozenset(new)
    env.update(new)


def before_restarts(nanny: Nanny, function: Callable[[], Awaitable[None]] | None) -> None:
    """Await a function each time before a nanny starts its worker again, in place of an earlier one; None for none.

    Notes
    -----
    Replaces ``Nanny.instantiate`` of this nanny, which ``Nanny.restart`` calls, also for ``Client.restart``, and so
    does the nanny when its worker has ended: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what calls ``WorkerProcess.start``.
    """
    vars(nanny).pop("instantiate", None)
    if function is None:
        return
    instantiate = nanny.instantiate

    async def function_then_instantiate() -> Any:
        if has_process(nanny):
            await function()
        return await instantiate()

    vars(nanny)["instantiate"] = function_then_instantiate


def why_not_two_workers(nanny: Nanny, name: str) -> str:
    """Return why two workers of a nanny cannot run at the same time; empty if they can.

    They cannot where they would have the same port or device, or where code of others, which may rely on being alone,
    runs when a worker starts.

    Parameters
    ----------
    nanny : Nanny
    name : str
        The plugins of this name do not count.

    Notes
    -----
    Uses ``Worker``, the class, and ``worker_kwargs`` of the ``WorkerProcess`` in ``Nanny.process``, with the arguments
    of `Worker`: distributed 2024.6.0 and 2026.8.0.
    If it changes: return a reason, so that workers are restarted as by ``Nanny.restart``.
    """
    process = nanny.process
    if process is None or process.status != Status.running:
        return "no worker runs"
    kwargs = process.worker_kwargs
    fixed = [key for key in ("port", "dashboard_address") if _is_fixed(kwargs.get(key))]
    given = [key for key in ("contact_address", "resources", "services") if kwargs.get(key)]
    preloads = [one for one in _as_list(kwargs.get("preload")) if one != "dask_pkgsync.preload"]
    plugins = [one for one in kwargs.get("plugins") or () if getattr(one, "name", None) != name]
    if process.Worker is not Worker:
        return f"its workers are of the class {process.Worker.__name__}"
    if fixed or given:
        return f"its workers have been given: {', '.join((*fixed, *given))}"
    if preloads or plugins:
        return "its workers have preloads or plugins of their own"
    return ""


def _is_fixed(address: object) -> bool:
    """Whether a port, or an address with a port, leaves no choice; 0 does."""
    return address is not None and str(address).rpartition(":")[2] not in ("", "0")


def _as_list(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [value] if value else []


def has_fixed_name(nanny: Nanny) -> bool:
    """Whether all workers of a nanny have the same name, of which the scheduler registers one worker at a time.

    Notes
    -----
    Uses ``name`` in ``worker_kwargs`` of the ``WorkerProcess`` in ``Nanny.process``; without a name, a worker is called
    by its address: distributed 2024.6.0 and 2026.8.0.
    If it changes: return True.
    """
    return nanny.process is not None and nanny.process.worker_kwargs.get("name") is not None


def second_process(nanny: Nanny, name: str, plugins: Sequence[WorkerPlugin]) -> Any:
    """Return a further worker process like that of a nanny, which is not started, and of which the nanny knows nothing.

    Parameters
    ----------
    nanny : Nanny
    name : str
    plugins : sequence of WorkerPlugin
        What it sets up before it registers, in place of all plugins of that name.

    Notes
    -----
    Makes a ``WorkerProcess`` as ``Nanny.instantiate`` does, from the attributes that the one in ``Nanny.process`` keeps
    of its own arguments: distributed 2024.6.0 and 2026.8.0.
    If it changes: see how ``Nanny.instantiate`` makes it.
    """
    present = nanny.process
    assert present is not None  # noqa: S101  # `why_not_two_workers` has looked
    others = [one for one in present.worker_kwargs.get("plugins") or () if getattr(one, "name", None) != name]
    return type(present)(
        worker_kwargs={**present.worker_kwargs, "plugins": [*others, *plugins]},
        silence_logs=present.silence_logs,
        on_exit=None,
        worker=present.Worker,
        env=present.env,
        pre_spawn_env=present.pre_spawn_env,
        config=present.config,
    )


def put_in_place(nanny: Nanny, process: Any) -> None:
    """Make a process of `second_process` the nanny's own, which starts it again when it ends.

    The former process is no longer the nanny's, and still runs.

    Notes
    -----
    Sets ``Nanny.process``, and ``worker_kwargs`` and ``on_exit`` of the two ``WorkerProcess``; each calls ``on_exit``
    when it has ended: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Nanny.instantiate`` gives a ``WorkerProcess``.
    """
    former = nanny.process
    assert former is not None  # noqa: S101  # `why_not_two_workers` has looked
    process.worker_kwargs = former.worker_kwargs  # those of all further workers
    process.on_exit, former.on_exit = former.on_exit, None
    nanny.process = process


def is_running(process: Any) -> bool:
    """Whether the worker of a worker process has registered, and has not ended.

    Notes
    -----
    Uses ``WorkerProcess.status``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``WorkerProcess.start`` returns.
    """
    return bool(process.status == Status.running)


async def end_process(process: Any, timeout: float, reason: str) -> None:
    """Let the worker of a worker process close, and kill it if it has not after some seconds.

    Notes
    -----
    Uses ``WorkerProcess.kill`` as ``Nanny.kill`` does: distributed 2024.6.0 and 2026.8.0.
    If it changes: see ``Nanny.kill``.
    """
    await process.kill(timeout=timeout, reason=reason)


async def kill_process(process: Any) -> None:
    """Kill a worker process at once, also one whose worker has not registered; nothing is raised if it has ended.

    Notes
    -----
    Uses the ``AsyncProcess`` in ``WorkerProcess.process``, which is None once the process has ended.
    ``WorkerProcess.kill`` would wait until the worker has registered: distributed 2024.6.0 and 2026.8.0.
    If it changes: send SIGKILL to ``WorkerProcess.pid``.
    """
    if (child := process.process) is not None:
        with contextlib.suppress(ValueError):  # it has ended meanwhile
            await child.kill()
            await child.join()


async def add_plugin_to_worker(nanny: Nanny, worker: str, plugin: bytes, name: str) -> BaseException | None:
    """Set up a plugin in a nanny's running worker; return the exception that it raised there, or None.

    Notes
    -----
    Uses the handler ``plugin-add`` of workers, which answers ``status``, and where that is not ``OK`` also the parts
    from which `distributed.core.clean_exception` restores the exception: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Scheduler.register_worker_plugin`` broadcasts.
    """
    reply = await getattr(nanny.rpc(worker), "plugin-add")(plugin=plugin, name=name)
    if reply["status"] == "OK":
        return None
    _, exception, _ = clean_exception(reply["exception"], reply["traceback"])
    return exception


def servers_here() -> list[Nanny | Worker]:
    """Return the nannies that run in this process, or, where there are none, its workers.

    Notes
    -----
    Uses ``Nanny._instances`` and ``Worker._instances``, sets of weak references in which closed ones stay as long as
    anything refers to them, and ``status``: distributed 2024.6.0 and 2026.8.0.
    If it changes: keep the servers whose plugins of ours have been set up.
    """
    ended = (Status.closing, Status.closed, Status.failed, Status.closing_gracefully)
    nannies: list[Any] = [nanny for nanny in list(Nanny._instances) if nanny.status not in ended]  # noqa: SLF001
    return nannies or [worker for worker in list(Worker._instances) if worker.status not in ended]  # noqa: SLF001


def preloads_of(server: Server) -> list[str]:
    """Return the preloads of a scheduler, worker or nanny, and of the workers of a nanny, as its command names them.

    Notes
    -----
    Uses ``preloads`` of each, a sequence of objects with ``name``, and ``Nanny.preload``, a name or a list of names:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``distributed.preloading.process_preloads`` is called with.
    """
    own = [str(preload.name) for preload in server.preloads]  # type: ignore[attr-defined]
    return [*own, *map(str, _as_list(getattr(server, "preload", None)))]


async def end_worker(nanny: Nanny, timeout: float, reason: str) -> None:
    """End the worker of a nanny for good: the nanny stays, and starts no other one.

    Notes
    -----
    Sets ``on_exit`` of the ``WorkerProcess`` in ``Nanny.process`` to None, by which the nanny would start its worker
    again, and calls ``Nanny.kill``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Nanny.close`` does before it kills the process.
    """
    if nanny.process is not None:
        nanny.process.on_exit = None
        await nanny.kill(timeout=timeout, reason=reason)


async def call_scheduler(server: Nanny | Worker, operation: str, **arguments: Any) -> Any:
    """Call a handler of the scheduler of a nanny or worker, also of one that has not started.

    Notes
    -----
    Opens a connection with ``Server.connection_args`` to ``scheduler.addr``, as the connections of ``Server.scheduler``
    can only be used once the server has started: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Nanny.start_unsafe`` connects with.
    """
    async with rpc(server.scheduler.addr, connection_args=server.connection_args) as scheduler:
        return await getattr(scheduler, operation)(**arguments)


def around_start(kind: type[Server], function: Callable[[Any, Callable[[], Awaitable[Any]]], Awaitable[Any]]) -> None:
    """Call a function in place of the start of each scheduler, nanny or worker of this process from now on.

    Parameters
    ----------
    kind : type
        `Scheduler`, `Nanny` or `Worker`.
    function : callable
        Receives the server, and a function that starts it as Dask does; returns what that one returns.

    Notes
    -----
    Replaces the method ``start_unsafe`` of the class, which ``Server.start`` calls once for each server. A scheduler
    listens in it, and a nanny has a worker that has registered when it returns: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Server.start`` calls.
    """
    start: Callable[[Any], Awaitable[Any]] = kind.start_unsafe

    async def start_unsafe(self: Any) -> Any:
        return await function(self, lambda: start(self))

    kind.start_unsafe = start_unsafe  # type: ignore[method-assign]


# -- a worker ---------------------------------------------------------------------------------------------------------


def is_before_registration(worker: Worker) -> bool:
    """Whether a worker has not registered yet: true in the ``setup`` of the plugins that it was created with.

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
    """Let a worker send the result of a function when it registers; the scheduler has it in ``extra`` of `WorkerState`.

    Notes
    -----
    Uses ``Worker.startup_information``: distributed 2024.6.0 and 2026.8.0. It is public as an argument of `Worker`, but
    we do not create the workers.
    If it changes: find what ``Worker._register_with_scheduler`` sends as ``extra``.
    """
    worker.startup_information[name] = function


async def send_heartbeat(worker: Worker) -> None:
    """Send a worker's heartbeat to the scheduler; Dask itself begins with that only after the plugins are set up.

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
    """Let ``get_versions`` in this process read the installed versions again.

    Notes
    -----
    Empties the cache of ``distributed.versions._version_cached``: distributed 2026.8.0. In 2024.6.0 there is no such
    function: ``get_versions`` reads the imported modules.
    If it changes: find what ``distributed.versions.get_package_info`` caches.
    """
    cached = getattr(versions, "_version_cached", None)
    if cached is not None:
        cached.cache_clear()


def metrics_namespace() -> str:
    """Return the beginning of the names of Dask's metrics for Prometheus.

    Notes
    -----
    Uses ``distributed.dashboard.prometheus.namespace`` of Dask's configuration, as ``PrometheusCollector`` does, and
    that ``/metrics`` shows ``prometheus_client.REGISTRY``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``distributed.http.scheduler.prometheus`` registers.
    """
    return str(dask.config.get("distributed.dashboard.prometheus.namespace", "dask") or "")
