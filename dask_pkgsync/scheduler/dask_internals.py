"""What the scheduler's side uses of Dask without being promised it, each use behind a function named after its purpose.

Each function says what it uses, in which versions of distributed that was read, and what to do when it changes.
`tests/contracts/scheduler.py` checks all of them by what Dask does, under the oldest Dask that is supported and under
the newest: where a release of Dask breaks one, the test that fails names the function to mend.
"""
# ruff: noqa: SLF001  # this module is the one place for it

from __future__ import annotations

import contextlib
import inspect
import sys
from time import time
from typing import TYPE_CHECKING, Any

from distributed import Status
from distributed.comm.core import CommClosedError
from distributed.versions import get_versions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from distributed import Scheduler
    from distributed.comm.core import Comm
    from distributed.scheduler import WorkerState

    Handler: TypeAlias = Callable[..., Awaitable[Any]]

CLIENT, WORKER, IDENTITY = "register-client", "register-worker", "identity"
"""What clients and workers call to register, and clients to see the cluster: names for `stand_in_for`."""


# -- who comes in -----------------------------------------------------------------------------------------------------


def stand_in_for(scheduler: Scheduler, operation: str, handler: Handler) -> Handler:
    """Let a handler of ours answer one of the scheduler's own operations; return Dask's handler, to be put back.

    It is called with the `Comm` and the rest of the message by name.

    Notes
    -----
    Replaces an entry of ``Server.handlers``, into which ``Server.handle_comm`` looks at each call; the names are
    ``register-client``, ``register-worker`` and ``identity``: distributed 2024.6.0 and 2026.8.0.
    If it changes: find the handlers that end in ``Scheduler.add_client`` and ``Scheduler.add_worker``. Unless ours are
    in front of them, the gate is open.
    """
    before: Handler = scheduler.handlers[operation]
    scheduler.handlers[operation] = handler
    return before


def put_back(scheduler: Scheduler, operation: str, handler: Handler) -> None:
    """Undo `stand_in_for`.

    Notes
    -----
    As for `stand_in_for`: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `stand_in_for`.
    """
    scheduler.handlers[operation] = handler


def knows_n_workers(scheduler: Scheduler) -> bool:
    """Whether a client may ask the scheduler for an identity with so many workers, as new clients do.

    Notes
    -----
    Uses the parameter ``n_workers`` of the handler ``identity``: distributed 2026.8.0 has it, since 2025.4.0;
    distributed 2024.6.0 has not, and answers such a client with an error before the client registers.
    If it changes: look at what ``Client._update_scheduler_info`` asks, before ``register-client``.
    """
    return "n_workers" in inspect.signature(scheduler.handlers[IDENTITY]).parameters


def misfit(scheduler: Scheduler, operation: str, message: dict[str, Any]) -> str:
    """Return in which way a message that would register somebody has other parts than Dask's handler takes; or nothing.

    Notes
    -----
    Uses the signatures of ``Scheduler.add_client`` and ``Scheduler.add_worker``, which get the `Comm` and then the
    parts of the message by name: distributed 2024.6.0 and 2026.8.0.
    If it changes: bind to whatever `stand_in_for` returns.
    """
    handler = scheduler.add_client if operation == CLIENT else scheduler.add_worker
    try:
        inspect.signature(handler).bind(None, **message)
    except TypeError as error:
        return str(error)
    return ""


async def refuse_client(comm: Comm, reason: str) -> None:
    """Answer a client that would register so that its ``Client(...)`` raises an `ImportError` with the reason.

    Notes
    -----
    Sends a list with one message ``stream-start`` that has ``error``, as ``Client._ensure_connected`` reads it:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: find there what makes a client of the new Dask raise; a client of the old one must go on raising.
    """
    await _last_words(comm, [{"op": "stream-start", "error": reason}])


async def refuse_worker(comm: Comm, reason: str) -> None:
    """Answer a worker that would register so that it does not start, and logs the reason.

    Notes
    -----
    Sends ``status``, ``message`` and ``time``, as ``Worker._register_with_scheduler`` reads them: distributed 2024.6.0
    and 2026.8.0.
    If it changes: see what ``Scheduler.add_worker`` answers where the name is taken.
    """
    await _last_words(comm, {"status": "error", "message": reason, "time": time()})


async def _last_words(comm: Comm, message: object) -> None:
    with contextlib.suppress(CommClosedError):
        await comm.write(message)
        await comm.close()


def package_versions() -> dict[str, str | None]:
    """Return the versions that Dask tells of this process in a handshake, by package.

    Notes
    -----
    Uses ``packages`` of ``distributed.versions.get_versions``: distributed 2024.6.0 and 2026.8.0.
    If it changes: return what a client or worker says as ``versions`` when it registers.
    """
    packages: dict[str, str | None] = get_versions()["packages"]
    return packages


def runs_a_scheduler_alone() -> bool:
    """Whether this process was started by the command ``dask`` to be a scheduler, and may end where that cannot be.

    Notes
    -----
    Uses the names of the modules that the command imports for ``dask scheduler`` and ``dask spec``: distributed
    2024.6.0 and 2026.8.0. Run by ``python -m`` they are called ``__main__`` and not seen here: a scheduler that
    `SSHCluster` starts goes on.
    If it changes: look for ``dask_cli`` in the entry points of distributed.
    """
    return bool({"distributed.cli.dask_scheduler", "distributed.cli.dask_spec"} & sys.modules.keys())


# -- who is in --------------------------------------------------------------------------------------------------------


def has_connection(scheduler: Scheduler, client: str) -> bool:
    """Whether somebody is behind the name of a client: Dask itself holds results under names, too.

    Notes
    -----
    Uses ``Scheduler.client_comms``, where a client is from shortly after the plugins are told of it until it is gone:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: count ``add_client`` and ``remove_client`` of a `SchedulerPlugin` alone.
    """
    return client in scheduler.client_comms


def connection_of(scheduler: Scheduler, client: str) -> Comm | None:
    """Return the connection of a client, if it has one.

    Where it is aborted, Dask forgets the client, which then connects again.

    Notes
    -----
    Uses ``comm`` of the ``BatchedSend`` in ``Scheduler.client_comms``: distributed 2024.6.0 and 2026.8.0.
    If it changes: find the `Comm` that ``Scheduler.add_client`` reads from.
    """
    stream = scheduler.client_comms.get(client)
    return stream.comm if stream is not None else None


def hold_worker(scheduler: Scheduler, worker: WorkerState, stimulus: str) -> None:
    """Give a worker no new tasks, until `free_worker`; it ends those that it has, and its peers can fetch what it has.

    Notes
    -----
    Calls ``Scheduler.handle_worker_status_change`` with ``Status.closing_gracefully``, as ``Scheduler.retire_workers``
    does before it moves results; the worker itself is not told: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Scheduler.retire_workers`` does first with each worker.
    """
    scheduler.handle_worker_status_change(Status.closing_gracefully, worker, stimulus)


def free_worker(scheduler: Scheduler, worker: str, stimulus: str) -> None:
    """Let a worker that was held take tasks again.

    Notes
    -----
    Sends the worker ``worker-status-change``, which it confirms, also where it was never told anything else:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Scheduler.retire_workers`` does where it gives up on a worker.
    """
    message = {"op": "worker-status-change", "status": Status.running.name, "stimulus_id": stimulus}
    scheduler.worker_send(worker, message)


# -- what the scheduler keeps -----------------------------------------------------------------------------------------


def forget_metadata(scheduler: Scheduler, key: str) -> None:
    """Remove what ``Scheduler.set_metadata`` has set.

    Notes
    -----
    Uses the dictionary ``Scheduler.task_metadata``: distributed 2024.6.0 and 2026.8.0. There is no public way to remove
    anything.
    If it changes: set it to an empty dictionary.
    """
    scheduler.task_metadata.pop(key, None)


def extension_of(scheduler: Scheduler, name: str) -> Any:
    """Return what `keep_extension` has kept with a scheduler; None if it has not.

    Notes
    -----
    Uses the dictionary ``Scheduler.extensions``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `keep_extension`.
    """
    return scheduler.extensions.get(name)


def keep_extension(scheduler: Scheduler, name: str, extension: object) -> None:
    """Keep an object with a scheduler for as long as that lives, whichever copy of this package comes next.

    Notes
    -----
    Uses the dictionary ``Scheduler.extensions``, of whose values Dask calls ``teardown`` where there is one, and
    ``heartbeat`` where a worker has an extension of the same name: distributed 2024.6.0 and 2026.8.0.
    If it changes: any attribute of the scheduler will do.
    """
    scheduler.extensions[name] = extension


# -- plugins ----------------------------------------------------------------------------------------------------------


def give_new_nannies(scheduler: Scheduler, name: str, plugin: bytes | None) -> None:
    """Have nannies that start from now on set up a plugin, before their worker exists; None for none of this name.

    Notes
    -----
    Uses the dictionary ``Scheduler.nanny_plugins``, which ``Scheduler.add_nanny`` sends: distributed 2024.6.0 and
    2026.8.0. The public ``Scheduler.register_nanny_plugin`` sets the plugin up in all that run, too, and one that fails
    there takes its caller along.
    If it changes: find what ``Scheduler.add_nanny`` answers to ``register_nanny``.
    """
    if plugin is None:
        scheduler.nanny_plugins.pop(name, None)
    else:
        scheduler.nanny_plugins[name] = plugin


async def started_nannies(scheduler: Scheduler) -> None:
    """Wait until no nanny is starting: one that began before `give_new_nannies` does not have the plugin.

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
    """Have workers that register from now on set up a plugin, before they are given tasks; None for none of this name.

    Notes
    -----
    Uses the dictionary ``Scheduler.worker_plugins``, which ``Scheduler.add_worker`` sends: distributed 2024.6.0 and
    2026.8.0. The public ``Scheduler.register_worker_plugin`` sets the plugin up in all that run, too.
    If it changes: find what ``Scheduler.add_worker`` answers to ``register-worker``.
    """
    if plugin is None:
        scheduler.worker_plugins.pop(name, None)
    else:
        scheduler.worker_plugins[name] = plugin


async def add_plugin_at(scheduler: Scheduler, address: str, plugin: bytes, name: str, *, nanny: bool) -> str:
    """Set up a plugin in one running nanny or worker; return what it raised there, as text, or nothing.

    Notes
    -----
    Uses the handlers ``plugin_add`` of nannies and ``plugin-add`` of workers, which answer ``status``, and
    ``exception_text`` where that is not ``OK``: distributed 2024.6.0 and 2026.8.0. Public ways address all of them.
    If it changes: find what ``Scheduler.register_nanny_plugin`` and ``register_worker_plugin`` broadcast.
    """
    add = getattr(scheduler.rpc(address), "plugin_add" if nanny else "plugin-add")
    reply = await add(plugin=plugin, name=name)
    return "" if reply["status"] == "OK" else str(reply["exception_text"])


async def remove_plugin_at(scheduler: Scheduler, address: str, name: str, *, nanny: bool) -> None:
    """Take a plugin away from one nanny or worker; nothing is raised where it has none of that name.

    Notes
    -----
    Uses the handlers ``plugin_remove`` of nannies and ``plugin-remove`` of workers: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Scheduler.unregister_nanny_plugin`` and ``unregister_worker_plugin`` broadcast.
    """
    await getattr(scheduler.rpc(address), "plugin_remove" if nanny else "plugin-remove")(name=name)


async def end_node(scheduler: Scheduler, address: str, reason: str, *, nanny: bool) -> None:
    """Let a nanny with its worker, or a worker without one, close; it may break the connection instead of answering.

    Notes
    -----
    Uses the handler ``terminate``, with ``reason`` for ``Nanny.close`` and also ``nanny`` for ``Worker.close``:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: find the name that ``Nanny.__init__`` and ``Worker.__init__`` give their handler ``close``.
    """
    rest = {} if nanny else {"nanny": False}
    await scheduler.rpc(address).terminate(reason=reason, **rest)
