"""What the scheduler's side relies on."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import sys
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import dask
from contracts.law import relied_on_by
from contracts.surroundings import OP, a_moment, client_of, raising, scheduler_here, until, worker_of
from distributed import (
    Client,
    Event,
    Lock,
    Queue,
    Scheduler,
    SchedulerPlugin,
    Semaphore,
    Status,
    Variable,
    Worker,
    WorkerPlugin,
)
from distributed.comm import connect
from distributed.protocol.pickle import dumps
from tornado.httpclient import AsyncHTTPClient
from tornado.web import RequestHandler

from dask_pkgsync.model.handshake import check_worker, identity, versions_in
from dask_pkgsync.scheduler.blobs.providers import BlobProviders
from dask_pkgsync.scheduler.clients.gate import Gate
from dask_pkgsync.scheduler.clients.sessions import Sessions
from dask_pkgsync.scheduler.controller import Controller
from dask_pkgsync.scheduler.dask_internals import (
    CLIENT,
    EXTENSION,
    IDENTITY,
    WORKER,
    add_pages,
    add_plugin_at,
    connection_of,
    end_node,
    extension_of,
    forget_metadata,
    free_worker,
    give_new_nannies,
    give_new_workers,
    has_connection,
    hold_registrations,
    hold_worker,
    holders_of_tasks,
    keep_extension,
    knows_n_workers,
    link_page,
    listen_at,
    listens_at,
    misfit,
    named_objects,
    package_versions,
    put_back,
    refuse_client,
    refuse_worker,
    registered_plugins,
    remove_plugin_at,
    runs_a_scheduler_alone,
    stand_in_for,
    started_nannies,
    stop_listening,
)
from dask_pkgsync.scheduler.plugin import RegisteredPlugin, SessionHooks

if TYPE_CHECKING:
    from distributed.comm import Comm

# -- who comes in -----------------------------------------------------------------------------------------------------


@relied_on_by(stand_in_for, put_back, misfit, Gate)
async def a_client_registers_by_the_handler_of_that_name() -> None:
    """A client registers by `register-client`, with a comm and what `add_client` takes, and is in until it returns."""
    messages: list[dict[str, Any]] = []

    async def stand_in(comm: Comm, **message: Any) -> None:
        messages.append(message)
        assert comm.peer_address.startswith("tcp://127.0.0.1:")
        await original(comm, **message)

    async with scheduler_here() as scheduler:
        original = stand_in_for(scheduler, CLIENT, stand_in)
        async with client_of(scheduler) as client:
            (message,) = messages
            assert identity(message, "client") == client.id
            assert client.id in scheduler.clients
        put_back(scheduler, CLIENT, original)
        async with client_of(scheduler):
            assert len(messages) == 1
        assert misfit(scheduler, CLIENT, message) == ""
        assert versions_in(message)["distributed"] == package_versions()["distributed"]
        assert "more" in misfit(scheduler, CLIENT, {**message, "more": 1})
        assert "versions" in misfit(scheduler, CLIENT, {"client": client.id})


@relied_on_by(stand_in_for, put_back, misfit, check_worker, Gate)
async def a_worker_registers_by_the_handler_of_that_name() -> None:
    """A worker registers by `register-worker`, with a comm and what `add_worker` takes, of which we know every part."""
    messages: list[dict[str, Any]] = []

    async def stand_in(comm: Comm, **message: Any) -> None:
        messages.append(message)
        await original(comm, **message)

    async with scheduler_here() as scheduler:
        original = stand_in_for(scheduler, WORKER, stand_in)
        async with worker_of(scheduler) as worker:
            (message,) = messages
            assert identity(message, "worker") == worker.address
            assert worker.address in scheduler.workers
        put_back(scheduler, WORKER, original)
        async with worker_of(scheduler):
            assert len(messages) == 1
        assert misfit(scheduler, WORKER, message) == ""
        check_worker(message, Status.__members__)
        assert versions_in(message)["distributed"] == package_versions()["distributed"]
        assert "more" in misfit(scheduler, WORKER, {**message, "more": 1})
        assert "nanny" in misfit(scheduler, WORKER, {name: one for name, one in message.items() if name != "nanny"})


@relied_on_by(refuse_client, stand_in_for)
async def a_client_that_is_refused_raises_the_reason() -> None:
    """`Client(...)` raises an ImportError with the `error` of the first message on its stream, and nothing is left."""

    async def refuse(comm: Comm, **_: Any) -> None:
        await refuse_client(comm, "no place for you")

    async with scheduler_here() as scheduler:
        before = set(scheduler.clients)
        stand_in_for(scheduler, CLIENT, refuse)
        client = Client(scheduler.address, asynchronous=True, set_as_default=False)
        with raising(ImportError, "no place for you"):
            await client
        assert client.status == "closed"
        assert set(scheduler.clients) == before
        assert not scheduler.client_comms


@relied_on_by(refuse_worker, stand_in_for)
async def a_worker_that_is_refused_does_not_start() -> None:
    """A worker fails to start where the status of the answer to its registration is not OK, and says the message."""

    async def refuse(comm: Comm, **_: Any) -> None:
        await refuse_worker(comm, "no place for you")

    async with scheduler_here() as scheduler:
        stand_in_for(scheduler, WORKER, refuse)
        with raising(RuntimeError, "no place for you"):
            await Worker(scheduler.address, nthreads=1, dashboard=False, dashboard_address=":0")
        assert not scheduler.workers


@relied_on_by(refuse_client, refuse_worker)
async def nobody_minds_who_leaves_before_being_refused() -> None:
    """To write to a comm whose other end has gone raises a CommClosedError, or nothing."""

    async def refuse(comm: Comm, **_: Any) -> None:
        comm.abort()
        await refuse_client(comm, "too late")
        await refuse_worker(comm, "too late")
        refused.set()

    refused = asyncio.Event()
    async with scheduler_here() as scheduler:
        stand_in_for(scheduler, CLIENT, refuse)
        comm = await connect(scheduler.address)
        await comm.write({"op": CLIENT, "client": "somebody", "versions": {}, "reply": False})
        await refused.wait()
        await comm.close()


@relied_on_by(knows_n_workers, Gate)
async def a_scheduler_that_does_not_take_n_workers_is_told_by_its_signature() -> None:
    """The handler `identity` takes `n_workers` where its signature has it, and else answers with an error."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        try:
            found = await client.scheduler.identity(n_workers=0)
        except TypeError:
            found = None
        assert knows_n_workers(scheduler) is (found is not None)
        assert scheduler.handlers[IDENTITY] == scheduler.identity


@relied_on_by(package_versions)
async def a_process_knows_its_versions() -> None:
    """`get_versions` has the version of Python, and of each package on which Dask itself depends."""
    found = package_versions()
    assert {name for name in ("python", "dask", "distributed", "msgpack", "cloudpickle", "tornado") if found.get(name)}
    assert str(found["python"]).startswith(".".join(map(str, sys.version_info[:3])))


@relied_on_by(runs_a_scheduler_alone)
async def the_commands_for_a_scheduler_are_in_modules_of_these_names() -> None:
    """The commands `dask scheduler` and `dask spec` are in distributed.cli.dask_scheduler and .dask_spec."""
    modules = {one.name: one.value.partition(":")[0] for one in entry_points(group="dask_cli")}
    known = {name: sys.modules.pop(name) for name in list(modules.values()) if name in sys.modules}
    try:
        assert not runs_a_scheduler_alone()
        for name in ("scheduler", "spec"):
            sys.modules[modules[name]] = sys  # (any module: only the name counts)
            assert runs_a_scheduler_alone()
            del sys.modules[modules[name]]
    finally:
        sys.modules.update(known)


# -- who is in --------------------------------------------------------------------------------------------------------


class Watching(SchedulerPlugin):
    """Notes whether a client has a connection when the plugins are told of it."""

    name = OP

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Note it, and fail."""
        self.seen.append(has_connection(scheduler, client))
        raise LookupError


@relied_on_by(has_connection, Sessions, SessionHooks)
async def a_client_has_a_connection_soon_after_the_plugins_know_of_it() -> None:
    """`client_comms` has who is connected, later than `add_client` of plugins, whose exceptions are only logged."""
    watching = Watching()
    async with scheduler_here() as scheduler:
        scheduler.add_plugin(watching)
        assert not any(has_connection(scheduler, name) for name in scheduler.clients)  # Dask's own are there
        async with client_of(scheduler) as client:
            assert watching.seen == [False]
            assert has_connection(scheduler, client.id)
        await until(lambda: not has_connection(scheduler, client.id))


@relied_on_by(connection_of, Gate, BlobProviders)
async def a_client_whose_connection_is_aborted_comes_back_as_somebody_new() -> None:
    """Where the comm of a client's stream is aborted, Dask forgets the client, which comes back with another state."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        comm, before = connection_of(scheduler, client.id), scheduler.clients[client.id]
        assert comm is not None
        assert comm.peer_address.startswith("tcp://127.0.0.1:")
        assert connection_of(scheduler, "nobody") is None
        comm.abort()
        await until(lambda: scheduler.clients.get(client.id, before) is not before)
        await until(lambda: connection_of(scheduler, client.id) not in (comm, None))


@relied_on_by(hold_worker, free_worker)
async def a_worker_that_is_held_gets_no_tasks_until_it_is_freed() -> None:
    """A worker whose status is closing_gracefully on the scheduler gets no tasks; it confirms that it is running."""
    async with scheduler_here() as scheduler, worker_of(scheduler) as worker, client_of(scheduler) as client:
        hold_worker(scheduler, scheduler.workers[worker.address], OP)
        future = client.submit(sum, [1, 2])
        await a_moment()
        assert (future.status, worker.status) == ("pending", Status.running)
        free_worker(scheduler, worker.address, OP)
        assert await future == 3
        assert scheduler.workers[worker.address].status == Status.running


# -- what the scheduler keeps -----------------------------------------------------------------------------------------


class Restarted(SchedulerPlugin):
    """Sets metadata when the cluster is restarted."""

    name = OP

    def restart(self, scheduler: Scheduler) -> None:
        """Note what metadata there is."""
        scheduler.set_metadata(keys=["found"], value=scheduler.get_metadata(keys=[OP], default="nothing"))


@relied_on_by(forget_metadata, SessionHooks, Controller.announce)
async def metadata_is_there_until_it_is_removed_or_the_cluster_restarts() -> None:
    """`task_metadata` has what was set; a restart of the cluster empties it, and tells the plugins after that."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        scheduler.set_metadata(keys=[OP], value={"mode": "sync"})
        assert await client.get_metadata([OP], default={}) == {"mode": "sync"}
        forget_metadata(scheduler, OP)
        forget_metadata(scheduler, OP)
        assert await client.get_metadata([OP], default={}) == {}
        scheduler.set_metadata(keys=[OP], value="something")
        scheduler.add_plugin(Restarted())
        await client.restart()
        assert await client.get_metadata(["found"], default="") == "nothing"


@relied_on_by(keep_extension, extension_of)
async def a_scheduler_keeps_what_is_among_its_extensions() -> None:
    """An object among a scheduler's extensions stays, whatever comes and goes, and needs no method of its own."""
    kept = object()
    async with scheduler_here() as scheduler:
        assert extension_of(scheduler, OP) is None
        keep_extension(scheduler, OP, kept)
        async with worker_of(scheduler) as worker:
            await worker.heartbeat()
        async with client_of(scheduler) as client:
            await client.restart()
            assert extension_of(scheduler, OP) is kept


# -- plugins ----------------------------------------------------------------------------------------------------------


@relied_on_by(give_new_nannies, started_nannies)
async def a_nanny_that_starts_is_given_the_plugins_and_waited_for() -> None:
    """A nanny that starts is sent `nanny_plugins`, and is in `_starting_nannies` until it says how that went."""
    async with scheduler_here() as scheduler:
        assert OP not in await _nanny_plugins(scheduler)
        give_new_nannies(scheduler, f"{OP}-before", b"a plugin of a person")
        give_new_nannies(scheduler, OP, b"a plugin")
        nanny = await connect(scheduler.address)
        await nanny.write({"op": "register_nanny", "address": "tcp://127.0.0.1:9"})
        plugins = (await nanny.read())["nanny-plugins"]
        assert list(plugins)[:2] == [OP, f"{OP}-before"]
        assert plugins[OP] == b"a plugin"
        waiting = asyncio.ensure_future(started_nannies(scheduler))
        await a_moment()
        assert not waiting.done()
        await nanny.write({"status": "ok"})
        await waiting
        await nanny.close()
        for name in (OP, OP, f"{OP}-before"):
            give_new_nannies(scheduler, name, None)
        assert OP not in await _nanny_plugins(scheduler)


async def _nanny_plugins(scheduler: Scheduler) -> dict[str, bytes]:
    comm = await connect(scheduler.address)
    await comm.write({"op": "register_nanny", "address": "tcp://127.0.0.1:9"})
    found: dict[str, bytes] = (await comm.read())["nanny-plugins"]
    await comm.close()
    await started_nannies(scheduler)
    return found


class Sent(WorkerPlugin):
    """Notes on the worker that it is there."""

    name = OP

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def setup(self, worker: Worker) -> None:
        """Raise the reason, if there is one."""
        if self.reason:
            raise LookupError(self.reason)

    def teardown(self, worker: Worker) -> None:
        """Note it."""
        vars(worker)["contract_teardown"] = True


@relied_on_by(give_new_workers)
async def a_worker_that_registers_is_given_the_plugins() -> None:
    """A worker that registers sets up `worker_plugins`, and runs tasks also where that raises, which is only logged."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        give_new_workers(scheduler, OP, dumps(Sent("only logged")))
        async with worker_of(scheduler) as worker:
            assert type(worker.plugins[OP]) is Sent
            assert await client.submit(sum, [1, 2]) == 3
        give_new_workers(scheduler, OP, None)
        give_new_workers(scheduler, OP, None)
        async with worker_of(scheduler) as worker:
            assert OP not in worker.plugins


@relied_on_by(add_plugin_at, remove_plugin_at)
async def a_plugin_is_set_up_in_one_worker_and_taken_away_again() -> None:
    """The handlers `plugin-add` and `plugin-remove` of a worker act on that worker, and answer what went wrong."""
    async with scheduler_here() as scheduler, worker_of(scheduler) as worker:
        assert await add_plugin_at(scheduler, worker.address, dumps(Sent()), OP, nanny=False) == ""
        assert type(worker.plugins[OP]) is Sent
        await remove_plugin_at(scheduler, worker.address, OP, nanny=False)
        assert OP not in worker.plugins
        assert "contract_teardown" in vars(worker)
        await remove_plugin_at(scheduler, worker.address, OP, nanny=False)
        raised = await add_plugin_at(scheduler, worker.address, dumps(Sent("not today")), OP, nanny=False)
        assert "not today" in raised


@relied_on_by(end_node)
async def a_worker_closes_when_it_is_told_to() -> None:
    """The handler `terminate` of a worker closes it, for a reason, by which at most its connection breaks."""
    async with scheduler_here() as scheduler, worker_of(scheduler) as worker:
        with contextlib.suppress(OSError):
            await end_node(scheduler, worker.address, OP, nanny=False)
        await worker.finished()
        await until(lambda: not scheduler.workers)


class Started(SchedulerPlugin):
    """Notes what plugin has its name while it starts, and whether it is closed."""

    name = OP
    before: SchedulerPlugin | None = None
    is_closed = False

    async def start(self, scheduler: Scheduler) -> None:
        """Note who was there before."""
        self.before = scheduler.plugins.get(OP)

    async def close(self) -> None:
        """Note it."""
        self.is_closed = True


@relied_on_by(RegisteredPlugin)
async def a_plugin_starts_before_it_takes_anothers_place() -> None:
    """A scheduler starts a plugin before it replaces one of that name, which it does not close, nor one it removes."""
    first, second, third = Started(), Started(), Started()
    async with scheduler_here() as scheduler:
        await scheduler.register_scheduler_plugin(first, idempotent=False)
        scheduler.remove_plugin(OP)
        await scheduler.register_scheduler_plugin(first, idempotent=False)
        await scheduler.register_scheduler_plugin(third, idempotent=True)
        assert scheduler.plugins[OP] is first
        assert third.before is None
        second_start = second.start

        async def start(of: Scheduler) -> None:
            await second_start(of)
            of.remove_plugin(OP)  # as we do, so that Dask does not warn

        vars(second)["start"] = start
        await scheduler.register_scheduler_plugin(second, idempotent=False)
        assert second.before is first
        assert scheduler.plugins[OP] is second
        assert not first.is_closed


# -- the HTTP server --------------------------------------------------------------------------------------------------


class Greeting(RequestHandler):
    """A page."""

    def get(self) -> None:
        """Answer."""
        self.write("hello")


@relied_on_by(add_pages)
async def a_scheduler_takes_more_pages_below_its_prefix() -> None:
    """The HTTP server of a scheduler answers with handlers that are added later, where its own route `health` is."""
    for prefix in ("/", "/behind"):
        async with scheduler_here(http_prefix=prefix) as scheduler:
            assert add_pages(scheduler, [("greeting", Greeting, {})])
            assert not add_pages(scheduler, [("greeting", Greeting, {})])
            url = f"http://127.0.0.1:{scheduler.http_server.port}{prefix.rstrip('/')}"
            for path, answer in (("greeting", b"hello"), ("health", b"ok")):
                assert (await AsyncHTTPClient(force_instance=True).fetch(f"{url}/{path}")).body == answer
            scheduler.http_application.settings.pop(EXTENSION)


@relied_on_by(link_page)
async def the_pages_of_a_dashboard_have_one_list_of_names() -> None:
    """What `template_variables` returns for a scheduler is the same object each time; there is none without bokeh."""
    async with scheduler_here() as scheduler:
        link_page(scheduler, "pkgsync")
        dashboard = sys.modules.get("distributed.dashboard.scheduler")
        if dashboard is not None:
            assert dashboard.template_variables(scheduler)["pages"].count("pkgsync") == 1


# -- a relaunch -------------------------------------------------------------------------------------------------------


class Counts:
    """An actor."""

    def __init__(self) -> None:
        self.count = 0


def add(one: int, other: int) -> int:
    """Add two numbers."""
    return one + other


@relied_on_by(named_objects, registered_plugins, holders_of_tasks)
async def a_scheduler_knows_what_people_have_on_it() -> None:
    """Datasets, variables, queues, locks, events, results, actors and plugins are where a scheduler keeps them."""
    async with scheduler_here() as scheduler, worker_of(scheduler), client_of(scheduler) as client:
        assert named_objects(scheduler) == []
        assert registered_plugins(scheduler) == []
        assert holders_of_tasks(scheduler) == {}
        result = client.submit(add, 1, 2, key="result")
        actor = client.submit(Counts, actor=True)
        await result
        await actor
        assert holders_of_tasks(scheduler) == {client.id: (0, 1, 1)}
        await client.publish_dataset(prices=result)
        await Variable("rate", client=client).set(1)
        queue = await Queue("jobs", client=client)
        event = Event("begun", client=client)
        await event.set()
        lock = Lock("one-at-a-time", **_given(Lock, client))
        await lock.acquire()
        semaphore = await Semaphore(2, name="two-at-a-time", **_given(Semaphore, client))
        names = {name for _, name in named_objects(scheduler)}
        assert {"prices", "rate", "jobs", "begun", "one-at-a-time", "two-at-a-time"} <= names
        await client.register_plugin(Nothing(), name="of-somebody")
        assert registered_plugins(scheduler) == [("worker plugin", "of-somebody")]
        await lock.release()
        await semaphore.close()
        queue.close()


def _given(kind: Any, client: Client) -> dict[str, Any]:
    """Return how a lock or semaphore of this Dask is told which scheduler it belongs to."""
    if "client" in inspect.signature(kind).parameters:
        return {"client": client}
    return {"scheduler_rpc": client.scheduler, "loop": client.loop}


class Nothing(WorkerPlugin):
    """Does nothing."""


@relied_on_by(listens_at, listen_at, stop_listening)
async def a_scheduler_listens_where_another_one_did() -> None:
    """A scheduler that listens no longer keeps its connections, and another one can listen at its address."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        addresses = listens_at(scheduler)
        assert [address.rpartition(":")[2] for address in addresses] == [scheduler.address.rpartition(":")[2]]
        stop_listening(scheduler)
        with raising(OSError, ""):
            await connect(scheduler.address, timeout=0.5)
        assert await client.scheduler.echo(data=1) == 1
        with dask.config.set({"distributed.scheduler.preload": []}):
            other = Scheduler(host="127.0.0.1", port=0, dashboard=False, dashboard_address=":0")
            listen_at(other, addresses)
            async with other:
                assert other.address == scheduler.address


@relied_on_by(hold_registrations)
async def whoever_registers_can_be_made_to_wait() -> None:
    """Clients, workers and nannies register by handlers of these names, which may wait, also behind the gate."""
    async with scheduler_here() as scheduler:
        release = hold_registrations(scheduler)

        async def gate(comm: Comm, **message: Any) -> None:
            await original(comm, **message)

        original = stand_in_for(scheduler, WORKER, gate)
        worker = asyncio.ensure_future(Worker(scheduler.address, nthreads=1, dashboard_address=":0").start())
        client = asyncio.ensure_future(Client(scheduler.address, asynchronous=True, set_as_default=False))
        comm = await connect(scheduler.address)
        await comm.write({"op": "register_nanny", "address": "tcp://127.0.0.1:1"})
        nanny = asyncio.ensure_future(comm.read())
        await a_moment()
        assert not scheduler.workers
        assert not scheduler.client_comms
        assert not nanny.done()
        release()
        assert (await nanny)["status"] == "OK"
        await comm.write({"status": "ok"})
        await comm.close()
        await (await worker).close()
        await (await client).close()
        assert scheduler.handlers["register-client"] == scheduler.add_client
