"""What the client's side uses of Dask without being promised it, each use behind a function named after its purpose.

Each function says what it uses, in which versions of distributed that was read, and what to do when it changes.
`tests/contracts/client.py` checks all of them by what Dask does, under the oldest Dask that is supported and under the
newest: where a release of Dask breaks one, the test that fails names the function to mend.
"""
# ruff: noqa: SLF001  # this module is the one place for it

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from distributed import Worker, versions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import TypeAlias

    from distributed import Client
    from distributed.diagnostics.plugin import SchedulerPlugin

    GetVersions: TypeAlias = Callable[..., dict[str, Any]]


# -- messages ---------------------------------------------------------------------------------------------------------


def listen_for(client: Client, op: str, handler: Callable[..., object]) -> Callable[..., object] | None:
    """Hand a handler what the scheduler sends to this client under a name; return the handler that was there.

    Notes
    -----
    Uses ``Client._stream_handlers``, a dictionary from the ``op`` of a message to what is called with the rest of it:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: find what ``Client._handle_report`` calls for a message, and put the handler there.
    """
    handlers: dict[str, Any] = client._stream_handlers
    before: Callable[..., object] | None = handlers.get(op)
    handlers[op] = handler
    return before


async def ask_scheduler(client: Client, operation: str, /, **arguments: Any) -> Any:
    """Call a handler of the scheduler; None where the scheduler has no handler of that name.

    Notes
    -----
    Uses ``Client.scheduler``, whose attributes are the scheduler's handlers, and that ``Server.handle_comm`` answers
    None to an operation that it does not know: distributed 2024.6.0 and 2026.8.0.
    If it changes: catch here what an unknown operation raises instead, and return None.
    """
    return await getattr(client.scheduler, operation)(**arguments)


async def scheduler_versions(client: Client) -> dict[str, Any]:
    """Return what the scheduler says of its host and packages, as in a handshake; nobody else is asked.

    Notes
    -----
    Uses the handler ``versions`` of every ``Server``: distributed 2024.6.0 and 2026.8.0. The public
    ``Client.get_versions`` asks every worker besides.
    If it changes: take the part ``scheduler`` of ``Client.get_versions``.
    """
    found: dict[str, Any] = await ask_scheduler(client, "versions")
    return found


def listens_to(client: Client, topic: str) -> bool:
    """Whether something in this process has subscribed to a topic; also after it has unsubscribed.

    Notes
    -----
    Uses ``Client._event_handlers``, the handler of each topic: distributed 2024.6.0 and 2026.8.0. Neither removes it
    when somebody unsubscribes.
    If it changes: any way to see that ``Client.subscribe_topic`` would take somebody's place.
    """
    return topic in client._event_handlers


# -- state ------------------------------------------------------------------------------------------------------------


def is_running(client: Client) -> bool:
    """Whether the client sends what it is given.

    Notes
    -----
    Uses the text ``running`` in ``Client.status``: distributed 2024.6.0 and 2026.8.0.
    If it changes: read the states off ``Client._send_to_scheduler_safe``, for this and the two functions below.
    """
    return bool(client.status == "running")


def is_holding(client: Client) -> bool:
    """Whether the client keeps what it is given: it connects, or `hold_messages` was called.

    Notes
    -----
    Uses the text ``connecting`` in ``Client.status``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `is_running`.
    """
    return bool(client.status == "connecting")


def is_closing(client: Client) -> bool:
    """Whether the client is closed, or about to be.

    Notes
    -----
    Uses the texts ``closing`` and ``closed`` in ``Client.status``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `is_running`.
    """
    return client.status in ("closing", "closed")


def hold_messages(client: Client) -> None:
    """Keep what is to be sent to the scheduler, until `send_held_messages`; the client reads its stream meanwhile.

    Notes
    -----
    Uses that ``Client._send_to_scheduler_safe`` puts a message into ``_pending_msg_buffer`` while ``Client.status`` is
    ``connecting``, and that ``Client._ensure_connected`` hands what waits there to callbacks of the event loop, which
    run later and find the new status: distributed 2024.6.0 and 2026.8.0.
    If it changes: find where a client that connects again keeps what is submitted meanwhile, and keep it there.
    """
    client.status = "connecting"


def send_held_messages(client: Client) -> None:
    """Let the client run again; what was kept is sent at once, as what comes now is to come after.

    Notes
    -----
    Uses ``Client._pending_msg_buffer`` and ``Client._send_to_scheduler_safe``, which sends while ``Client.status`` is
    ``running``: distributed 2024.6.0 and 2026.8.0.
    If it changes: do what ``Client._ensure_connected`` does at its end.
    """
    client.status = "running"
    held: list[Any] = client._pending_msg_buffer
    messages, held[:] = list(held), []
    for message in messages:
        client._send_to_scheduler_safe(message)


# -- the connection ---------------------------------------------------------------------------------------------------


def connect_by(client: Client, connect: Callable[..., Awaitable[None]]) -> None:
    """Let a coroutine function of ours connect this client whenever it has to, until `connect_as_ever`.

    Notes
    -----
    Puts it in front of the method ``Client._ensure_connected``, which ``Client._reconnect`` calls on the instance with
    a timeout: distributed 2024.6.0 and 2026.8.0. There is no public way to stand before a client that comes back.
    If it changes: stand in front of whatever ``Client._handle_report`` calls when its stream has broken.
    """
    vars(client)["_ensure_connected"] = connect


def connect_as_ever(client: Client) -> None:
    """Undo `connect_by`; nothing where it was not called.

    Notes
    -----
    As for `connect_by`: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `connect_by`.
    """
    vars(client).pop("_ensure_connected", None)


async def connect_as_dask(client: Client, timeout: Any = None) -> bool:
    """Connect as Dask does; return whether there is a new stream, and messages go over it from now on.

    Notes
    -----
    Calls ``Client._ensure_connected`` of the class, and sees a new stream by another object in ``scheduler_comm``:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: see `connect_by`; this is the method that it stands in front of.
    """
    before = client.scheduler_comm
    await type(client)._ensure_connected(client, timeout)
    return is_running(client) and client.scheduler_comm is not before


async def connect_again(client: Client) -> None:
    """Connect over a new stream, as Dask does when the one it reads has broken; what was submitted is cancelled.

    Notes
    -----
    Calls ``Client._reconnect``, which wants a stream that is closed, so it aborts ``Client.scheduler_comm`` before:
    distributed 2024.6.0 and 2026.8.0.
    If it changes: do what ``Client._handle_report`` does when its stream has broken.
    """
    if (comm := client.scheduler_comm) is not None and not comm.closed():
        comm.abort()
    await client._reconnect()


def is_lost(client: Client) -> bool:
    """Whether the client's stream has broken, or Dask reads from it no more.

    Notes
    -----
    Uses ``Client.scheduler_comm`` (None, or a ``BatchedSend`` with ``closed``) and the task in
    ``Client._handle_report_task``: distributed 2024.6.0 and 2026.8.0.
    If it changes: see what ``Client._heartbeat`` asks before it sends, and `reading_of`.
    """
    comm, reading = client.scheduler_comm, reading_of(client)
    return comm is None or bool(comm.closed()) or (reading is not None and reading.done())


# -- reading the stream -----------------------------------------------------------------------------------------------


def reading_of(client: Client) -> asyncio.Task[None] | None:
    """Return the task that reads what the scheduler sends to this client; None before there is one.

    It ends where the stream breaks while the client is not running.

    Notes
    -----
    Uses ``Client._handle_report_task``: distributed 2024.6.0 and 2026.8.0.
    If it changes: find where ``Client._start`` keeps the task that runs ``Client._handle_report``.
    """
    reading: asyncio.Task[None] | None = client._handle_report_task
    return reading


def read_stream(client: Client) -> asyncio.Task[None]:
    """Begin to read what the scheduler sends to this client, as Dask does once it has connected.

    Notes
    -----
    Uses ``Client._handle_report`` and ``Client._handle_report_task``, for which ``Client._close`` waits: distributed
    2024.6.0 and 2026.8.0.
    If it changes: do what ``Client._start`` does at its end.
    """
    reading = client._handle_report_task = asyncio.create_task(client._handle_report())
    return reading


def instead_of_reading_once(client: Client, outcome: asyncio.Task[None] | Exception) -> None:
    """Where Dask would begin to read this client's stream next, let it follow a task, or raise; that one time only.

    Called while Dask runs the preloads of a client, an exception is raised by ``Client(...)`` itself: what a preload
    raises Dask only logs.

    Notes
    -----
    Puts a function in front of the method ``Client._handle_report``, which ``Client._start`` calls once on the
    instance, right after the preloads: distributed 2024.6.0 and 2026.8.0.
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
    """Register a scheduler plugin, and nothing else, as Dask does; what its ``start`` raises is raised here.

    Notes
    -----
    Calls ``Client._register_scheduler_plugin``: distributed 2024.6.0 and 2026.8.0. The public
    ``Client.register_plugin`` would come back to whoever has called `register_by`.
    If it changes: all that it does is to call the scheduler's handler ``register_scheduler_plugin`` with the pickled
    plugin, its name, and ``idempotent``.
    """
    return await client._register_scheduler_plugin(plugin, name, idempotent)


def register_by(clients: type[Client], kind: type[SchedulerPlugin], register: Callable[..., Any]) -> None:
    """Let ``client.register_plugin`` call a function for plugins of one class, with client, plugin, name, idempotent.

    Notes
    -----
    Uses that ``Client._register_plugin`` is a `functools.singledispatchmethod` that chooses by the plugin's class:
    distributed 2024.6.0 and 2026.8.0. A `SchedulerPlugin` itself learns of nothing on the client.
    If it changes: override what ``Client.register_plugin`` calls, for plugins of this class.
    """
    vars(clients)["_register_plugin"].register(kind, register)


# -- the handshake ----------------------------------------------------------------------------------------------------


def change_handshake(change: Callable[[GetVersions], GetVersions]) -> GetVersions:
    """Let clients of this process say what a changed `get_versions` returns when they connect; return the one before.

    An `ImportError` of it is raised by ``Client(...)``.

    Notes
    -----
    Replaces ``distributed.versions.get_versions``, which ``Client._ensure_connected`` looks up in its module and calls
    without arguments, as do schedulers; workers have it under a name of their own: distributed 2024.6.0 and 2026.8.0.
    If it changes: replace whatever makes the ``versions`` of the message ``register-client``.
    """
    before = versions.get_versions
    versions.get_versions = change(before)
    return before


def restore_handshake(before: GetVersions) -> None:
    """Undo `change_handshake`.

    Notes
    -----
    As for `change_handshake`: distributed 2024.6.0 and 2026.8.0.
    If it changes: see `change_handshake`.
    """
    versions.get_versions = before


def workers_here() -> list[Worker]:
    """Return the workers that run in this process: what a task connects with is theirs. Some may be closed.

    Notes
    -----
    Uses ``Worker._instances``, a set of weak references: distributed 2024.6.0 and 2026.8.0. The public
    ``distributed.get_worker`` answers in the thread of a task alone, and the handshake runs in none.
    If it changes: ``distributed.worker._global_workers`` is the same set.
    """
    return list(Worker._instances)
