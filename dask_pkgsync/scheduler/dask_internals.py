"""The internals of Dask that the scheduler's side uses, each in a function that is named after its purpose.

Each function says which internals it uses, in which versions of distributed they were read, and what to do when they
change. `tests/contracts/scheduler.py` tests the behaviour of each against the oldest supported Dask and the newest:
where a release of Dask breaks a function, the test that fails names it.
"""
# ruff: noqa: SLF001  # private attributes of Dask are used here and nowhere else

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from functools import lru_cache
from time import time
from typing import TYPE_CHECKING, Any

from distributed import Status
from distributed.comm.core import CommClosedError
from distributed.versions import get_versions
from tornado.routing import PathMatches

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from distributed import Scheduler
    from distributed.comm.core import Comm
    from distributed.scheduler import WorkerState

    Handler: TypeAlias = Callable[..., Awaitable[Any]]

CLIENT, WORKER, NANNY, IDENTITY = "register-client", "register-worker", "register_nanny", "identity"
"""Operations for `stand_in_for`: a client, worker or nanny registers, a client asks for the state of the cluster."""


EXTENSION = "pkgsync"
"""The name of the controller in ``Scheduler.extensions``."""


# -- registration -----------------------------------------------------------------------------------------------------


def stand_in_for(scheduler: Scheduler, operation: str, handler: Handler) -> Handler:
    """Replace the scheduler's handler of an operation by ours; return Dask's handler, for `put_back`.

    Dask calls our handler with the `Comm`, and with the parts of the message as keyword arguments.

    Notes
    -----
    Replaces an entry of ``Server.handlers``, in which ``Server.handle_comm`` looks at each call; the names are
    ``register-client``, ``register-worker`` and ``identity``: distributed 2024.6.0 and 2026.8.0.
    If it changes: find the handlers that call ``Scheduler.add_client`` and ``Scheduler.add_worker``. Unless our
    handlers replace them, the gate is open.
    """
    before: Handler = scheduler.handlers[operation]
    scheduler.handlers[operation] = handler
    return before


def put_back(scheduler: Scheduler, operation: str, handler: Handler) -> None:
    """Undo `stand_in_for`.

    Notes
    -----
    Uses what `stand_in_for` uses: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `stand_in_for`.
    """
    scheduler.handlers[operation] = handler


def knows_n_workers(scheduler: Scheduler) -> bool:
    """Whether clients may limit the number of workers when they ask for the scheduler's identity, as newer clients do.

    Notes
    -----
    Uses the parameter ``n_workers`` of the handler ``identity``: distributed 2026.8.0 has it (since 2025.4.0).
    Distributed 2024.6.0 does not have it, and answers such a client with an error before the client registers.
    If it changes: look at what ``Client._update_scheduler_info`` sends before ``register-client``.
    """
    return "n_workers" in inspect.signature(scheduler.handlers[IDENTITY]).parameters


def misfit(scheduler: Scheduler, operation: str, message: dict[str, Any]) -> str:
    """Return how the parts of a registration message differ from what Dask's handler takes; empty if they fit.

    Notes
    -----
    Uses the signatures of ``Scheduler.add_client`` and ``Scheduler.add_worker``, which get the `Comm` and then the
    parts of the message by name: distributed 2024.6.0 and 2026.8.0.
    If it changes: bind the message to the handler that `stand_in_for` returns.
    """
    handler: Any = scheduler.add_client if operation == CLIENT else scheduler.add_worker
    function, itself = (handler.__func__, (None,)) if inspect.ismethod(handler) else (handler, ())
    try:
        _signature(function).bind(*itself, None, **message)
    except TypeError as error:
        return str(error)
    return ""


@lru_cache(maxsize=10)
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


async def refuse_client(comm: Comm, reason: str) -> None:
    """Refuse a client that registers, so that its ``Client(...)`` raises an `ImportError` with the reason.

    Notes
    -----
    Sends a list with one message ``stream-start`` that has ``error``, as ``Client._ensure_connected`` reads it:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: find in that method which answer makes a client of the new Dask raise. Clients of older releases must
    go on raising.
    """
    await _send_and_close(comm, [{"op": "stream-start", "error": reason}])


async def refuse_worker(comm: Comm, reason: str) -> None:
    """Refuse a worker that registers, so that it does not start, and logs the reason.

    Notes
    -----
    Sends ``status``, ``message`` and ``time``, as ``Worker._register_with_scheduler`` reads them: distributed 2024.6.0
    and 2026.8.0.
    If it changes: see what ``Scheduler.add_worker`` answers to a worker whose name is taken.
    """
    await _send_and_close(comm, {"status": "error", "message": reason, "time": time()})


async def _send_and_close(comm: Comm, message: object) -> None:
    with contextlib.suppress(CommClosedError):
        await comm.write(message)
        await comm.close()


def package_versions() -> dict[str, str | None]:
    """Return the versions that this process states in Dask's handshake, by package.

    Notes
    -----
    Uses ``packages`` of ``distributed.versions.get_versions``: distributed 2024.6.0 and 2026.8.0.
    If it changes: return what a client or worker sends as ``versions`` when it registers.
    """
    packages: dict[str, str | None] = get_versions()["packages"]
    return packages


def runs_a_scheduler_alone() -> bool:
    """Whether the command ``dask`` started this process as a scheduler, so that it does nothing else and may be ended.

    Notes
    -----
    Uses the names of the modules that the command imports for ``dask scheduler`` and ``dask spec``: distributed
    2024.6.0 and 2026.8.0. A module that ``python -m`` runs is called ``__main__`` and is not recognised: a scheduler
    that `SSHCluster` starts is not ended.
    If it changes: look for ``dask_cli`` in the entry points of distributed.
    """
    return bool({"distributed.cli.dask_scheduler", "distributed.cli.dask_spec"} & sys.modules.keys())


# -- connected clients and workers ------------------------------------------------------------------------------------


def has_connection(scheduler: Scheduler, client: str) -> bool:
    """Whether a name in ``Scheduler.clients`` is a connected client's: Dask itself holds results under other names.

    Notes
    -----
    Uses ``Scheduler.client_comms``, which has a client from shortly after ``add_client`` of the plugins until it
    disconnects: distributed 2024.6.0 and 2026.8.0.
    If it changes: count ``add_client`` and ``remove_client`` of a `SchedulerPlugin` alone.
    """
    return client in scheduler.client_comms


def connection_of(scheduler: Scheduler, client: str) -> Comm | None:
    """Return the connection of a client, if it has one.

    When the connection is aborted, Dask forgets the client, and the client connects again.

    Notes
    -----
    Uses ``comm`` of the ``BatchedSend`` in ``Scheduler.client_comms``: distributed 2024.6.0 and 2026.8.0.
    If it changes: find the `Comm` that ``Scheduler.add_client`` reads from.
    """
    stream = scheduler.client_comms.get(client)
    return stream.comm if stream is not None else None


def hold_worker(scheduler: Scheduler, worker: WorkerState, stimulus: str) -> None:
    """Assign no new tasks to a worker until `free_worker`; it finishes its tasks, and its peers can fetch its results.

    Notes
    -----
    Calls ``Scheduler.handle_worker_status_change`` with ``Status.closing_gracefully``, as ``Scheduler.retire_workers``
    does before it moves results. The worker itself gets no message: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Scheduler.retire_workers`` does first with each worker.
    """
    scheduler.handle_worker_status_change(Status.closing_gracefully, worker, stimulus)


def free_worker(scheduler: Scheduler, worker: str, stimulus: str) -> None:
    """Let a worker that `hold_worker` has held take tasks again.

    Notes
    -----
    Sends the worker ``worker-status-change``, which it confirms even if its status never changed on its side:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Scheduler.retire_workers`` does with a worker that it cannot retire.
    """
    message = {"op": "worker-status-change", "status": Status.running.name, "stimulus_id": stimulus}
    scheduler.worker_send(worker, message)


# -- what people have on a scheduler ----------------------------------------------------------------------------------

_NAMED = {
    "published dataset": ("publish", "datasets"),
    "variable": ("variables", "variables"),
    "queue": ("queues", "queues"),
    "semaphore or lock": ("semaphores", "max_leases"),
    "multi-lock": ("multi_locks", "locks"),
    "event": ("events", "_events"),
    "lock": ("locks", "ids"),
}
"""By kind of the things that Dask keeps by name: the scheduler extension, and its attribute, a mapping with the names.
Locks are semaphores in newer releases."""


def named_objects(scheduler: Scheduler) -> list[tuple[str, str]]:
    """Return the kind and the name of each dataset, variable, queue, semaphore, lock and event of a scheduler.

    Notes
    -----
    Uses ``Scheduler.extensions``, and in each of them the attribute that `_NAMED` names; an extension or attribute that
    is not there has none: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``distributed.scheduler.DEFAULT_EXTENSIONS`` keeps.
    """
    return [
        (kind, str(name))
        for kind, (extension, attribute) in _NAMED.items()
        for name in getattr(scheduler.extensions.get(extension), attribute, ())
    ]


def registered_plugins(scheduler: Scheduler) -> list[tuple[str, str]]:
    """Return the kind and the name of each plugin for nannies and workers that was registered, also by ``upload_file``.

    Those of Dask's own extensions, which a new scheduler has as well, are left out.

    Notes
    -----
    Uses the dictionaries ``Scheduler.worker_plugins`` and ``Scheduler.nanny_plugins``, and ``Scheduler.extensions``, as
    the extension ``shuffle`` has a worker plugin of its own name: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `give_new_workers` and `give_new_nannies`.
    """
    by_kind = {"worker plugin": scheduler.worker_plugins, "nanny plugin": scheduler.nanny_plugins}
    return [(kind, name) for kind, plugins in by_kind.items() for name in plugins if name not in scheduler.extensions]


def holders_of_tasks(scheduler: Scheduler) -> dict[str, tuple[int, int, int]]:
    """Return how many unfinished tasks, results, and actors each client has, by Dask's name of the client.

    Tasks that no client wants any more, on which others depend, count for nobody and are under an empty name.

    Notes
    -----
    Uses ``Scheduler.tasks``, and of each task ``who_wants``, ``state`` and ``actor``: distributed 2024.6.0 and
    2026.8.0.
    If it changes: see what ``Scheduler.client_releases_keys`` releases.
    """
    found: dict[str, tuple[int, int, int]] = {}
    for task in scheduler.tasks.values():
        wanting = [client.client_key for client in task.who_wants or ()]
        has = (0, 0, 1) if task.actor else (0, 1, 0) if task.state in ("memory", "erred") else (1, 0, 0)
        for client in wanting or [""]:
            before = found.get(client, (0, 0, 0))
            found[client] = (before[0] + has[0], before[1] + has[1], before[2] + has[2])
    return found


# -- a relaunch -------------------------------------------------------------------------------------------------------


def listens_at(scheduler: Scheduler) -> list[str]:
    """Return the addresses on which a scheduler listens, with their ports.

    Notes
    -----
    Uses ``listen_address`` of each in ``Server.listeners``: distributed 2024.6.0 and 2026.8.0.
    If it changes: return ``Scheduler.address`` alone.
    """
    return [str(listener.listen_address) for listener in scheduler.listeners]


def stop_listening(scheduler: Scheduler) -> None:
    """Accept no new connections from now on; those that are open stay.

    Notes
    -----
    Calls ``stop`` of each in ``Server.listeners``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see ``Server._stop_listeners``.
    """
    for listener in list(scheduler.listeners):
        listener.stop()


def listen_at(scheduler: Scheduler, addresses: list[str]) -> None:
    """Let a scheduler that has not started listen at these addresses, whatever its command says.

    Notes
    -----
    Sets ``Scheduler._start_address``, a list, of which ``Scheduler.start_unsafe`` listens at each: distributed
    2024.6.0 and 2026.8.0.
    If it changes: find what ``Scheduler.start_unsafe`` passes to ``Server.listen``.
    """
    scheduler._start_address = addresses


def hold_registrations(scheduler: Scheduler) -> Callable[[], None]:
    """Let clients, workers and nannies that register wait until the function that is returned is called.

    Notes
    -----
    Replaces the handlers ``register-client``, ``register-worker`` and ``register_nanny`` (see `stand_in_for`), each
    of which gets the `Comm` first: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `stand_in_for`.
    """
    released = asyncio.Event()
    originals = {name: scheduler.handlers[name] for name in (CLIENT, WORKER, NANNY)}
    holding: dict[str, Handler] = {}

    def holder(name: str) -> Handler:
        async def hold(comm: Comm, **message: Any) -> Any:
            is_first = scheduler.handlers[name] is holding[name]  # else the gate calls this in place of Dask's handler
            await released.wait()
            handler = scheduler.handlers[name] if is_first else originals[name]
            return await handler(comm, **message)

        return hold

    for name in originals:
        holding[name] = scheduler.handlers[name] = holder(name)

    def release() -> None:
        for name, original in originals.items():
            if scheduler.handlers[name] is holding[name]:
                scheduler.handlers[name] = original
        released.set()

    return release


# -- metadata and extensions ------------------------------------------------------------------------------------------


def forget_metadata(scheduler: Scheduler, key: str) -> None:
    """Remove a key that ``Scheduler.set_metadata`` has set.

    Notes
    -----
    Uses the dictionary ``Scheduler.task_metadata``: distributed 2024.6.0 and 2026.8.0. There is no public way to remove
    a key.
    If it changes: set the key to an empty dictionary.
    """
    scheduler.task_metadata.pop(key, None)


def extension_of(scheduler: Scheduler, name: str) -> Any:
    """Return the object that `keep_extension` has stored under a name; None if there is none.

    Notes
    -----
    Uses the dictionary ``Scheduler.extensions``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `keep_extension`.
    """
    return scheduler.extensions.get(name)


def keep_extension(scheduler: Scheduler, name: str, extension: object) -> None:
    """Store an object with a scheduler for as long as it runs, so that a later copy of this package finds it, too.

    Notes
    -----
    Uses the dictionary ``Scheduler.extensions``. Dask calls ``teardown`` of its values, where they have it, and
    ``heartbeat`` where a worker has an extension of the same name: distributed 2024.6.0 and 2026.8.0.
    If it changes: any attribute of the scheduler will do.
    """
    scheduler.extensions[name] = extension


# -- the HTTP server --------------------------------------------------------------------------------------------------


def add_pages(scheduler: Scheduler, handlers: list[tuple[str, type, dict[str, Any]]]) -> bool:
    """Add handlers to a scheduler's HTTP server; return False if it has ours already, or has none.

    Parameters
    ----------
    scheduler : Scheduler
    handlers : list
        Paths below the server's prefix, handlers, and their arguments.

    Notes
    -----
    Uses ``Server.http_application``, a tornado application that is made even without a dashboard, and that its route
    ``health`` begins with the prefix of the server (``dask scheduler --dashboard-prefix``): distributed 2024.6.0 and
    2026.8.0.
    If it changes: find what ``Scheduler.__init__`` gives to ``start_http_server``.
    """
    application = getattr(scheduler, "http_application", None)
    if application is None or application.settings.get(EXTENSION):
        return False
    application.settings[EXTENSION] = True
    patterns = [rule.matcher.regex.pattern for rule in application.wildcard_router.rules if _has_path(rule.matcher)]
    prefix = next((one.removesuffix("health$") for one in patterns if one.endswith("/health$")), "/")
    application.add_handlers(".*$", [(prefix + path, handler, rest) for path, handler, rest in handlers])
    return True


def _has_path(matcher: object) -> bool:
    return isinstance(matcher, PathMatches)


def link_page(scheduler: Scheduler, name: str) -> None:
    """Add a page to the navigation of Dask's dashboard, if there is one.

    Notes
    -----
    Uses the list ``pages`` in what ``distributed.dashboard.scheduler.template_variables`` returns, which is the same
    object at each call, and which the templates read for each page: distributed 2024.6.0 and 2026.8.0. The module is
    imported only where bokeh is installed.
    If it changes: the page is not linked, and nothing else is lost.
    """
    dashboard = sys.modules.get("distributed.dashboard.scheduler")
    variables = getattr(dashboard, "template_variables", None)
    if variables is None:
        return
    with contextlib.suppress(Exception):  # a link is not worth an error
        pages = variables(scheduler)["pages"]
        if name not in pages:
            pages.append(name)


# -- plugins ----------------------------------------------------------------------------------------------------------


def give_new_nannies(scheduler: Scheduler, name: str, plugin: bytes | None) -> None:
    """Have each nanny that starts from now on set up a plugin before its worker exists; None removes that name.

    A new nanny sets this plugin up before all others, whose classes it may only find with what this one brings.

    Notes
    -----
    Uses the dictionary ``Scheduler.nanny_plugins``, which ``Scheduler.add_nanny`` sends, and whose plugins a nanny sets
    up one after the other, in their order: distributed 2024.6.0 and 2026.8.0. The public
    ``Scheduler.register_nanny_plugin`` also sets the plugin up in all running nannies, and fails where one of them
    fails.
    If it changes: find what ``Scheduler.add_nanny`` answers to ``register_nanny``.
    """
    others = {other: theirs for other, theirs in scheduler.nanny_plugins.items() if other != name}
    scheduler.nanny_plugins.clear()
    scheduler.nanny_plugins.update(others if plugin is None else {name: plugin, **others})


async def started_nannies(scheduler: Scheduler) -> None:
    """Wait until no nanny is starting, as one that began before `give_new_nannies` does not have the plugin.

    Notes
    -----
    Uses ``Scheduler._starting_nannies`` and the condition ``_starting_nannies_cond``: distributed 2024.6.0 and
    2026.8.0.
    If it changes: do what ``Scheduler.register_nanny_plugin`` does before it broadcasts.
    """
    condition = scheduler._starting_nannies_cond
    async with condition:
        await condition.wait_for(lambda: not scheduler._starting_nannies)


def give_new_workers(scheduler: Scheduler, name: str, plugin: bytes | None) -> None:
    """Have each worker that registers from now on set up a plugin before it is given tasks; None removes that name.

    Notes
    -----
    Uses the dictionary ``Scheduler.worker_plugins``, which ``Scheduler.add_worker`` sends: distributed 2024.6.0 and
    2026.8.0. The public ``Scheduler.register_worker_plugin`` also sets the plugin up in all running workers.
    If it changes: find what ``Scheduler.add_worker`` answers to ``register-worker``.
    """
    if plugin is None:
        scheduler.worker_plugins.pop(name, None)
    else:
        scheduler.worker_plugins[name] = plugin


async def add_plugin_at(scheduler: Scheduler, address: str, plugin: bytes, name: str, *, nanny: bool) -> str:
    """Set up a plugin in one running nanny or worker; return the error that it raised there, as text, or nothing.

    Notes
    -----
    Uses the handlers ``plugin_add`` of nannies and ``plugin-add`` of workers, which answer ``status``, and
    ``exception_text`` where that is not ``OK``: distributed 2024.6.0 and 2026.8.0. The public methods address all
    nannies or workers.
    If it changes: find what ``Scheduler.register_nanny_plugin`` and ``register_worker_plugin`` broadcast.
    """
    add = getattr(scheduler.rpc(address), "plugin_add" if nanny else "plugin-add")
    reply = await add(plugin=plugin, name=name)
    return "" if reply["status"] == "OK" else str(reply["exception_text"])


async def remove_plugin_at(scheduler: Scheduler, address: str, name: str, *, nanny: bool) -> None:
    """Remove a plugin from one nanny or worker; nothing is raised if it has no plugin of that name.

    Notes
    -----
    Uses the handlers ``plugin_remove`` of nannies and ``plugin-remove`` of workers: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Scheduler.unregister_nanny_plugin`` and ``unregister_worker_plugin`` broadcast.
    """
    await getattr(scheduler.rpc(address), "plugin_remove" if nanny else "plugin-remove")(name=name)


async def end_node(scheduler: Scheduler, address: str, reason: str, *, nanny: bool) -> None:
    """Close a nanny with its worker, or a worker without a nanny; it may break the connection instead of answering.

    Notes
    -----
    Uses the handler ``terminate``, with ``reason`` for ``Nanny.close`` and also ``nanny`` for ``Worker.close``:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: find the name that ``Nanny.__init__`` and ``Worker.__init__`` give their handler ``close``.
    """
    options = {} if nanny else {"nanny": False}
    await scheduler.rpc(address).terminate(reason=reason, **options)
