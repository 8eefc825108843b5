"""Restarts for a sync lose no results, unless somebody says that they may."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from clusters import environment_with, imported_version, on_workers
from contracts.surroundings import client_of, scheduler_here, until, worker_of

import dask_pkgsync as pkgsync
from dask_pkgsync.scheduler.rollout.drain import Drain

if TYPE_CHECKING:
    from pathlib import Path

    from dask_pkgsync import Environment

pytestmark = pytest.mark.cluster


def unrepeatable(size: int, seconds: float = 0) -> str:
    """Return what comes out otherwise each time it is computed."""
    time.sleep(seconds)
    return uuid.uuid4().hex * size


def until_told(directory: str) -> str:
    """Return what comes out otherwise each time, once somebody has said that it may end."""
    import pathlib

    while not (pathlib.Path(directory) / "may end").exists():
        time.sleep(0.05)
    return uuid.uuid4().hex


def other_six(base: Environment) -> Environment:
    """Return an environment for which workers that have imported six are restarted."""
    return environment_with(base, {"six": "1.17.0"})


def test_results_move_and_running_tasks_end(run_cluster: Any, base_environment: Environment) -> None:
    """Through a rolling restart of all workers every result stays the one that was computed, scattered ones too."""
    with run_cluster(workers=3) as cluster, cluster.client(3) as client:
        assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}
        futures = [client.submit(unrepeatable, 10, pure=False) for _ in range(30)]
        before = client.gather(futures)
        scattered = client.scatter([unrepeatable(1) for _ in range(3)])
        put_in = client.gather(scattered)
        running = [client.submit(unrepeatable, 1, 2, pure=False) for _ in range(3)]
        for task in running:
            _runs(client, task)
        report = pkgsync.sync(client, other_six(base_environment), progress=False)
        assert [node.outcome for node in report.nodes[1:]] == ["restarted"] * 3
        assert not any("computed again" in note for node in report.nodes for note in node.notes)
        assert client.gather(futures) == before
        assert client.gather(scattered) == put_in
        assert len(set(client.gather(running))) == 3
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}
        drained = [event for _, event in client.get_events("pkgsync") if event["action"] == "drained"]
        assert {(event["lost"], event["running"]) for event in drained} == {(0, 0)}
        logs = "".join(cluster.log(name) for name in cluster.processes)
        assert "This worker restarts for pkgsync: already imported in another version: six" in logs
        assert "Traceback" not in logs


def noted(directory: str, key: int, *before: int) -> int:
    """Note that this was computed, and return what depends on what was computed before."""
    import pathlib

    with (pathlib.Path(directory) / str(key)).open("a") as file:
        file.write("computed\n")
    time.sleep(0.05)
    return key + sum(before)


def test_somebodys_long_computation_runs_through_anothers_sync(
    run_cluster: Any, base_environment: Environment, tmp_path: Path
) -> None:
    """Its numbers are right, with data that was scattered, and nothing that was drained is computed twice."""
    with run_cluster(workers=3) as cluster, cluster.client(3) as one, cluster.client(3) as other:
        on_workers(one, imported_version, "six")
        chains, length = 6, 25
        scattered = one.scatter(list(range(chains)))
        last = list(scattered)
        for step in range(1, length):
            keys = [chain * 1000 + step for chain in range(chains)]
            last = [one.submit(noted, str(tmp_path), key, before) for key, before in zip(keys, last, strict=True)]
        cluster.wait_for(lambda: len(list(tmp_path.glob("[0-9]*"))) > chains, "the first numbers")
        report = pkgsync.sync(other, other_six(base_environment), progress=False)
        assert [node.outcome for node in report.nodes[1:]] == ["restarted"] * 3
        expected = [chain + sum(chain * 1000 + step for step in range(1, length)) for chain in range(chains)]
        assert one.gather(last) == expected
        assert one.gather(scattered) == list(range(chains))
        counts = [len(path.read_text().splitlines()) for path in tmp_path.glob("[0-9]*")]
        assert (len(counts), set(counts)) == (chains * (length - 1), {1})


def test_what_nobody_can_take_is_left_alone_unless_it_is_to_be_now(
    run_cluster: Any, base_environment: Environment
) -> None:
    """A cluster whose workers cannot be emptied stays as it is, and goes on; nothing is lost until somebody says so."""
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        on_workers(client, imported_version, "six")
        future = client.submit(unrepeatable, 1, pure=False)
        before = future.result()
        with pytest.raises(pkgsync.SyncError, match="1 result that no peer could take") as caught:
            pkgsync.sync(client, other_six(base_environment), progress=False)
        assert not caught.value.adopted
        assert "restart='now'" in str(caught.value)
        assert "takes no tasks" not in str(caught.value)  # it does
        assert client.submit(imported_version, "six", pure=False).result(timeout=60) == "1.15.0"
        assert future.result() == before
        del future
        pkgsync.sync(client, other_six(base_environment), progress=False)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}

        held = client.submit(unrepeatable, 1, pure=False)
        before = held.result()
        older = environment_with(base_environment, {"six": "1.16.0"})
        with pytest.raises(pkgsync.SyncError, match="1 result that no peer could take"):
            pkgsync.sync(client, older, progress=False)
        assert pkgsync.status(client).matches  # what it had
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}
        report = pkgsync.sync(client, older, restart="now", progress=False)
        assert any("computed again, where Dask can: 1 result" in note for note in report.nodes[1].notes)
        assert held.result(timeout=60) != before


def test_a_release_names_who_keeps_what_was_released(run_cluster: Any, base_environment: Environment) -> None:
    """Where nobody else would work, a worker goes on in what it has, and starts again when nobody needs it any more."""
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        pkgsync.sync(client, other_six(base_environment), progress=False)
        held = client.submit(unrepeatable, 1, pure=False)
        before = held.result()
        (node,) = (one for one in pkgsync.release(client).nodes if one.role == "nanny")
        assert node.outcome == "left alone"
        states = {one.role: one for one in pkgsync.status(client).nodes}
        assert states["scheduler"].state == "base"
        assert states["nanny"].state == "left alone"
        assert "1 result that no peer could take" in states["nanny"].detail
        assert held.result() == before
        assert client.submit(imported_version, "six", pure=False).result(timeout=60) == "1.17.0"
        del held
        cluster.wait_for(lambda: {one.state for one in pkgsync.status(client).nodes} == {"base"}, "the last worker")
        client.wait_for_workers(1, timeout=60)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}


def test_a_release_leaves_no_mixture(run_cluster: Any, base_environment: Environment, tmp_path: Path) -> None:
    """A worker that still has what was released takes no tasks; when it is free it gets its base, like the others."""
    with run_cluster(workers=2, env={"DASK_PKGSYNC__DRAIN_TIMEOUT": "1s"}) as cluster, cluster.client(2) as client:
        pkgsync.sync(client, other_six(base_environment), progress=False)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}
        long = client.submit(until_told, str(tmp_path), pure=False)
        _runs(client, long)
        report = pkgsync.release(client)
        assert sorted(node.outcome for node in report.nodes[1:]) == ["restarted", "waiting"]
        futures = [client.submit(imported_version, "six", pure=False) for _ in range(6)]
        assert set(client.gather(futures)) == {"1.15.0"}
        del futures
        again = pkgsync.release(client)
        assert sorted(node.outcome for node in again.nodes[1:]) == ["matched", "waiting"]
        (tmp_path / "may end").touch()
        assert len(long.result(timeout=60)) == 32
        cluster.wait_for(lambda: {one.state for one in pkgsync.status(client).nodes} == {"base"}, "the last worker")
        client.wait_for_workers(2, timeout=60)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}
        assert len(long.result()) == 32


def test_one_that_waits_leaves_the_others_at_work(
    run_cluster: Any, base_environment: Environment, tmp_path: Path
) -> None:
    """A task that does not end keeps its worker waiting, and nothing else; in the end that worker is restarted, too."""
    with run_cluster(workers=2, env={"DASK_PKGSYNC__DRAIN_TIMEOUT": "1s"}) as cluster, cluster.client(2) as client:
        on_workers(client, imported_version, "six")
        long = client.submit(until_told, str(tmp_path), pure=False)
        behind = client.submit(unrepeatable, 1, pure=False, workers=[_runs(client, long)])  # in its queue
        report = pkgsync.sync(client, other_six(base_environment), progress=False)
        assert sorted(node.outcome for node in report.nodes[1:]) == ["restarted", "waiting"]
        assert client.submit(imported_version, "six", pure=False).result(timeout=60) == "1.17.0"
        other = environment_with(base_environment, {"six": "1.17.0", "toolz": "0.12.0"})
        with pytest.raises(pkgsync.SyncError, match="imported other versions already of: toolz"):
            pkgsync.sync(client, other, scheduler="refuse", progress=False)  # prepared everywhere, and then nobody's
        (tmp_path / "may end").touch()
        assert len(long.result(timeout=60)) == 32
        assert len(behind.result(timeout=60)) == 32
        cluster.wait_for(lambda: pkgsync.status(client).matches, "the last worker")
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}
        assert len(long.result()) == 32


def _runs(client: Any, future: Any) -> str:
    """Return the worker that runs a task."""
    while True:
        for worker, keys in client.processing().items():
            if future.key in keys:
                return str(worker)
        time.sleep(0.05)


def test_an_empty_cluster_and_an_impatient_operator_do_not_wait(
    run_cluster: Any, base_environment: Environment
) -> None:
    """With a timeout of 0, and a restart that is to be now, nothing is drained."""
    with run_cluster(workers=2, env={"DASK_PKGSYNC__DRAIN_TIMEOUT": "0"}) as cluster, cluster.client(2) as client:
        on_workers(client, imported_version, "six")
        future = client.submit(unrepeatable, 1, 30, pure=False)
        _runs(client, future)
        pkgsync.sync(client, other_six(base_environment), restart="now", progress=False)
        assert "drained" not in [event["action"] for _, event in client.get_events("pkgsync")]
        future.cancel()


def test_an_idle_worker_gets_no_task_before_it_is_restarted() -> None:
    """From the answer of the scheduler on that it may be restarted, a worker is given no tasks, until it is freed."""

    async def look() -> None:
        async with scheduler_here() as scheduler, worker_of(scheduler) as worker, client_of(scheduler) as client:
            state = scheduler.workers[worker.address]
            state.nanny = "tcp://nanny"
            drain = Drain(scheduler, lambda _: None)
            drain.begin("drained")
            assert await drain.handle_drain(worker.address, "tcp://nanny") == {"go": True, "lost": ""}
            assert state not in scheduler.running
            future = client.submit(sum, [1, 2])
            await until(lambda: future.key in scheduler.tasks)
            assert not state.processing
            drain.free(worker.address)
            assert await future == 3

    asyncio.run(look())
