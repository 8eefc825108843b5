"""A failure leaves nothing half done, and is told to the person: which package, which node, what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from clusters import environment_with, imported_version, on_workers, pid_here, versions_here
from package_index import Index, serving

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from clusters import Cluster, Venvs

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

pytestmark = pytest.mark.cluster


@pytest.fixture
def index() -> Iterator[Index]:
    """Serve an index that has one small package."""
    found = Index()
    found.add("pkgsync-sample", "1.0")
    found.add("pkgsync-sample", "1.1")
    with serving(found):
        yield found


@pytest.fixture
def sample(base_environment: Environment) -> Environment:
    """Return a target with the package that only our index has."""
    return environment_with(base_environment, {"pkgsync-sample": "1.0"})


def nothing_half_done(cluster: Cluster) -> bool:
    """Whether the cache holds finished layers only."""
    finished = all((layer / "pkgsync-layer.json").exists() for layer in (cluster.cache / "layers").iterdir())
    return finished and not list((cluster.cache / "building").iterdir())


def failed_everywhere(error: pkgsync.SyncError, nodes: int) -> bool:
    """Whether every node failed, and nothing was changed."""
    return len(error.failures) == nodes and not error.adopted


def test_no_such_version_is_told_and_the_next_sync_works(
    run_cluster: Run, base_environment: Environment, venvs: Venvs
) -> None:
    """A version that does not exist names the package, node and the installer's words; the cluster is as it was."""
    before = venvs.base().listing()
    with run_cluster(workers=2) as cluster, cluster.client(workers=2) as client:
        pids = on_workers(client, pid_here)
        wrong = environment_with(base_environment, {"six": "999.1"})
        with pytest.raises(pkgsync.SyncError) as caught:
            pkgsync.sync(client, wrong, progress=False)
        assert failed_everywhere(caught.value, 3)
        text = str(caught.value)
        assert "six==999.1" in text
        assert "the installer's last words" in text
        assert "the index has no such version for this platform; and the client cannot give it" in text
        assert "scan" not in text  # nothing has changed since
        assert all(node in text for node in caught.value.failures)
        assert nothing_half_done(cluster)
        assert on_workers(client, pid_here) == pids
        pkgsync.sync(client, environment_with(base_environment, {"six": "1.17.0"}), progress=False)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}
    assert venvs.base().listing() == before


@pytest.mark.slow
def test_an_unreachable_index_is_told_and_the_next_sync_works(
    run_cluster: Run, sample: Environment, tmp_path: Path
) -> None:
    """Where the index cannot be reached the person reads that, and the next sync works once it can."""
    found = Index()
    found.add("pkgsync-sample", "1.0")
    with serving(found):
        url = found.url
    env = {"UV_DEFAULT_INDEX": url, "UV_HTTP_RETRIES": "0"}
    with run_cluster(cache=tmp_path / "own", env=env) as cluster, cluster.client(workers=1) as client:
        with pytest.raises(pkgsync.SyncError, match="could not be reached") as caught:
            pkgsync.sync(client, sample, progress=False)
        assert failed_everywhere(caught.value, 2)
        assert nothing_half_done(cluster)


def test_a_file_with_another_hash_is_not_installed(
    run_cluster: Run, sample: Environment, index: Index, tmp_path: Path
) -> None:
    """A wheel that does not have the hash that the index says is refused; once the index is mended a sync works."""
    index.wrong_hashes = True
    env = {"UV_DEFAULT_INDEX": index.url}
    with run_cluster(cache=tmp_path / "own", env=env) as cluster, cluster.client(workers=1) as client:
        with pytest.raises(pkgsync.SyncError, match="does not have the hash that the index") as caught:
            pkgsync.sync(client, sample, progress=False)
        assert "pkgsync-sample==1.0" in str(caught.value)
        assert nothing_half_done(cluster)
        index.wrong_hashes = False
        shutil.rmtree(cluster.cache / "uv")  # uv remembers what the page of the index said
        pkgsync.sync(client, sample, progress=False)
        assert next(iter(on_workers(client, imported_version, "pkgsync_sample").values())) == "1.0"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 3 MB; skips where that is not allowed."""
    directory = tmp_path / "small"
    directory.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(directory)]
    if subprocess.run(argv, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small tmpfs needs root")
    yield directory
    subprocess.run(["umount", "-l", str(directory)], check=True)


def test_a_full_disk_is_told_and_only_that_node_leaves(
    run_cluster: Run, base_environment: Environment, small_disk: Path
) -> None:
    """A node whose cache is full leaves the cluster with that reason; the others have the target."""
    wanted = environment_with(base_environment, {"numpy": "2.2.6"})
    full = f"there is no space left in the cache directory|{os.strerror(errno.ENOSPC)}"
    with run_cluster(workers=1) as cluster:
        cluster.add_worker(name="full", DASK_PKGSYNC__CACHE_DIRECTORY=str(small_disk))
        with cluster.client(workers=2) as client:
            with pytest.raises(pkgsync.SyncError, match=full) as caught:
                pkgsync.sync(client, wanted, progress=False)
            assert len(caught.value.failures) == 1
            assert caught.value.adopted
            cluster.wait_for(lambda: cluster.processes["full"].poll() is not None, "the full node to leave")
            client.wait_for_workers(1, timeout=60)
            assert set(on_workers(client, imported_version, "numpy").values()) == {"2.2.6"}
            assert not list(small_disk.glob("building/layer-*"))
            assert not list(small_disk.glob("layers/*"))


def test_a_cache_that_cannot_be_written_is_told(run_cluster: Run, target: Environment, tmp_path: Path) -> None:
    """Where the configured cache cannot be written the person reads which one, and how to choose another."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file in the place of the directory")
    with run_cluster(workers=1, cache=blocked) as cluster, cluster.client(workers=1) as client:
        with pytest.raises(pkgsync.SyncError, match="DASK_PKGSYNC__CACHE_DIRECTORY") as caught:
            pkgsync.sync(client, target, progress=False)
        assert failed_everywhere(caught.value, 2)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}


def installers_below(*pids: int) -> list[psutil.Process]:
    """Return the uv processes below processes that install."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if "install" in child.cmdline() and child.name().startswith("uv"):
                        found.append(child)
    return found


def test_an_installer_killed_half_way_is_told_and_the_next_sync_works(
    run_cluster: Run, sample: Environment, index: Index, tmp_path: Path
) -> None:
    """SIGKILL to the installer fails that sync with the signal's name, and spoils no later one."""
    index.hanging.set()
    env = {"UV_DEFAULT_INDEX": index.url}
    with run_cluster(cache=tmp_path / "own", env=env) as cluster, cluster.client(workers=1) as client:
        pids = [process.pid for process in cluster.processes.values()]
        killed: list[int] = []
        done = threading.Event()

        def kill() -> None:
            while not done.is_set():
                for process in installers_below(*pids):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.send_signal(signal.SIGKILL)
                        killed.append(process.pid)
                done.wait(0.05)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            with pytest.raises(pkgsync.SyncError, match="SIGKILL"):
                pkgsync.sync(client, sample, progress=False)
        finally:
            done.set()
            killer.join()
        assert killed
        assert nothing_half_done(cluster)
        index.hanging.clear()
        pkgsync.sync(client, sample, progress=False)
        assert next(iter(on_workers(client, imported_version, "pkgsync_sample").values())) == "1.0"


def test_an_installer_that_hangs_is_ended_with_all_its_processes(
    run_cluster: Run, sample: Environment, index: Index, tmp_path: Path
) -> None:
    """Past its deadline the whole process group of the installer ends, and the person reads that it hung."""
    index.hanging.set()
    env = {"UV_DEFAULT_INDEX": index.url}
    with run_cluster(cache=tmp_path / "own", env=env) as cluster, cluster.client(workers=1) as client:
        pids = [process.pid for process in cluster.processes.values()]
        with pytest.raises(pkgsync.SyncError, match="did not end within 3 s"):
            pkgsync.sync(client, sample, install_timeout=3, progress=False)
        assert not installers_below(*pids)
        assert nothing_half_done(cluster)
        assert client.submit(sum, [1, 2]).result(timeout=60) == 3


@pytest.mark.slow
def test_a_long_install_evicts_nobody_and_blocks_nobody(
    run_cluster: Run, sample: Environment, index: Index, tmp_path: Path
) -> None:
    """An install longer than worker-ttl evicts no worker, nannied or not, and the scheduler goes on answering."""
    index.delay = 12
    env = {"UV_DEFAULT_INDEX": index.url, "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "5s"}
    with run_cluster(cache=tmp_path / "own", env=env) as cluster:
        cluster.add_worker(name="alone", nanny=False)
        with cluster.client(workers=2) as client, cluster.client() as other:
            before = on_workers(client, pid_here)
            answers: list[float] = []
            done = threading.Event()

            def ask() -> None:
                while not done.is_set():
                    asked = time.monotonic()
                    other.sync(other.scheduler.identity)
                    answers.append(time.monotonic() - asked)
                    done.wait(0.02)

            asking = threading.Thread(target=ask)
            asking.start()
            try:
                report = pkgsync.sync(client, sample, progress=False)
            finally:
                done.set()
                asking.join()
            assert report.seconds > 10
            assert len(answers) > 100
            assert sorted(answers)[int(len(answers) * 0.95)] < 0.1  # the promise itself; not of the very slowest
            assert on_workers(client, pid_here) == before
            # and a worker that joins while the cache is cold waits for its own install without being evicted
            late = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(tmp_path / "late")}
            cluster.add_worker(name="late", nanny=False, **late)
            cluster.wait_for(lambda: "late" in cluster.processes and joined(client, 3), "the late worker")
            assert set(on_workers(client, imported_version, "pkgsync_sample").values()) == {"1.0"}
            left = [event for _, event in client.get_events("all") if event["action"] == "remove-worker"]
            assert not left
            assert len([event for _, event in client.get_events("all") if event["action"] == "add-worker"]) == 3


def joined(client: object, count: int) -> bool:
    """Whether so many workers are in the cluster."""
    return len(client.scheduler_info(n_workers=-1)["workers"]) >= count  # type: ignore[attr-defined]


def test_a_late_worker_that_cannot_be_prepared_stays_out(run_cluster: Run, target: Environment, tmp_path: Path) -> None:
    """A worker that joins later and cannot have the target never registers, does not loop, and is told of."""
    blocked = tmp_path / "blocked"
    blocked.write_text("a file in the place of the directory")
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        pkgsync.sync(client, target, progress=False)
        for name, nanny in (("nannied", True), ("alone", False)):
            process = cluster.add_worker(name=name, nanny=nanny, DASK_PKGSYNC__CACHE_DIRECTORY=str(blocked))
            cluster.wait_for(lambda process=process: process.poll() is not None, f"the {name} worker to end")
        failed = [node for node in pkgsync.status(client).nodes if node.state == "failed"]
        assert len(failed) >= 2
        assert all("cannot be written" in node.detail or "not there" in node.detail for node in failed)
        found = on_workers(client, versions_here, ["six"])
        assert list(found.values()) == [{"six": "1.17.0"}]


def test_a_node_that_dies_during_a_sync_does_not_hold_up_the_others(
    run_cluster: Run, sample: Environment, index: Index, tmp_path: Path
) -> None:
    """A nanny killed while it prepares is a failure of that node; the others get the target."""
    index.may_send.clear()
    env = {"UV_DEFAULT_INDEX": index.url}
    with run_cluster(cache=tmp_path / "own", env=env) as cluster:
        doomed = cluster.add_worker(name="doomed", DASK_PKGSYNC__CACHE_DIRECTORY=str(tmp_path / "doomed"))

        def kill() -> None:
            try:
                cluster.wait_for(lambda: installers_below(doomed.pid), "the node to install")
                os.killpg(doomed.pid, signal.SIGKILL)
            finally:
                index.may_send.set()

        with cluster.client(workers=2) as client:
            killer = threading.Thread(target=kill)
            killer.start()
            try:
                with pytest.raises(pkgsync.SyncError) as caught:
                    pkgsync.sync(client, sample, progress=False)
            finally:
                killer.join()
            assert len(caught.value.failures) == 1
            assert caught.value.adopted
            assert set(on_workers(client, imported_version, "pkgsync_sample").values()) == {"1.0"}


def test_what_nobody_expected_fails_closed_too(run_cluster: Run, target: Environment) -> None:
    """A node on which our own code breaks (here: by its configuration) stays out, with or without a nanny."""
    broken = {"DASK_PKGSYNC__CACHE_AGE": "nonsense"}
    with run_cluster() as cluster:
        cluster.add_worker(name="before", **broken)
        with cluster.client(workers=2) as client:
            with pytest.raises(pkgsync.SyncError) as caught:
                pkgsync.sync(client, target, progress=False)
            assert len(caught.value.failures) == 1
            for name, nanny in (("nannied", True), ("alone", False)):
                process = cluster.add_worker(name=name, nanny=nanny, **broken)
                cluster.wait_for(lambda process=process: process.poll() is not None, f"the {name} worker to end")
            assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}
            assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1
