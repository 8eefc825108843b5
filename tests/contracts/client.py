"""What the client's side relies on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cloudpickle
import dask
import distributed
from contracts.law import relied_on_by
from contracts.surroundings import (
    OP,
    a_moment,
    break_stream,
    client_of,
    heard_by,
    into,
    raising,
    say,
    scheduler_here,
    until,
    worker_of,
)
from distributed import Client, Scheduler, SchedulerPlugin, Worker, versions

from dask_pkgsync.client.dask_internals import (
    Member,
    ask_scheduler,
    call_nodes,
    call_scheduler,
    change_handshake,
    close,
    connect_again,
    connect_as_dask,
    connect_as_ever,
    connect_by,
    connected_again,
    connecting_client,
    fail_futures,
    hold_messages,
    instead_of_reading_once,
    intercept,
    is_closing,
    is_holding,
    is_lost,
    is_running,
    listen_for,
    listens_to,
    members_of,
    read_stream,
    reading_of,
    register_at_scheduler,
    register_by,
    runs_a_worker_of,
    scheduler_address,
    scheduler_at,
    scheduler_id,
    scheduler_versions,
    send_held_messages,
    stop_listening_to,
    versions_of,
)
from dask_pkgsync.client.handshake import presenting
from dask_pkgsync.client.session import sync_on_connect
from dask_pkgsync.model.handshake import is_of_worker, only_looks, versions_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# -- messages ---------------------------------------------------------------------------------------------------------


@relied_on_by(listen_for)
async def a_client_hears_what_the_scheduler_sends() -> None:
    """A message of the scheduler goes to the handler that a client's `_stream_handlers` has for its op, by name."""
    heard: list[int] = []
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        assert listen_for(client, OP, print) is None
        assert listen_for(client, OP, into(heard)) is print
        scheduler.client_send(client.id, {"op": OP, "number": 1})
        await until(lambda: heard == [1])


@relied_on_by(ask_scheduler)
async def a_scheduler_answers_none_to_what_it_does_not_know() -> None:
    """An operation for which a scheduler has no handler is answered with None, and the next one as ever."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        assert await ask_scheduler(client, "no_such_operation", argument=1) is None
        assert (await ask_scheduler(client, "identity"))["type"] == "Scheduler"


@relied_on_by(scheduler_versions)
async def a_scheduler_tells_its_versions_as_a_client_does() -> None:
    """The handler `versions` of a scheduler answers what clients and workers say as `versions` in their handshakes."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        told = await scheduler_versions(client)
        assert versions_in({"versions": told}) == versions_in({"versions": scheduler.clients[client.id].versions})


async def pid_there() -> int:
    """Return the number of a process."""
    return os.getpid()


@relied_on_by(scheduler_at, members_of, Member, call_scheduler, call_nodes, versions_of)
async def a_scheduler_answers_plain_calls_and_passes_them_on() -> None:
    """Without a client, a scheduler names its nodes, runs a pickled function, and passes it on to its workers."""
    call = {"function": cloudpickle.dumps(pid_there), "kwargs": cloudpickle.dumps({})}
    async with scheduler_here() as scheduler, worker_of(scheduler) as worker, scheduler_at(scheduler.address) as calls:
        members = await members_of(calls)
        assert [(one.address, one.role, one.nanny) for one in members] == [
            (scheduler.address, "scheduler", ""),
            (worker.address, "worker", ""),
        ]
        assert (await call_scheduler(calls, call))["result"] == os.getpid()
        answers = await call_nodes(calls, call, [worker.address], nanny=False)
        assert (answers[worker.address]["status"], answers[worker.address]["result"]) == ("OK", os.getpid())
        told = await versions_of(calls, [worker.address])
        for key in (("scheduler", scheduler.address), ("worker", worker.address)):
            assert versions_in({"versions": told[key]})["distributed"] == distributed.__version__
        assert not scheduler.clients.keys() - {"fire-and-forget"}


@relied_on_by(listens_to)
async def a_client_has_a_handler_for_each_topic_that_it_listens_to() -> None:
    """What a client has subscribed to is a key of its `_event_handlers`."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        assert not listens_to(client, OP)
        client.subscribe_topic(OP, print)
        assert listens_to(client, OP)
        client.unsubscribe_topic(OP)


@relied_on_by(stop_listening_to, listens_to)
async def a_client_can_listen_again_to_a_topic_that_it_has_left() -> None:
    """Without a handler in `_event_handlers` a client passes over late events, and can subscribe again."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        heard: list[object] = []
        for number in range(2):
            client.subscribe_topic(OP, lambda event: heard.append(event[1]))
            while number not in heard:  # until the subscription has arrived there
                scheduler.log_event(OP, number)
                await asyncio.sleep(0.01)
            stop_listening_to(client, OP)
            assert not listens_to(client, OP)
        scheduler.log_event(OP, "late")
        await a_moment()
        assert set(heard) == {0, 1}


# -- state ------------------------------------------------------------------------------------------------------------


@relied_on_by(hold_messages, send_held_messages, is_holding, is_running)
async def a_client_sends_what_waits_only_while_it_runs() -> None:
    """A client sends what waits in `_pending_msg_buffer` only while its status is running, not while connecting."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        heard = heard_by(scheduler)
        assert (is_running(client), is_holding(client)) == (True, False)
        hold_messages(client)
        say(client, 1)
        await a_moment()
        say(client, 2)
        assert heard == []
        assert (is_running(client), is_holding(client)) == (False, True)
        send_held_messages(client)
        say(client, 3)
        await until(lambda: len(heard) == 3)
        assert heard == [1, 2, 3]
        assert (is_running(client), is_holding(client)) == (True, False)


@relied_on_by(is_closing)
async def a_client_that_is_closed_says_so() -> None:
    """The status of a client is closing and then closed, once somebody closes it."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        assert not is_closing(client)
        closing = asyncio.ensure_future(client.close())
        await until(lambda: is_closing(client))
        await closing
        assert is_closing(client)
        assert client.status == "closed"


# -- the connection ---------------------------------------------------------------------------------------------------


@relied_on_by(connect_by, connect_as_dask, connect_as_ever, hold_messages)
async def a_client_connects_again_by_what_stands_in_front() -> None:
    """A client whose stream breaks calls the instance's `_ensure_connected`; what is held right after it waits."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        heard, found = heard_by(scheduler), []

        async def connect(timeout: Any = None) -> None:
            say(client, 1)
            await asyncio.sleep(0)
            found.append(await connect_as_dask(client, timeout))
            hold_messages(client)

        connect_by(client, connect)
        break_stream(client)
        await until(lambda: found)
        await a_moment()
        assert (heard, found, is_holding(client)) == ([], [True], True)
        send_held_messages(client)
        await until(lambda: heard == [1])
        assert not await connect_as_dask(client)  # as it is connected
        connect_as_ever(client)
        before = client.scheduler_comm
        break_stream(client)
        await until(lambda: client.scheduler_comm not in (before, None) and is_running(client))
        assert found == [True]


@relied_on_by(is_lost, reading_of, read_stream, connect_again)
async def a_client_that_does_not_run_is_read_no_more_once_its_stream_breaks() -> None:
    """`_handle_report` ends where the stream breaks while the client does not run, and can begin again over another."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        before = reading_of(client)
        assert before is not None
        assert not is_lost(client)
        hold_messages(client)
        break_stream(client)
        await until(before.done)
        assert is_lost(client)
        await _comes_back(scheduler, client)


@relied_on_by(is_lost, connect_again)
async def a_client_is_read_no_more_once_its_scheduler_says_so() -> None:
    """`_handle_report` ends where the scheduler says `close`, with a stream that is still open."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        before = reading_of(client)
        assert before is not None
        hold_messages(client)
        scheduler.client_send(client.id, {"op": "close"})
        await until(before.done)
        assert not client.scheduler_comm.closed()
        assert is_lost(client)
        await _comes_back(scheduler, client)


async def _comes_back(scheduler: Scheduler, client: Client) -> None:
    heard: list[int] = []
    listen_for(client, OP, into(heard))
    await connect_again(client)
    assert is_running(client)
    assert is_lost(client)  # as long as nobody reads
    assert read_stream(client) is reading_of(client)
    assert not is_lost(client)
    await until(lambda: client.id in scheduler.client_comms)
    scheduler.client_send(client.id, {"op": OP, "number": 1})
    await until(lambda: heard == [1])


# -- reading the stream -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def preload(setup: Callable[[Client], Any]) -> Iterator[None]:
    """Let clients have a preload."""
    module = types.ModuleType("pkgsync_contract_preload")
    vars(module)["dask_setup"] = setup
    sys.modules[module.__name__] = module
    try:
        with dask.config.set({"distributed.client.preload": [module.__name__]}):
            yield
    finally:
        del sys.modules[module.__name__]


@relied_on_by(read_stream, reading_of, instead_of_reading_once, sync_on_connect)
async def a_client_runs_its_preloads_before_it_reads() -> None:
    """A client runs its preloads when it is connected, and calls the instance's `_handle_report` once, after them."""
    found: list[Any] = []

    async def setup(client: Client) -> None:
        found.append((is_running(client), reading_of(client)))
        listen_for(client, OP, into(heard))
        reading = read_stream(client)
        scheduler.client_send(client.id, {"op": OP, "number": 1})
        await until(lambda: heard == [1])
        instead_of_reading_once(client, reading)
        found.append(reading)

    heard: list[int] = []
    async with scheduler_here() as scheduler:
        with preload(setup):
            async with client_of(scheduler) as client:
                (is_connected, before), reading = found
                assert (is_connected, before) == (True, None)
                assert not reading.done()
                assert reading_of(client) not in (reading, None)
                assert "_handle_report" not in vars(client)
                scheduler.client_send(client.id, {"op": OP, "number": 2})
                await until(lambda: heard == [1, 2])
        await until(reading.done)


@relied_on_by(instead_of_reading_once, sync_on_connect)
async def a_client_raises_what_beginning_to_read_raises() -> None:
    """`Client(...)` raises what `_handle_report` raises when it is called, also for a client that is closed already."""

    async def setup(client: Client) -> None:
        await client.close()
        instead_of_reading_once(client, LookupError("the sync failed"))

    async with scheduler_here() as scheduler:
        with preload(setup), raising(LookupError, "the sync failed"):
            await Client(scheduler.address, asynchronous=True, set_as_default=False)
        await until(lambda: not scheduler.client_comms)


@relied_on_by(sync_on_connect)
async def a_client_swallows_what_its_preload_raises() -> None:
    """What a preload of a client raises is logged, and the client is connected all the same."""

    async def setup(_: Client) -> None:
        raise LookupError

    async with scheduler_here() as scheduler:
        with preload(setup):
            async with client_of(scheduler) as client:
                assert is_running(client)


@relied_on_by(change_handshake)
async def a_client_imports_its_preloads_before_it_connects() -> None:
    """`Client(...)` imports the modules of its preloads before the handshake, which they can change."""
    name = "pkgsync_contract_early"
    async with scheduler_here() as scheduler:
        with tempfile.TemporaryDirectory() as directory:
            (Path(directory) / f"{name}.py").touch()
            sys.path.insert(0, directory)
            with dask.config.set({"distributed.client.preload": [name]}):
                client = Client(scheduler.address, asynchronous=True, set_as_default=False)
            sys.path.remove(directory)
        assert sys.modules.pop(name, None) is not None
        assert not scheduler.client_comms
        async with client:
            pass


# -- plugins ----------------------------------------------------------------------------------------------------------


class Registered(SchedulerPlugin):
    """A plugin that a client registers."""

    name = OP

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    async def start(self, scheduler: Scheduler) -> None:
        """Raise the reason, if there is one."""
        if self.reason:
            raise LookupError(self.reason)


@relied_on_by(register_at_scheduler)
async def what_the_start_of_a_scheduler_plugin_raises_reaches_the_client() -> None:
    """`_register_scheduler_plugin` adds the plugin under its name, and raises on the client what its `start` raises."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        with raising(LookupError, "not today"):
            await register_at_scheduler(client, Registered("not today"), "other", idempotent=False)
        assert "other" not in scheduler.plugins
        await register_at_scheduler(client, Registered(), "other", idempotent=False)
        assert isinstance(scheduler.plugins["other"], Registered)


@relied_on_by(register_by)
async def a_client_registers_plugins_by_their_class() -> None:
    """`Client.register_plugin` calls what was registered with `_register_plugin` for the class of the plugin."""

    class Ours(Registered):
        pass

    called: list[Any] = []
    register_by(Client, Ours, lambda *arguments: called.append(arguments))
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        ours = Ours()
        client.register_plugin(ours)
        assert called == [(client, ours, OP, False)]
        await client.register_plugin(Registered())
        assert len(called) == 1
        assert type(scheduler.plugins[OP]) is Registered


# -- the handshake ----------------------------------------------------------------------------------------------------


@relied_on_by(change_handshake, connecting_client, presenting)
async def a_client_says_what_get_versions_returns() -> None:
    """A client that connects calls `get_versions` of `distributed.versions` without arguments, and sends the answer."""
    asked: list[Any] = []
    asking: list[Client | None] = []

    def change(get_versions: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def changed(packages: Any = None) -> dict[str, Any]:
            asked.append(packages)
            asking.append(connecting_client())
            return {**get_versions(packages), OP: "kept"}

        return changed

    original, connect = versions.get_versions, Client._ensure_connected
    undo = change_handshake(change, never)
    try:
        async with scheduler_here() as scheduler, client_of(scheduler) as client:
            assert scheduler.clients[client.id].versions[OP] == "kept"
            assert client in asking
            versions.get_versions()
            assert asking[-1] is None
    finally:
        undo()
    assert set(asked) == {None}
    assert versions.get_versions is original
    assert Client._ensure_connected is connect


def never(_client: Client, _error: ImportError) -> bool:
    """Try no refused client again."""
    return False


@relied_on_by(change_handshake, scheduler_id)
async def a_client_that_was_refused_can_connect_again() -> None:
    """After a refusal the same client connects, where its `_ensure_connected` is called once more."""
    refused: list[str] = []

    async with scheduler_here() as scheduler:
        original = scheduler.handlers["register-client"]

        async def refuse_once(comm: Any, **message: Any) -> None:
            if refused:
                await original(comm, **message)
            else:
                await comm.write([{"op": "stream-start", "error": "not yet"}])
                await comm.close()

        def again(client: Client, error: ImportError) -> bool:
            refused.append(str(error))
            return scheduler_id(client) == scheduler.id

        scheduler.handlers["register-client"] = refuse_once
        undo = change_handshake(lambda get_versions: get_versions, again)
        try:
            async with client_of(scheduler) as client:
                assert refused == ["not yet"]
                assert is_running(client)
                assert list(scheduler.client_comms) == [client.id]
        finally:
            undo()


@relied_on_by(scheduler_id)
async def a_client_knows_the_schedulers_id_before_its_handshake() -> None:
    """`_scheduler_identity` holds the id of the scheduler when `get_versions` is called; another start has another."""
    known: list[str] = []

    def change(get_versions: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
        def changed(packages: Any = None) -> dict[str, Any]:
            if (client := connecting_client()) is not None:
                known.append(scheduler_id(client))
            return get_versions(packages)

        return changed

    undo = change_handshake(change, never)
    try:
        ids = []
        for _ in range(2):
            async with scheduler_here() as scheduler, client_of(scheduler):
                ids.append(scheduler.id)
    finally:
        undo()
    assert known == ids
    assert len(set(ids)) == 2


@relied_on_by(intercept)
async def what_a_client_sends_goes_one_of_two_ways() -> None:
    """Tasks pass `_send_to_scheduler_safe`, calls are attributes of `scheduler`; the identity only Dask asks."""
    messages: list[str] = []
    waited: list[int] = []

    def send(as_dask: Callable[[Any], None], message: Any) -> None:
        messages.append(message["op"])
        as_dask(message)

    async def wait() -> None:
        waited.append(1)

    async with scheduler_here() as scheduler, worker_of(scheduler), client_of(scheduler) as client:
        undo = intercept(client, send, wait)
        assert await client.submit(int, 5) == 5
        assert "update-graph" in messages
        waited.clear()
        await client.run(int)
        assert len(waited) == 1
        await client._update_scheduler_info()
        assert len(waited) == 1
        messages.clear()
        undo()
        assert await client.submit(int, 6) == 6
        await client.run(int)
        assert (messages, len(waited)) == ([], 1)


@relied_on_by(fail_futures)
async def futures_raise_the_error_that_their_client_sets() -> None:
    """A future that waits raises what `set_error` of its state was given; one with a result keeps it."""
    async with scheduler_here() as scheduler, worker_of(scheduler), client_of(scheduler) as client:
        done = client.submit(int, 5)
        assert await done == 5
        waiting = client.submit(asyncio.sleep, 600)
        fail_futures(client, LookupError("not today"))
        with raising(LookupError, "not today"):
            await waiting
        assert await done == 5


@relied_on_by(change_handshake, presenting)
async def a_client_raises_an_import_error_of_its_handshake() -> None:
    """`Client(...)` raises an `ImportError` that `get_versions` raises, and is closed."""

    def change(_: Any) -> Any:
        def changed(packages: Any = None) -> dict[str, Any]:
            raise ImportError("cannot be presented")

        return changed

    async with scheduler_here() as scheduler:
        undo = change_handshake(change, never)
        try:
            client = Client(scheduler.address, asynchronous=True, set_as_default=False)
            with raising(ImportError, "cannot be presented"):
                await client
            assert is_closing(client)
        finally:
            undo()


@relied_on_by(runs_a_worker_of, presenting)
async def the_running_workers_of_a_process_are_known() -> None:
    """`Worker._instances` has the workers of this process, each with its state and the address of its scheduler."""
    async with (
        scheduler_here() as scheduler,
        scheduler_here() as other,
        client_of(scheduler) as client,
        client_of(other) as elsewhere,
    ):
        assert not runs_a_worker_of(client)
        async with worker_of(scheduler) as worker:
            assert runs_a_worker_of(client)
            assert not runs_a_worker_of(elsewhere)
        assert worker in Worker._instances
        assert not runs_a_worker_of(client)


@relied_on_by(is_of_worker, only_looks)
async def the_name_of_a_client_says_whose_it_is() -> None:
    """A client that is named is called Client-NAME-…, and the one that a worker makes for its tasks is named worker."""
    async with scheduler_here() as scheduler:
        async with client_of(scheduler, name="worker") as client:
            assert is_of_worker(client.id)
        async with client_of(scheduler, name="pkgsync-look") as client:
            assert only_looks(client.id)
        async with client_of(scheduler) as client:
            assert not is_of_worker(client.id)
            assert not only_looks(client.id)


@relied_on_by(connected_again)
async def a_client_whose_scheduler_goes_away_reconnects_by_itself() -> None:
    """A client whose stream breaks is connecting, then running again, also at another scheduler of the same address."""
    async with contextlib.AsyncExitStack() as stack:
        first = await stack.enter_async_context(scheduler_here())
        client = await stack.enter_async_context(client_of(first))
        port = int(first.address.rpartition(":")[2])
        await first.close()
        with dask.config.set({"distributed.scheduler.preload": []}):
            second = Scheduler(host="127.0.0.1", port=port, dashboard=False, dashboard_address=":0")
            await stack.enter_async_context(second)
        await connected_again(client)
        assert list(second.client_comms) == [client.id]


@relied_on_by(close, scheduler_address)
async def a_client_can_be_closed_on_its_own_loop() -> None:
    """A client knows where its scheduler is, and closes by a coroutine."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        assert scheduler_address(client) == scheduler.address
        await close(client)
        assert client.status == "closed"
