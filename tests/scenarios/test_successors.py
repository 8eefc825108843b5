"""A worker that must be restarted works until the next one is verified, and then the two change places."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from clusters import environment_with, imported_version, on_workers, pid_here

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clusters import Cluster
    from distributed import Client

    from dask_pkgsync import Environment

pytestmark = pytest.mark.cluster


def until_told(directory: str) -> int:
    """Return the id of this process once somebody has said that it may end."""
    while not (Path(directory) / "may end").exists():
        time.sleep(0.05)
    return os.getpid()


def other_six(base: Environment) -> Environment:
    """Return an environment for which workers that have imported six are restarted."""
    return environment_with(base, {"six": "1.17.0"})


def workers_over_time(client: Client) -> Iterator[int]:
    """Yield how many workers were registered, after each change."""
    present: set[str] = set()
    for _, event in client.get_events("all"):
        if event.get("action") == "add-worker":
            present.add(event["worker"])
        elif event.get("action") == "remove-worker":
            present.discard(event["worker"])
        else:
            continue
        yield len(present)


def has_six(client: Client) -> set[str]:
    """Return the versions of six that tasks find."""
    return set(on_workers(client, imported_version, "six").values())


def test_there_is_a_worker_at_any_time(run_cluster: Any, base_environment: Environment) -> None:
    """The successor of a worker without a name registers before that one leaves; both have the nanny's address."""
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        assert has_six(client) == {"1.15.0"}
        report = pkgsync.sync(client, other_six(base_environment), progress=False)
        assert [node.outcome for node in report.nodes[1:]] == ["restarted"]
        assert list(workers_over_time(client)) == [1, 2, 1]
        assert has_six(client) == {"1.17.0"}
        (pid,) = on_workers(client, pid_here).values()
        os.kill(pid, signal.SIGKILL)
        cluster.wait_for(lambda: list(workers_over_time(client)) == [1, 2, 1, 0, 1], "the next worker")
        assert has_six(client) == {"1.17.0"}, "the nanny restarts the successor in the same environment"


def test_a_worker_with_a_name_hands_it_on(run_cluster: Any, base_environment: Environment) -> None:
    """A successor with the name of its worker is verified beside it, and registers when that one has left."""
    with run_cluster("--name", "one", workers=1) as cluster, cluster.client(1) as client:
        assert has_six(client) == {"1.15.0"}
        pkgsync.sync(client, other_six(base_environment), progress=False)
        assert list(workers_over_time(client)) == [1, 0, 1]
        assert has_six(client) == {"1.17.0"}
        (entry,) = client.scheduler_info(n_workers=-1)["workers"].values()
        assert entry["id"] == "one"


def test_workers_with_resources_are_restarted_one_after_the_other(
    run_cluster: Any, base_environment: Environment
) -> None:
    """Where two workers cannot run at once, the first ends before the next one starts."""
    with run_cluster("--resources", "GPU=1", workers=1) as cluster, cluster.client(1) as client:
        assert has_six(client) == {"1.15.0"}
        pkgsync.sync(client, other_six(base_environment), progress=False)
        assert list(workers_over_time(client)) == [1, 0, 1]
        assert has_six(client) == {"1.17.0"}
        assert "its workers have been given: resources" in cluster.log("worker1")


class Syncing(threading.Thread):
    """Syncs in the background, while a task keeps the worker's successor waiting."""

    def __init__(self, client: Client, environment: Environment) -> None:
        super().__init__()
        self.client, self.environment = client, environment
        self.outcomes: list[str] = []
        self.error: Exception | None = None

    def run(self) -> None:
        """Sync."""
        try:
            report = pkgsync.sync(self.client, self.environment, progress=False)
            self.outcomes = [node.outcome for node in report.nodes[1:]]
        except Exception as error:  # noqa: BLE001  # the test looks at it
            self.error = error


def children_of(cluster: Cluster) -> list[int]:
    """Return the worker processes of the nanny."""
    found = []
    for child in psutil.Process(cluster.processes["worker1"].pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it is ending
            found += [child.pid] if any("spawn_main" in part for part in child.cmdline()) else []
    return found


@pytest.fixture
def waiting(
    run_cluster: Any, base_environment: Environment, tmp_path: Path
) -> Iterator[tuple[Cluster, Client, Syncing, int, int, Callable[[], None]]]:
    """Run a sync up to where a successor waits for its worker to be drained; yield the process ids of the two."""
    with run_cluster(workers=1) as cluster, cluster.client(1) as client:
        assert has_six(client) == {"1.15.0"}
        (present,) = on_workers(client, pid_here).values()
        task = client.submit(until_told, str(tmp_path), pure=False)
        cluster.wait_for(lambda: any(client.processing().values()), "the task")
        sync = Syncing(client, other_six(base_environment))
        sync.start()
        cluster.wait_for(lambda: _drains(client), "the drain")
        (following,) = set(children_of(cluster)) - {present}

        def end() -> None:
            (tmp_path / "may end").touch()
            task.release()
            sync.join(100)
            assert not sync.is_alive()

        yield cluster, client, sync, present, following, end
        end()


def _drains(client: Client) -> bool:
    events = [event for _, event in client.get_events("pkgsync")]
    return any((event.get("step"), event.get("state")) == ("drain", "started") for event in events)


def test_a_successor_waits_for_the_tasks_of_its_worker(waiting: Any) -> None:
    """Until the last task of a worker has ended, its successor is not registered; then it takes the place."""
    _, client, sync, present, following, end = waiting
    assert list(workers_over_time(client)) == [1]
    end()
    assert (sync.error, sync.outcomes) == (None, ["restarted"])
    assert list(on_workers(client, pid_here).values()) == [following] != [present]
    assert list(workers_over_time(client)) == [1, 2, 1]
    assert has_six(client) == {"1.17.0"}


def test_a_successor_that_is_killed_is_done_without(waiting: Any) -> None:
    """Where the successor is killed while it waits, the worker is restarted when it is free."""
    cluster, client, sync, present, following, end = waiting
    os.kill(following, signal.SIGKILL)
    cluster.wait_for(lambda: children_of(cluster) == [present], "the end of the successor")
    end()
    assert (sync.error, sync.outcomes) == (None, ["restarted"])
    assert has_six(client) == {"1.17.0"}


def test_a_worker_that_is_killed_meanwhile_comes_back_verified(waiting: Any) -> None:
    """Where the present worker is killed, its nanny starts it in the target, and the successor ends."""
    cluster, client, sync, present, _, end = waiting
    os.kill(present, signal.SIGKILL)
    end()
    assert (sync.error, sync.outcomes) == (None, ["restarted"])
    cluster.wait_for(lambda: len(children_of(cluster)) == 1, "the end of the other")
    client.wait_for_workers(1, timeout=60)
    assert has_six(client) == {"1.17.0"}


@pytest.mark.slow
def test_a_nanny_that_is_killed_takes_both_along(waiting: Any) -> None:
    """No process outlives its nanny, and the person is told that the node was lost."""
    cluster, _, sync, present, following, end = waiting
    processes = [psutil.Process(pid) for pid in (present, following)]
    os.kill(cluster.processes["worker1"].pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=60)
    assert not alive
    end()
    assert isinstance(sync.error, pkgsync.SyncError)
