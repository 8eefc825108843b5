"""The private parts of Dask that the client's side uses, each behind a function named after its purpose.

Each function names what it uses, the versions of distributed in which that was read, and what to do when it changes.
`tests/contracts/client.py` checks each of them against the oldest supported Dask and the newest. If a release of Dask
breaks one, the failing test names the function to mend.
"""
# ruff: noqa: SLF001  # private attributes of Dask are used in this module alone

from __future__ import annotations

import asyncio
import functools
import weakref
from contextlib import asynccontextmanager
from contextvars import ContextVar
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from distributed import Client, Status, Worker, rpc, versions
from distributed.security import Security

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from typing import TypeAlias

    from distributed.diagnostics.plugin import SchedulerPlugin

    GetVersions: TypeAlias = Callable[..., dict[str, Any]]


# -- messages ---------------------------------------------------------------------------------------------------------


def listen_for(client: Client, op: str, handler: Callable[..., object]) -> Callable[..., object] | None:
    """Call a handler for the scheduler's messages of one ``op`` to this client; return the previous handler.

    Notes
    -----
    Uses ``Client._stream_handlers``, a dictionary from the ``op`` of a message to the function that is called with
    the other keys of the message: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Client._handle_report`` calls for a message, and put the handler there.
    """
    handlers: dict[str, Any] = client._stream_handlers
    before: Callable[..., object] | None = handlers.get(op)
    handlers[op] = handler
    return before


async def ask_scheduler(client: Client, operation: str, /, **arguments: Any) -> Any:
    """Call a handler of the scheduler and return its answer; None if the scheduler has no handler of that name.

    Notes
    -----
    Uses ``Client.scheduler``, whose attributes call the scheduler's handlers, and that ``Server.handle_comm`` answers
    None to an unknown operation: distributed 2024.6.0 and 2026.8.0.
    If it changes: catch here what an unknown operation raises instead, and return None.
    """
    return await getattr(client.scheduler, operation)(**arguments)


async def scheduler_versions(client: Client) -> dict[str, Any]:
    """Return the scheduler's host and packages, in the form of a handshake's versions, without asking the workers.

    Notes
    -----
    Uses the handler ``versions`` of every ``Server``: distributed 2024.6.0 and 2026.8.0. The public
    ``Client.get_versions`` asks every worker as well.
    If it changes: take the part ``scheduler`` of ``Client.get_versions``.
    """
    answer: dict[str, Any] = await ask_scheduler(client, "versions")
    return answer


def listens_to(client: Client, topic: str) -> bool:
    """Whether this client has a handler for a topic, which ``Client.subscribe_topic`` would replace.

    Notes
    -----
    Uses ``Client._event_handlers``, the handler of each topic: distributed 2024.6.0 and 2026.8.0. Neither removes it
    at an unsubscription, as `stop_listening_to` does.
    If it changes: find another way to see that ``Client.subscribe_topic`` would replace a handler.
    """
    return topic in client._event_handlers


def stop_listening_to(client: Client, topic: str) -> None:
    """Unsubscribe from a topic, and forget its handler, so that `listens_to` is false afterwards.

    Notes
    -----
    Uses ``Client._event_handlers``: distributed 2024.6.0 and 2026.8.0, where ``Client.unsubscribe_topic`` keeps the
    handler.
    If it changes: call ``Client.unsubscribe_topic`` alone.
    """
    client.unsubscribe_topic(topic)
    client._event_handlers.pop(topic, None)


# -- looking at a cluster without a client ----------------------------------------------------------------------------


class Member(NamedTuple):
    """A process of a cluster, as its scheduler names it."""

    address: str
    role: str
    """``scheduler``, ``worker`` or ``nanny``."""
    host: str
    """The host part of its address."""
    nanny: str = ""
    """The address of a worker's nanny, if it has one."""


@asynccontextmanager
async def scheduler_at(address: str, security: Any = None) -> AsyncIterator[Any]:
    """Return an object whose methods call the handlers of a scheduler, without a client that could be refused.

    Parameters
    ----------
    address : str
    security : Security, optional
        By default as Dask's configuration says.

    Notes
    -----
    Uses ``distributed.core.rpc`` with the arguments of
    ``Security.get_connection_args``: distributed 2024.6.0 and 2026.8.0.
    If it changes: do what ``Client._start`` does before it registers.
    """
    security = Security(**security) if isinstance(security, dict) else security or Security()
    async with rpc(address, connection_args=security.get_connection_args("client")) as scheduler:
        yield scheduler


async def members_of(scheduler: Any) -> list[Member]:
    """Return the scheduler, its workers, and their nannies.

    Notes
    -----
    Uses the handler ``identity``, whose ``workers`` have ``nanny``, and which tells of all workers by default:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Client.scheduler_info`` asks for.
    """
    identity = await scheduler.identity()
    members = [Member(identity["address"], "scheduler", "")]
    for address, worker in identity["workers"].items():
        nanny, host = worker.get("nanny") or "", worker.get("host") or address.rpartition(":")[0]
        members.append(Member(address, "worker", host, nanny))
        if nanny:
            members.append(Member(nanny, "nanny", host))
    return members


async def call_scheduler(scheduler: Any, message: dict[str, bytes]) -> Any:
    """Call a pickled function in the scheduler's process; return Dask's answer, with ``status`` and ``result``.

    Notes
    -----
    Uses the handler ``run_function``, as ``Client.run_on_scheduler`` does: distributed 2024.6.0 and 2026.8.0.
    If it changes: see that method.
    """
    return await scheduler.run_function(**message, wait=True)


async def call_nodes(scheduler: Any, message: dict[str, bytes], workers: list[str], *, nanny: bool) -> Any:
    """Let the scheduler call a pickled function on workers, or on their nannies; return the answers by worker.

    Notes
    -----
    Uses the handler ``broadcast`` with the operation ``run`` and ``on_error="return"``, as ``Client.run`` does. It
    pairs the answers of nannies with the workers in their order, so every worker must have a nanny: distributed
    2024.6.0 and 2026.8.0.
    If it changes: see that method.
    """
    run = {"op": "run", **message, "wait": True}
    return await scheduler.broadcast(msg=run, workers=workers, nanny=nanny, on_error="return")


async def versions_of(scheduler: Any, workers: list[str]) -> dict[tuple[str, str], Any]:
    """Return the versions that Dask itself tells, of the scheduler and of workers, by role and address.

    Notes
    -----
    Uses the handler ``versions`` of every ``Server``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see ``Client.get_versions``.
    """
    address = (await scheduler.identity())["address"]
    answers = await scheduler.broadcast(msg={"op": "versions"}, workers=workers, on_error="return")
    return {("scheduler", address): await scheduler.versions(), **{("worker", one): answers[one] for one in answers}}


# -- state ------------------------------------------------------------------------------------------------------------


def is_running(client: Client) -> bool:
    """Whether the client sends messages at once.

    Notes
    -----
    Uses the text ``running`` in ``Client.status``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see which states ``Client._send_to_scheduler_safe`` knows, for this function and the next two.
    """
    return bool(client.status == "running")


def is_holding(client: Client) -> bool:
    """Whether the client keeps messages instead of sending them: it is connecting, or `hold_messages` was called.

    Notes
    -----
    Uses the text ``connecting`` in ``Client.status``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `is_running`.
    """
    return bool(client.status == "connecting")


def scheduler_address(client: Client) -> str:
    """Return the address of the scheduler that a client is connected to.

    Notes
    -----
    Uses ``Client.scheduler.address``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Client._ensure_connected`` connects to.
    """
    scheduler: Any = client.scheduler
    return str(scheduler.address)


async def connected_again(client: Client, timeout: float = 60.0) -> None:
    """Wait until a client whose scheduler went away has reconnected by itself.

    Raises
    ------
    OSError
        If it has not in time, or Dask has given it up.

    Notes
    -----
    Uses ``Client.status``, which is ``connecting`` until ``Client._reconnect`` has succeeded, and then ``running``, and
    ``closed`` if that has failed: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Client._handle_report`` does when its stream has broken.
    """
    deadline = monotonic() + timeout
    while not is_running(client) or is_lost(client):
        if client.status == "closed" or monotonic() > deadline:
            raise OSError("this client has not connected again")
        await asyncio.sleep(0.05)


async def close(client: Client) -> None:
    """Close a client, from a coroutine on its event loop.

    Notes
    -----
    Calls ``Client._close``, as the public ``Client.close`` waits for the event loop: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Client.close`` calls.
    """
    await client._close()


def is_closing(client: Any) -> bool:
    """Whether the client is closed or closing.

    Notes
    -----
    Uses the texts ``closing`` and ``closed`` in ``Client.status``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `is_running`.
    """
    return client.status in ("closing", "closed")


def hold_messages(client: Client) -> None:
    """Let the client keep its messages until `send_held_messages`, while it goes on reading its stream.

    Notes
    -----
    Uses that ``Client._send_to_scheduler_safe`` puts a message into ``_pending_msg_buffer`` while ``Client.status`` is
    ``connecting``, and that ``Client._ensure_connected`` hands the messages in it to callbacks of the event loop, which
    run later and see the new status: distributed 2024.6.0 and 2026.8.0.
    If it changes: find where a client that reconnects keeps the messages submitted meanwhile, and keep them there.
    """
    client.status = "connecting"


def send_held_messages(client: Client) -> None:
    """Let the client send again; the held messages are sent first, before any new one.

    Notes
    -----
    Uses ``Client._pending_msg_buffer`` and ``Client._send_to_scheduler_safe``, which sends while ``Client.status`` is
    ``running``: distributed 2024.6.0 and 2026.8.0.
    If it changes: do what the end of ``Client._ensure_connected`` does.
    """
    client.status = "running"
    held: list[Any] = client._pending_msg_buffer
    messages, held[:] = list(held), []
    for message in messages:
        client._send_to_scheduler_safe(message)


def intercept(
    client: Client, send: Callable[[Callable[[Any], None], Any], None], wait: Callable[[], Awaitable[None]]
) -> Callable[[], Callable[[Any], None]]:
    """Let all that a client sends to its scheduler pass through two functions of ours.

    Parameters
    ----------
    client : Client
    send : callable
        Receives Dask's own function and each message for the stream, on the event loop.
    wait : callable
        Is awaited before each call of a handler of the scheduler, except for our own handlers, and for the state of the
        cluster, which Dask asks for by itself now and then.

    Returns
    -------
    callable
        Undoes it, and returns Dask's own function that sends a message.

    Notes
    -----
    Replaces the method ``Client._send_to_scheduler_safe`` on the instance, which ``Client._send_to_scheduler`` calls on
    the event loop, and ``Client.scheduler``, whose attributes call the scheduler's handlers: distributed 2024.6.0 and
    2026.8.0. ``Client._heartbeat`` uses neither.
    If it changes: find the two ways by which ``Client.submit`` and ``Client.run`` reach the scheduler.
    """
    send_as_dask: Callable[[Any], None] = client._send_to_scheduler_safe
    scheduler: Any = client.scheduler
    vars(client)["_send_to_scheduler_safe"] = functools.partial(send, send_as_dask)
    waiting: Any = _AwaitingRpc(scheduler, wait)
    client.scheduler = waiting

    def undo() -> Callable[[Any], None]:
        vars(client).pop("_send_to_scheduler_safe", None)
        if client.scheduler is waiting:
            client.scheduler = scheduler
        return send_as_dask

    return undo


class _AwaitingRpc:
    """The scheduler's handlers as functions, as those of ``Client.scheduler``, which wait before each call."""

    def __init__(self, scheduler: Any, wait: Callable[[], Awaitable[None]]) -> None:
        self._scheduler, self._wait = scheduler, wait

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._scheduler, name)
        passes = name == "identity" or name.startswith("pkgsync_")
        if passes or name in vars(self._scheduler) or hasattr(type(self._scheduler), name):
            return found

        async def call(**arguments: Any) -> Any:
            await self._wait()
            return await found(**arguments)

        return call


def fail_futures(client: Client, error: Exception) -> None:
    """Let all futures of a client that wait for a result raise an error.

    Notes
    -----
    Uses ``Client.futures``, whose values have ``status`` and ``set_error``: distributed 2024.6.0 and 2026.8.0.
    If it changes: do what ``Client._handle_task_erred`` does for the message of a task that has failed.
    """
    for state in list(client.futures.values()):
        if state.status == "pending":
            state.set_error(error, None)


def scheduler_id(client: Client) -> str:
    """Return the id of the scheduler to which a client connects, which another start of the scheduler does not have.

    Notes
    -----
    Uses ``id`` in ``Client._scheduler_identity``, which ``Client._ensure_connected`` has asked for before it calls
    ``get_versions``: distributed 2024.6.0 and 2026.8.0. It is empty where there is none.
    If it changes: return an empty text, and no client is recognised.
    """
    found = client._scheduler_identity.get("id")
    return found if isinstance(found, str) else ""


# -- the connection ---------------------------------------------------------------------------------------------------


def connect_by(client: Client, connect: Callable[..., Awaitable[None]]) -> None:
    """Let a coroutine function connect this client whenever it reconnects, until `connect_as_ever`.

    Notes
    -----
    Replaces the method ``Client._ensure_connected`` on the instance, where ``Client._reconnect`` calls it with a
    timeout: distributed 2024.6.0 and 2026.8.0. There is no public way to act before a reconnecting client sends.
    If it changes: replace whatever ``Client._handle_report`` calls when its stream has broken.
    """
    vars(client)["_ensure_connected"] = connect


def connect_as_ever(client: Client) -> None:
    """Let the client reconnect as Dask does; this undoes `connect_by`, if it was called.

    Notes
    -----
    Uses the same as `connect_by`: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `connect_by`.
    """
    vars(client).pop("_ensure_connected", None)


async def connect_as_dask(client: Client, timeout: Any = None) -> bool:
    """Connect as Dask does; return whether the client has a new stream now and sends over it.

    Notes
    -----
    Calls ``Client._ensure_connected`` of the class. The stream is new if ``scheduler_comm`` is another object
    afterwards: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `connect_by`; this is the method that it replaces.
    """
    before = client.scheduler_comm
    await type(client)._ensure_connected(client, timeout)
    return is_running(client) and client.scheduler_comm is not before


async def connect_again(client: Client) -> None:
    """Reconnect over a new stream, as Dask does when a stream has broken; the client's futures are cancelled.

    Notes
    -----
    Calls ``Client._reconnect``, which requires a closed stream, so ``Client.scheduler_comm`` is aborted first:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: do what ``Client._handle_report`` does when its stream has broken.
    """
    if (comm := client.scheduler_comm) is not None and not comm.closed():
        comm.abort()
    await client._reconnect()


def is_lost(client: Client) -> bool:
    """Whether the client's stream has broken, or Dask no longer reads from it.

    Notes
    -----
    Uses ``Client.scheduler_comm`` (None, or a ``BatchedSend`` with ``closed``) and the task in
    ``Client._handle_report_task``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Client._heartbeat`` checks before it sends, and `reading_of`.
    """
    comm, reading = client.scheduler_comm, reading_of(client)
    return comm is None or bool(comm.closed()) or (reading is not None and reading.done())


# -- reading the stream -----------------------------------------------------------------------------------------------


def reading_of(client: Client) -> asyncio.Task[None] | None:
    """Return the task that reads the stream from the scheduler to this client; None before there is one.

    The task ends if the stream breaks while the client is not running (for example while it holds messages).

    Notes
    -----
    Uses ``Client._handle_report_task``: distributed 2024.6.0 and 2026.8.0.
    If it changes: find where ``Client._start`` keeps the task that runs ``Client._handle_report``.
    """
    reading: asyncio.Task[None] | None = client._handle_report_task
    return reading


def read_stream(client: Client) -> asyncio.Task[None]:
    """Begin to read the stream from the scheduler to this client, as Dask does once it has connected.

    Notes
    -----
    Uses ``Client._handle_report`` and ``Client._handle_report_task``, for which ``Client._close`` waits: distributed
    2024.6.0 and 2026.8.0.
    If it changes: do what the end of ``Client._start`` does.
    """
    reading = client._handle_report_task = asyncio.create_task(client._handle_report())
    return reading


def instead_of_reading_once(client: Client, outcome: asyncio.Task[None] | Exception) -> None:
    """When Dask would next begin to read this client's stream, let it await a task instead, or raise an exception.

    This holds for one time. If it is called while Dask runs the preloads of a client, ``Client(...)`` itself raises the
    exception; Dask only logs what a preload raises.

    Notes
    -----
    Replaces the method ``Client._handle_report`` on the instance, where ``Client._start`` calls it once, right after
    the preloads: distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Client._start`` does after ``self.preloads.start()``, and make that raise.
    """

    def handle_report() -> Awaitable[None]:
        del vars(client)["_handle_report"]
        if isinstance(outcome, Exception):
            raise outcome
        return _follow(outcome)

    vars(client)["_handle_report"] = handle_report


async def _follow(reading: asyncio.Task[None]) -> None:
    await reading


# -- plugins ----------------------------------------------------------------------------------------------------------


async def register_at_scheduler(client: Client, plugin: SchedulerPlugin, name: str, idempotent: bool) -> Any:  # noqa: FBT001  # as Dask calls it
    """Register a scheduler plugin as Dask does, without calling `register_by`'s function; raise what ``start`` raises.

    Notes
    -----
    Calls ``Client._register_scheduler_plugin``: distributed 2024.6.0 and 2026.8.0. The public
    ``Client.register_plugin`` would call the function that was given to `register_by`.
    If it changes: call the scheduler's handler ``register_scheduler_plugin`` with the pickled plugin, its name, and
    ``idempotent``; the method does nothing else.
    """
    return await client._register_scheduler_plugin(plugin, name, idempotent)


def register_by(clients: type[Client], kind: type[SchedulerPlugin], register: Callable[..., Any]) -> None:
    """Let ``client.register_plugin`` call a function for plugins of one class.

    The function receives the client, the plugin, the name, and ``idempotent``.

    Notes
    -----
    Uses that ``Client._register_plugin`` is a `functools.singledispatchmethod` that chooses by the plugin's class:
    distributed 2024.6.0 and 2026.8.0. A `SchedulerPlugin` has no hook that runs on the client.
    If it changes: override what ``Client.register_plugin`` calls, for plugins of this class.
    """
    vars(clients)["_register_plugin"].register(kind, register)


# -- the handshake ----------------------------------------------------------------------------------------------------


_connecting: ContextVar[weakref.ref[Client] | None] = ContextVar("connecting", default=None)
"""The client that connects in this context; tasks that it starts keep the context, and must not keep the client."""


def change_handshake(
    change: Callable[[GetVersions], GetVersions], tries_again: Callable[[Client, ImportError], bool]
) -> Callable[[], None]:
    """Let clients of this process send what a changed `get_versions` returns when they connect.

    While it runs, `connecting_client` returns the client. ``Client(...)`` raises an `ImportError` that it raises.

    Parameters
    ----------
    change : callable
        Receives the present `get_versions` and returns the changed one.
    tries_again : callable
        Receives the client and the error, where the scheduler has refused a client; returns whether to connect again.

    Returns
    -------
    callable
        Undoes the change.

    Notes
    -----
    Replaces ``distributed.versions.get_versions``, which ``Client._ensure_connected`` looks up in its module and calls
    without arguments, as schedulers do, and that method itself, to know which client calls; after a refusal it can be
    called again. Workers have imported the function by name and keep the original: distributed 2024.6.0 and 2026.8.0.
    If it changes: replace whatever makes the ``versions`` of the message ``register-client``.
    """
    get_versions = versions.get_versions
    ensure_connected: Callable[..., Awaitable[Any]] = Client._ensure_connected

    @functools.wraps(ensure_connected)
    async def connecting(self: Client, *args: Any, **kwargs: Any) -> Any:
        _connecting.set(weakref.ref(self))
        try:
            return await ensure_connected(self, *args, **kwargs)
        except ImportError as error:
            if not tries_again(self, error):
                raise
            return await ensure_connected(self, *args, **kwargs)
        finally:
            _connecting.set(None)

    def undo() -> None:
        versions.get_versions = get_versions
        Client._ensure_connected = ensure_connected  # type: ignore[assignment,method-assign]

    versions.get_versions = change(get_versions)
    Client._ensure_connected = connecting  # type: ignore[method-assign]
    return undo


def connecting_client() -> Client | None:
    """Return the client for whose handshake Dask calls `get_versions`; None where it is called for anything else.

    Notes
    -----
    Uses the same as `change_handshake`: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `change_handshake`.
    """
    client = _connecting.get()
    return client() if client is not None else None


def runs_a_worker_of(client: Client) -> bool:
    """Whether a worker of the client's cluster runs in this process: the client may then be that of one of its tasks.

    Workers of other clusters do not count, for example those of a `LocalCluster` in the process of a person, and
    neither do workers that have been closed.

    Notes
    -----
    Uses ``Worker._instances``, a set of weak references in which closed workers stay as long as anything refers to
    them, and compares the addresses of the schedulers as ``Worker._get_client`` does: distributed 2024.6.0 and
    2026.8.0. The public ``distributed.get_worker`` works only in the thread of a task.
    If it changes: ``distributed.worker._global_workers`` is the same set.
    """
    address = getattr(client.scheduler, "address", None)
    running = (Status.running, Status.paused, Status.closing_gracefully)
    return any(worker.scheduler.address == address for worker in list(Worker._instances) if worker.status in running)
