"""What nannies and workers rely on."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
from contracts.law import relied_on_by
from contracts.surroundings import OP, a_moment, client_of, raising, scheduler_here, until, worker_of
from distributed import Nanny, NannyPlugin, Scheduler, SchedulerPlugin, Status, Worker, WorkerPlugin
from distributed.protocol import deserialize
from distributed.versions import get_versions

from dask_pkgsync.carry.stand_in import NannyStandIn, SchedulerStandIn, WorkerStandIn
from dask_pkgsync.carry.travel import carried
from dask_pkgsync.model.environments.environment import Environment
from dask_pkgsync.model.policy import Policy
from dask_pkgsync.model.target import Target
from dask_pkgsync.node.dask_internals import (
    add_plugin_to_worker,
    answer_calls,
    around_start,
    before_restarts,
    call_scheduler,
    end_process,
    end_worker,
    forget_versions,
    has_fixed_name,
    has_process,
    is_at_work,
    is_before_registration,
    is_running,
    kill_process,
    metrics_namespace,
    pickled,
    plugin_loggers,
    plugins_at_start,
    preloads_of,
    put_in_place,
    restart_worker,
    running_worker,
    second_process,
    send_heartbeat,
    servers_here,
    set_environment,
    set_plugins_at_start,
    tell_at_registration,
    why_not_two_workers,
)
from dask_pkgsync.node.log import log_in_sentences
from dask_pkgsync.node.nanny import NannySync
from dask_pkgsync.node.successor import Successor
from dask_pkgsync.node.worker import WorkerSync
from dask_pkgsync.scanning.installed import this_interpreter
from dask_pkgsync.scheduler.dask_internals import add_plugin_at, end_node, remove_plugin_at
from dask_pkgsync.scheduler.rollout.node_rpc import NodeRpc

if TYPE_CHECKING:
    from collections.abc import Iterator

# -- every node -------------------------------------------------------------------------------------------------------


@relied_on_by(answer_calls, NodeRpc)
async def a_server_answers_calls_by_its_handlers() -> None:
    """Scheduler and workers answer a call by the handler that they have then, and None where they have none."""

    async def double(number: int) -> int:
        return 2 * number

    async with scheduler_here() as scheduler, worker_of(scheduler) as worker:
        assert await scheduler.rpc(worker.address).contract_double(number=1) is None
        answer_calls(worker, contract_double=double)
        assert await scheduler.rpc(worker.address).contract_double(number=1) == 2
        answer_calls(scheduler, contract_double=double)
        assert await worker.scheduler.contract_double(number=2) == 4


class OfScheduler(SchedulerPlugin):
    """Raises when it starts, and when a client comes."""

    name = OP

    async def start(self, scheduler: Scheduler) -> None:
        """Raise."""
        raise LookupError("of a scheduler")

    def add_client(self, scheduler: Scheduler, client: str) -> None:
        """Raise."""
        raise LookupError("of a client")


class OfNanny(NannyPlugin):
    """Says whether there is a worker process, or raises."""

    name = OP
    found: bool | None = None

    def __init__(self, reason: str = "") -> None:
        self.reason = reason

    def setup(self, nanny: Nanny) -> None:
        """Look, or raise the reason."""
        if self.reason:
            raise LookupError(self.reason)
        OfNanny.found = has_process(nanny)


class OfWorker(WorkerPlugin):
    """Tells the scheduler how it found its worker, or raises."""

    name = OP
    found: tuple[Any, ...] = ()
    may_go_on = asyncio.Event()

    def __init__(self, text: str = "", reason: str = "") -> None:
        self.text, self.reason = text, reason

    async def setup(self, worker: Worker) -> None:
        """Look, or raise the reason."""
        if self.reason:
            raise LookupError(self.reason)
        found = OfWorker.found = (self.text, is_before_registration(worker), is_at_work(worker))
        tell_at_registration(worker, OP, lambda _: found)
        if self.text == "waits":
            await send_heartbeat(worker)
            await OfWorker.may_go_on.wait()


def told(scheduler: Scheduler, worker: str | None) -> tuple[Any, ...]:
    """Return what a worker has told when it registered."""
    return tuple(scheduler.workers[str(worker)].extra[OP])


@relied_on_by(pickled, NannySync)
async def plugins_travel_pickled_and_an_exception_of_a_nannys_is_only_an_answer() -> None:
    """`plugin_add` takes what `distributed.protocol.pickle` has pickled; a nanny answers what its plugin raises."""
    async with scheduler_here() as scheduler, _idle_nanny(scheduler) as nanny, worker_of(scheduler) as worker:
        assert (await nanny.plugin_add(plugin=pickled(OfNanny())))["status"] == "OK"
        assert OfNanny.found is False
        assert (await worker.plugin_add(plugin=pickled(OfWorker("added"))))["status"] == "OK"
        assert OfWorker.found == ("added", False, True)
        answer = await nanny.plugin_add(plugin=pickled(OfNanny("of a nanny")))
        assert "of a nanny" in answer["exception_text"]


@contextlib.asynccontextmanager
async def _idle_nanny(scheduler: Scheduler) -> Any:
    """Make a nanny that is never started, for what can be seen without a process."""
    nanny = Nanny(scheduler.address, nthreads=1)
    try:
        yield nanny
    finally:
        await nanny.close()


class Unloadable:
    """Travels as a plugin of ours that cannot be loaded where it arrives."""

    def __init__(self, role: Any) -> None:
        self.role = role

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as our plugins are pickled."""
        return carried(self.role, "dask_pkgsync.nowhere:nothing", None)


@relied_on_by(SchedulerStandIn, NannyStandIn, WorkerStandIn)
async def a_plugin_may_become_another_object_while_it_is_set_up() -> None:
    """Dask keeps the object that it has unpickled, awaits what sets it up, and answers or raises what that raises."""
    target = Target(Environment.of(this_interpreter(), ()), Policy())
    async with scheduler_here() as scheduler, _idle_nanny(scheduler) as nanny, worker_of(scheduler) as worker:
        plugin = pickled(WorkerSync(target, sent_by="client's nanny"))
        assert await add_plugin_at(scheduler, worker.address, plugin, OP, nanny=False) == ""
        assert type(worker.plugins[OP]) is WorkerSync
        assert "nowhere" in await add_plugin_at(scheduler, worker.address, _unloadable("worker"), OP, nanny=False)
        assert "nowhere" in (await nanny.plugin_add(plugin=_unloadable("nanny")))["exception_text"]
        with raising(ModuleNotFoundError, "nowhere"):
            await scheduler.register_scheduler_plugin(plugin=_unloadable("scheduler"), idempotent=False)
        assert worker.status == Status.running, "where Dask tells of the error, the worker goes on"


@relied_on_by(WorkerStandIn)
async def a_worker_may_close_while_it_sets_up_the_schedulers_plugins() -> None:
    """A worker that closes while it sets up what came with the scheduler's answer runs no task."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        scheduler.worker_plugins[OP] = _unloadable("worker")
        worker = Worker(scheduler.address, nthreads=1, dashboard=False, dashboard_address=":0")
        future = client.submit(sum, [1, 2])
        with contextlib.suppress(Exception):  # whatever the start of a closed worker raises
            await worker
        await until(lambda: worker.status == Status.closed and not scheduler.workers)
        assert future.status == "pending"


def _unloadable(role: str) -> bytes:
    return pickled(Unloadable(role))  # type: ignore[arg-type]


@relied_on_by(plugin_loggers, log_in_sentences)
async def what_plugins_raise_is_logged_by_known_loggers() -> None:
    """What plugins raise is logged, if at all, with the exception, by the loggers of core, scheduler, nanny, worker."""
    loggers = {one.name for one in plugin_loggers()}
    with _logged() as found:
        async with scheduler_here() as scheduler, _idle_nanny(scheduler) as nanny, client_of(scheduler) as client:
            await nanny.plugin_add(plugin=OfNanny("of a nanny"))  # (which an old one does not log)
            with contextlib.suppress(LookupError):
                await client.register_plugin(OfScheduler())
            scheduler.add_plugin(OfScheduler())
            async with client_of(scheduler):
                pass
            with contextlib.suppress(RuntimeError):
                async with worker_of(scheduler, plugins=(OfWorker("", "of a worker"),)):
                    pass
    assert {text for text, _ in found} >= {"of a scheduler", "of a client", "of a worker"}
    assert {name for _, name in found} <= loggers


@contextlib.contextmanager
def _logged() -> Iterator[list[tuple[str, str]]]:
    found: list[tuple[str, str]] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.exc_info and isinstance(record.exc_info[1], LookupError):
                found.append((str(record.exc_info[1]), record.name))

    handler = Noting()
    logging.getLogger("distributed").addHandler(handler)
    try:
        yield found
    finally:
        logging.getLogger("distributed").removeHandler(handler)


# -- a nanny ----------------------------------------------------------------------------------------------------------


@relied_on_by(
    has_process,
    running_worker,
    plugins_at_start,
    set_plugins_at_start,
    set_environment,
    restart_worker,
    is_before_registration,
)
async def a_nanny_starts_its_workers_with_the_plugins_in_worker_kwargs() -> None:
    """Each worker of a nanny sets up, before it registers, what `plugins` of `worker_kwargs` has when it is started.

    It has the variables that `env` of the nanny has then.
    """
    async with scheduler_here() as scheduler:
        given = {"CONTRACT_GIVEN": "theirs"}
        nanny = Nanny(scheduler.address, nthreads=1, dashboard=False, dashboard_address=":0", env=given)
        set_environment(nanny, {"CONTRACT_GIVEN": "ours", "CONTRACT_ONE": "first"})
        assert not has_process(nanny)
        assert await running_worker(nanny, 1) is None
        set_plugins_at_start(nanny, OP, [OfWorker("first")])
        async with nanny:
            assert has_process(nanny)
            first, pid = await running_worker(nanny, 1), nanny.pid
            assert told(scheduler, first) == ("first", True, False)
            assert scheduler.workers[str(first)].nanny == nanny.address
            await _takes_plugins(scheduler, nanny)
            assert await _variables(scheduler, first) == ["theirs", "first", None]

            set_environment(nanny, {"CONTRACT_OTHER": "second"})
            set_plugins_at_start(nanny, OP, [OfWorker("second")])
            assert [one.text for one in plugins_at_start(nanny)] == ["second"]
            restarting = asyncio.ensure_future(restart_worker(nanny, 60, OP))
            await until(lambda: nanny.process.status == Status.starting)
            second = await running_worker(nanny, 60)
            assert await restarting == ""
            assert told(scheduler, second) == ("second", True, False)
            assert await _variables(scheduler, second) == ["theirs", None, "second"]
            assert pid != nanny.pid


async def _variables(scheduler: Scheduler, worker: str | None) -> list[str | None]:
    """Return the values that variables of the contract have in a worker."""
    names = ("CONTRACT_GIVEN", "CONTRACT_ONE", "CONTRACT_OTHER")
    ask = scheduler.rpc(worker).run
    answers = [(await ask(function=pickled(os.getenv), args=pickled((name,))))["result"] for name in names]
    return [deserialize(answer.header, answer.frames) for answer in answers]  # a scheduler leaves that to others


async def _takes_plugins(scheduler: Scheduler, nanny: Nanny) -> None:
    """Look at what the scheduler asks of a nanny that runs."""
    assert await add_plugin_at(scheduler, nanny.address, pickled(OfNanny()), OP, nanny=True) == ""
    assert OfNanny.found is True
    await remove_plugin_at(scheduler, nanny.address, OP, nanny=True)
    assert OP not in nanny.plugins
    await remove_plugin_at(scheduler, nanny.address, OP, nanny=True)
    assert "not today" in await add_plugin_at(scheduler, nanny.address, pickled(OfNanny("not today")), OP, nanny=True)


@relied_on_by(restart_worker)
async def a_nanny_says_ok_to_a_restart_also_where_no_worker_runs() -> None:
    """`Nanny.restart` answers OK, or an error with its text, and OK also where there is no worker after it."""
    async with scheduler_here() as scheduler, _idle_nanny(scheduler) as nanny:
        assert await nanny.restart(timeout=60, reason=OP) == "OK"
        assert await restart_worker(nanny, 60, OP) == "OK, and it does not run"
        nanny.process = UnableToDie()
        assert "stays" in await restart_worker(nanny, 60, OP)
        nanny.process = None


class UnableToDie:
    """A worker process that cannot be ended."""

    status = Status.running
    worker_address = None

    async def kill(self, **_: Any) -> None:
        """Raise."""
        raise LookupError("it stays")


@relied_on_by(end_node)
async def a_nanny_closes_when_it_is_told_to() -> None:
    """The handler `terminate` of a nanny is `Nanny.close`, which takes a reason."""
    async with scheduler_here() as scheduler, _idle_nanny(scheduler) as nanny:
        assert nanny.handlers["terminate"] == nanny.close
        inspect.signature(nanny.close).bind(reason=OP)


@relied_on_by(add_plugin_to_worker)
async def a_plugin_that_is_added_to_a_worker_answers_what_it_raised() -> None:
    """The handler `plugin-add` of a worker answers the exception that the plugin's setup has raised."""
    async with scheduler_here() as scheduler, worker_of(scheduler) as worker, _idle_nanny(scheduler) as nanny:
        await nanny.rpc.start()
        assert await add_plugin_to_worker(nanny, worker.address, pickled(OfWorker("later")), OP) is None
        assert OfWorker.found == ("later", False, True)
        raised = await add_plugin_to_worker(nanny, worker.address, pickled(OfWorker("", "not live")), OP)
        assert isinstance(raised, LookupError)
        assert str(raised) == "not live"


@relied_on_by(before_restarts)
async def a_nanny_starts_its_worker_again_by_instantiate() -> None:
    """`Nanny.restart`, and a nanny whose worker has ended, call `Nanny.instantiate`, as it is set on the nanny."""
    calls: list[str] = []

    async def first() -> None:
        calls.append("first")

    async def second() -> None:
        calls.append("second")

    async with scheduler_here() as scheduler:
        nanny = Nanny(scheduler.address, nthreads=1, dashboard=False, dashboard_address=":0")
        before_restarts(nanny, first)
        async with nanny:
            assert not calls, "the first start of a worker is no restart"
            assert await restart_worker(nanny, 60, OP) == ""
            assert set(calls) == {"first"}  # twice, where the end of the old process is noticed as well
            before_restarts(nanny, second)
            os.kill(nanny.pid, signal.SIGKILL)
            await until(lambda: "second" in calls and nanny.process.status == Status.running)
            before_restarts(nanny, None)
            assert "instantiate" not in vars(nanny)


class Waits(WorkerPlugin):
    """Waits in a worker that has not registered, until its nanny answers."""

    name = OP

    async def setup(self, worker: Worker) -> None:
        """Wait."""
        await worker.rpc(str(worker.nanny)).contract_turn()


@contextlib.asynccontextmanager
async def _two_processes(scheduler: Scheduler, **rest: Any) -> Any:
    """Run a nanny, and a second process of its, which waits before it registers until an event is set."""
    asked, turn = asyncio.Event(), asyncio.Event()

    async def contract_turn() -> None:
        asked.set()
        await turn.wait()

    async with Nanny(scheduler.address, nthreads=1, dashboard=False, dashboard_address=":0", **rest) as nanny:
        answer_calls(nanny, contract_turn=contract_turn)
        process = second_process(nanny, OP, [Waits()])
        starting = asyncio.ensure_future(process.start())
        try:
            await until(lambda: asked.is_set() or starting.done())
            yield nanny, process, starting, turn
        finally:
            await kill_process(process)
            await asyncio.wait({starting})


@relied_on_by(second_process, put_in_place, is_running, end_process, why_not_two_workers, Successor)
async def a_nanny_goes_on_with_another_process_that_is_put_in_place_of_its_own() -> None:
    """A second `WorkerProcess` with a nanny's arguments registers beside the first, and may take its place."""
    async with scheduler_here() as scheduler, _two_processes(scheduler) as (nanny, process, starting, turn):
        former, first = nanny.process, str(nanny.worker_address)
        assert list(scheduler.workers) == [first], "the second one waits"
        assert not is_running(process)
        turn.set()
        assert await starting == Status.running
        assert is_running(process)
        assert scheduler.workers[process.worker_address].nanny == nanny.address
        set_plugins_at_start(nanny, OP, [OfWorker("again")])
        put_in_place(nanny, process)
        await end_process(former, 5, OP)
        await until(lambda: list(scheduler.workers) == [nanny.worker_address])
        assert (nanny.status, former.status) == (Status.running, Status.stopped)
        second = nanny.pid
        assert why_not_two_workers(nanny, OP) == ""
        os.kill(second, signal.SIGKILL)
        await until(lambda: nanny.pid not in (None, second) and nanny.process.status == Status.running)
        assert told(scheduler, nanny.worker_address) == ("again", True, False), "the plugins are the nanny's"


@relied_on_by(second_process, kill_process, Successor)
async def a_second_process_of_a_nanny_can_be_killed_while_it_waits() -> None:
    """A `WorkerProcess` that has not registered ends when its process is killed; the nanny and its worker go on."""
    async with scheduler_here() as scheduler, _two_processes(scheduler) as (nanny, process, starting, _):
        first = nanny.pid
        await kill_process(process)
        with contextlib.suppress(Exception):  # an old one has nothing to read from any more
            assert await starting != Status.running
        assert not is_running(process)
        await kill_process(process)
        assert (nanny.pid, nanny.status, len(scheduler.workers)) == (first, Status.running, 1)


@relied_on_by(has_fixed_name, Successor)
async def a_scheduler_refuses_a_second_worker_of_one_name() -> None:
    """A worker whose name another one has does not start, and that other one goes on."""
    async with scheduler_here() as scheduler, _two_processes(scheduler, name="one") as (nanny, _, starting, turn):
        assert has_fixed_name(nanny)
        turn.set()
        with raising(RuntimeError, "failed to start"):
            await starting
        assert list(scheduler.workers) == [nanny.worker_address]


@relied_on_by(why_not_two_workers, has_fixed_name)
async def a_worker_process_keeps_the_arguments_of_its_workers() -> None:
    """`worker_kwargs` of a `WorkerProcess` has what a nanny was given for its workers, by the names of `Worker`."""
    given = {"worker_port": 0, "contact_address": None, "resources": {"GPU": 1}, "preload": ["json"], "services": None}
    async with scheduler_here() as scheduler:
        async with Nanny(scheduler.address, nthreads=1, dashboard_address=":0", name="x", **given) as nanny:
            assert has_fixed_name(nanny)
            kwargs = nanny.process.worker_kwargs
            assert "resources" in why_not_two_workers(nanny, OP)
            kwargs["resources"] = None
            assert "preloads" in why_not_two_workers(nanny, OP)
            kwargs["preload"] = ["dask_pkgsync.preload"]
            assert why_not_two_workers(nanny, OP) == ""
            for name, value in {
                "port": 4321,
                "dashboard_address": "127.0.0.1:8787",
                "contact_address": "tcp://x",
            }.items():
                assert name in kwargs
                before, kwargs[name] = kwargs[name], value
                assert name in why_not_two_workers(nanny, OP)
                kwargs[name] = before
            kwargs["plugins"] = [Waits()]
            assert why_not_two_workers(nanny, OP) == ""
            assert "plugins" in why_not_two_workers(nanny, "another name")
        assert why_not_two_workers(nanny, OP) == "no worker runs"


# -- a worker ---------------------------------------------------------------------------------------------------------


@relied_on_by(is_before_registration, is_at_work, tell_at_registration, WorkerSync)
async def a_worker_sets_up_its_own_plugins_before_it_registers() -> None:
    """A worker sets up the plugins that it was made with in `Status.init`, and then sends `startup_information`."""
    async with scheduler_here() as scheduler, worker_of(scheduler, plugins=(OfWorker("own"),)) as worker:
        assert OfWorker.found == ("own", True, False)
        assert told(scheduler, worker.address) == ("own", True, False)
        await until(lambda: is_at_work(worker))


@relied_on_by(is_before_registration, WorkerSync)
async def a_worker_does_not_start_where_its_own_plugin_raises() -> None:
    """What a plugin raises that a worker was made with keeps the worker from registering."""
    async with scheduler_here() as scheduler:
        with raising(RuntimeError, "not verified"):
            async with worker_of(scheduler, plugins=(OfWorker("", "not verified"),)):
                pass
        assert not scheduler.workers


@relied_on_by(is_at_work, send_heartbeat, WorkerSync)
async def a_worker_runs_no_tasks_before_the_schedulers_plugins_are_set_up() -> None:
    """A worker is running, without heartbeats, while it sets up the scheduler's plugins; tasks wait for that."""
    async with scheduler_here() as scheduler, client_of(scheduler) as client:
        scheduler.worker_plugins[OP] = pickled(OfWorker("waits"))
        OfWorker.may_go_on, OfWorker.found = asyncio.Event(), ()
        worker = Worker(scheduler.address, nthreads=1, dashboard=False, dashboard_address=":0")
        starting = asyncio.ensure_future(worker)
        try:
            await until(lambda: OfWorker.found)
            assert OfWorker.found == ("waits", False, False)
            assert worker.status == Status.running
            future = client.submit(sum, [1, 2])
            await a_moment()
            assert scheduler.workers[worker.address] in scheduler.running
            assert future.status == "pending"
            OfWorker.may_go_on.set()
            assert await future == 3
            assert is_at_work(worker)
        finally:
            OfWorker.may_go_on.set()
            await starting
            await worker.close()


@relied_on_by(send_heartbeat)
async def a_scheduler_notes_when_it_has_heard_of_a_worker() -> None:
    """The handler `heartbeat_worker` takes a worker's address, time and metrics, and notes that the worker lives."""
    async with scheduler_here() as scheduler, worker_of(scheduler) as worker:
        before = scheduler.workers[worker.address].last_seen
        await a_moment()
        await send_heartbeat(worker)
        assert scheduler.workers[worker.address].last_seen > before


@relied_on_by(forget_versions)
async def what_is_remembered_of_versions_can_be_forgotten() -> None:
    """`get_versions` tells a version that has changed once its cache is empty, or it asks the modules and has none."""
    with tempfile.TemporaryDirectory() as directory:
        sys.path.insert(0, directory)
        try:
            first, second = (_version(Path(directory), version) for version in ("1.0", "2.0"))
        finally:
            sys.path.remove(directory)
    assert (first, second) in {("1.0", "2.0"), (None, None)}


def _version(directory: Path, version: str) -> str | None:
    metadata = directory / "pkgsync_contract-1.dist-info" / "METADATA"
    metadata.parent.mkdir(exist_ok=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: pkgsync-contract\nVersion: {version}\n")
    forget_versions()
    told: str | None = get_versions(packages=["pkgsync-contract"])["packages"]["pkgsync-contract"]
    return told


@relied_on_by(metrics_namespace)
async def metrics_have_a_namespace_that_is_configured() -> None:
    """Dask's own metrics begin with what the configuration says, and the registry of a process is shown."""
    from importlib.util import find_spec

    assert metrics_namespace() == dask.config.get("distributed.dashboard.prometheus.namespace")
    if find_spec("prometheus_client") is not None:
        from distributed.http.prometheus import PrometheusCollector

        assert PrometheusCollector(None).build_name("x") == f"{metrics_namespace()}_x"


# -- a relaunch -------------------------------------------------------------------------------------------------------


@relied_on_by(servers_here, preloads_of, end_worker)
async def a_nanny_whose_worker_has_ended_for_good_starts_no_other() -> None:
    """The nannies of a process are known, with their preloads; one whose worker has been ended stays without one."""
    async with scheduler_here() as scheduler:
        preloads: dict[str, Any] = {"preload": ["json"], "preload_nanny": ["csv"]}
        async with Nanny(scheduler.address, nthreads=1, dashboard_address=":0", **preloads) as nanny:
            assert nanny in servers_here()
            assert preloads_of(nanny) == ["csv", "json"]
            await end_worker(nanny, 10, "contract")
            assert not await running_worker(nanny, 1)
            await a_moment()
            assert nanny.status == Status.running
            assert not scheduler.workers
        assert nanny not in servers_here()


@relied_on_by(around_start, call_scheduler)
async def what_stands_around_the_start_of_a_server_is_called_once() -> None:
    """A server starts by `start_unsafe` of its class; before that it has no address, and can call its scheduler."""
    started: list[str] = []

    class Mine(Worker):
        """A worker whose class can be changed."""

    async def around(worker: Worker, start: Any) -> Any:
        assert await call_scheduler(worker, "echo", data=1) == 1
        assert worker.status == Status.init
        returned = await start()
        started.append(worker.address)
        return returned

    around_start(Mine, around)
    async with scheduler_here() as scheduler, Mine(scheduler.address, nthreads=1, dashboard_address=":0") as worker:
        assert started == [worker.address] == list(scheduler.workers)
