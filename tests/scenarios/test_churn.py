"""No task ever runs in the base, whatever happens to the workers meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest
from clusters import LIGHT, imported_version, on_workers, surroundings
from distributed import Client, as_completed
from distributed.versions import VersionMismatchWarning

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from clusters import Cluster, Venvs

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

pytestmark = pytest.mark.cluster


def seen_here(number: int) -> tuple[str, str, int]:
    """Return what a task sees: the version by metadata, the version by import, and its process."""
    import importlib.metadata
    import time

    import six

    time.sleep(0.002)
    return importlib.metadata.version("six"), six.__version__, os.getpid() if number >= 0 else 0


def kill_workers(nanny_pid: int) -> int:
    """Kill the worker processes below a `dask worker` command, as the kernel does when memory is short."""
    import psutil

    workers = [
        child
        for child in psutil.Process(nanny_pid).children(recursive=True)
        if any("spawn_main" in part for part in child.cmdline())
    ]
    for worker in workers:
        worker.send_signal(signal.SIGKILL)
    return len(workers)


@pytest.mark.slow
def test_no_task_sees_the_base_while_workers_come_and_go(run_cluster: Run, target: Environment) -> None:
    """Thousands of tasks, during kill -9, restarts and new workers, all see the target's version."""
    env = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "50"}
    with run_cluster(workers=2, env=env) as cluster, cluster.client(workers=2) as client:
        pkgsync.sync(client, target, progress=False)
        seen: set[tuple[str, str]] = set()
        pids: set[int] = set()
        churn = [
            lambda: kill_workers(cluster.processes["worker1"].pid),
            lambda: cluster.add_worker("--nworkers", "1", name="late"),
            lambda: kill_workers(cluster.processes["late"].pid),
            lambda: cluster.add_worker(name="later", nanny=False),
            lambda: client.restart_workers(nannies(client)[:1], timeout=60),
            lambda: kill_workers(cluster.processes["worker1"].pid),
        ]
        total = 3_000
        futures = client.map(seen_here, range(total), pure=False)
        for count, future in enumerate(as_completed(futures, loop=client.loop)):
            metadata, imported, pid = future.result()
            seen.add((metadata, imported))
            pids.add(pid)
            if churn and count % 400 == 200:
                threading.Thread(target=churn.pop(0)).start()
        assert not churn
        assert seen == {(LIGHT["six"], LIGHT["six"])}
        assert len(pids) > 3
        client.restart(wait_for_workers=False)
        client.wait_for_workers(2, timeout=60)
        assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}


def nannies(client: Client) -> list[str]:
    """Return the workers that have a nanny."""
    workers = client.scheduler_info(n_workers=-1)["workers"]
    return [address for address, info in workers.items() if info["nanny"]]


def test_workers_that_join_during_a_sync_get_it_too(run_cluster: Run, target: Environment) -> None:
    """Workers that start while a sync is under way have the target when it returns, or before they register."""
    with run_cluster(workers=1) as cluster, cluster.client(workers=1) as client:
        cluster.add_worker(name="meanwhile")
        pkgsync.sync(client, target, progress=False)
        client.wait_for_workers(2, timeout=60)
        assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}


@pytest.mark.slow
def test_adaptive_workers_start_in_the_target(run_cluster: Run, target: Environment) -> None:
    """Workers that scale up under load have the environment before they get their first task."""
    with run_cluster(workers=1) as cluster, cluster.client(workers=1) as client:
        pkgsync.sync(client, target, progress=False)
        futures = client.map(seen_here, range(1_000), pure=False)
        for number in range(3):
            cluster.add_worker(name=f"scaled{number}")
        client.wait_for_workers(4, timeout=90)
        more = client.map(seen_here, range(1_000), pure=False)
        results = client.gather([*futures, *more])
        assert {result[:2] for result in results} == {(LIGHT["six"], LIGHT["six"])}
        assert len({result[2] for result in results}) == 4


def test_a_nanny_that_restarts_its_worker_starts_it_in_the_target(run_cluster: Run, target: Environment) -> None:
    """A worker killed after it had taken the environment live comes back in it."""
    with run_cluster(workers=1) as cluster, cluster.client(workers=1) as client:
        report = pkgsync.sync(client, target, progress=False)
        assert [node.outcome for node in report.nodes if node.role == "nanny"] == ["live"]
        (before,) = on_workers(client, os.getpid).values()
        assert kill_workers(cluster.processes["worker1"].pid) == 1
        cluster.wait_for(lambda: client.submit(os.getpid, pure=False).result(60) != before, "the new worker")
        assert client.submit(imported_version, "six", pure=False).result() == LIGHT["six"]


def test_a_worker_that_is_not_verified_is_not_let_in(run_cluster: Run, target: Environment) -> None:
    """A nannied worker that does not show that it was verified is refused, however it came to that."""
    with run_cluster(workers=1) as cluster, cluster.client(workers=1) as client:
        pkgsync.sync(client, target, progress=False)

        def forget_nanny_plugin(dask_scheduler: Any) -> None:
            dask_scheduler.nanny_plugins.clear()

        client.run_on_scheduler(forget_nanny_plugin)
        process = cluster.add_worker(name="unverified")
        cluster.wait_for(lambda: process.poll() is not None, "the unverified worker to end")
        assert "has not been verified" in cluster.log("unverified")
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1


ADAPTIVE = """
import sys
from distributed import LocalCluster
if __name__ == "__main__":
    with LocalCluster(
        n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, local_directory=sys.argv[2]
    ) as cluster:
        cluster.adapt(minimum=1, maximum=3, interval="100ms", wait_count=2)
        with open(sys.argv[1], "w") as file:
            file.write(cluster.scheduler_address)
        sys.stdin.read()
"""


@pytest.mark.slow
def test_an_adaptive_cluster_scales_in_the_target(
    venvs: Venvs, shared_cache: Path, tmp_path: Path, target: Environment
) -> None:
    """Where Dask itself scales the workers up and down under load, no task sees the base."""
    script, note, log = tmp_path / "adaptive.py", tmp_path / "address", tmp_path / "log"
    script.write_text(ADAPTIVE)
    env = surroundings(DASK_PKGSYNC__CACHE_DIRECTORY=str(shared_cache))
    argv = [venvs.base().python, str(script), str(note), str(tmp_path)]
    with (
        log.open("wb") as out,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=out, stderr=out, env=env) as process,
    ):
        try:
            deadline = time.monotonic() + 60
            while not (note.exists() and note.read_text()):
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VersionMismatchWarning)
                client = Client(note.read_text(), set_as_default=False)
            with client:
                client.wait_for_workers(1, timeout=60)
                report = pkgsync.sync(client, target, progress=False)
                assert {node.outcome for node in report.nodes} == {"live"}
                pids: set[int] = set()
                for _ in range(2):  # up, down, and up again
                    results = client.gather(client.map(seen_here, range(3_000), pure=False))
                    assert {result[:2] for result in results} == {(LIGHT["six"], LIGHT["six"])}
                    pids |= {result[2] for result in results}
                    while len(client.scheduler_info(n_workers=-1)["workers"]) > 1:
                        assert time.monotonic() < deadline + 120, log.read_text()
                        time.sleep(0.1)
                assert len(pids) > 1
        except BaseException:
            sys.stderr.write(log.read_text()[-8000:])
            raise
        finally:
            process.communicate(timeout=60)
