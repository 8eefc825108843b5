"""Every way in which Dask clusters are put together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from clusters import LIGHT, environment_with, imported_version, on_workers, pid_here, versions_here
from distributed import Client, LocalCluster
from distributed.security import Security

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from clusters import Cluster, Venvs

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

pytestmark = pytest.mark.cluster


def test_workers_without_a_nanny_take_it_live(run_cluster: Run, target: Environment) -> None:
    """A worker without a nanny gets the environment in its running process, and so does one that joins later."""
    with run_cluster(nanny=False) as cluster, cluster.client(workers=1) as client:
        before = on_workers(client, pid_here)
        report = pkgsync.sync(client, target, progress=False)
        assert [node.outcome for node in report.nodes if node.role == "worker"] == ["live"]
        assert on_workers(client, pid_here) == before
        cluster.add_worker(name="late", nanny=False)
        client.wait_for_workers(2, timeout=60)
        assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}
        assert pkgsync.status(client).matches


def test_a_worker_without_a_nanny_that_cannot_take_it_is_refused(run_cluster: Run, target: Environment) -> None:
    """Where something that changes was imported already and nobody can restart it, the worker leaves."""
    with run_cluster(nanny=False) as cluster:
        cluster.add_worker(name="other", nanny=False)
        with cluster.client(workers=2) as client:
            one = min(client.scheduler_info(n_workers=-1)["workers"])
            client.submit(imported_version, "six", workers=[one]).result()
            with pytest.raises(pkgsync.SyncError, match="without a nanny") as caught:
                pkgsync.sync(client, target, progress=False)
            assert list(caught.value.failures) == [one]
            assert caught.value.adopted
            assert one not in client.scheduler_info(n_workers=-1)["workers"]
            assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}


def test_a_node_without_uv_fetches_it_once_into_our_cache(
    run_cluster: Run, target: Environment, tmp_path: Path
) -> None:
    """Nodes that have no uv get one into our own cache, with the pip that ensurepip carries."""
    path = os.pathsep.join(entry for entry in os.environ["PATH"].split(os.pathsep) if not has_uv(entry))
    with (
        run_cluster(workers=2, cache=tmp_path / "own", env={"PATH": path}) as cluster,
        cluster.client(workers=2) as client,
    ):
        pkgsync.sync(client, target, progress=False)
        assert len(list((tmp_path / "own" / "tools").glob("*/uv/bin/uv"))) == 1
        assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}


def has_uv(directory: str) -> bool:
    """Whether a directory of PATH holds uv."""
    return (Path(directory) / "uv").exists()


def test_everything_goes_over_tls(run_cluster: Run, target: Environment, certificates: dict[str, str]) -> None:
    """With TLS between all of them a sync is the same."""
    cert, key = certificates["cert"], certificates["key"]
    security = Security(tls_ca_file=cert, tls_client_cert=cert, tls_client_key=key, require_encryption=True)
    options = ("--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key)
    with run_cluster(options=options, security=security) as cluster, cluster.client(workers=1) as client:
        assert cluster.address.startswith("tls://")
        pkgsync.sync(client, target, progress=False)
        assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}


@pytest.mark.parametrize("processes", [True, False])
def test_a_local_cluster_is_left_alone(target: Environment, processes: bool, tmp_path: Path) -> None:
    """In the person's own process, and where it starts the workers, nothing is installed, changed or restarted."""
    import multiprocessing.spawn
    import sys

    def look() -> tuple[object, ...]:
        path = [entry for entry in sys.path if "dask-scratch-space" not in entry]  # Dask's own, for uploads
        return path, sys.executable, multiprocessing.spawn.get_preparation_data, os.environ["PATH"]

    before = look()
    with (
        LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=processes,
            dashboard_address=":0",
            local_directory=str(tmp_path),
        ) as cluster,
        Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        report = pkgsync.sync(client, progress=False)
        assert {node.outcome for node in report.nodes} == {"left alone"}
        client.register_plugin(pkgsync.PackageSync())
        assert client.run(os.getpid) == pids
        assert client.submit(sum, [1, 2]).result() == 3
        cluster.scale(2)
        client.wait_for_workers(2, timeout=60)
        pkgsync.release(client)
        assert look() == before
    assert look() == before


def test_forkserver_workers_start_in_the_layer(run_cluster: Run, base_environment: Environment) -> None:
    """A nanny that is configured to fork its workers starts them in the layer all the same."""
    wanted = environment_with(base_environment, {"six": "1.17.0"})
    env = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}
    with run_cluster(workers=2, env=env) as cluster, cluster.client(workers=2) as client:
        assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}
        report = pkgsync.sync(client, wanted, progress=False)
        assert sorted(node.outcome for node in report.nodes if node.role == "nanny") == ["restarted", "restarted"]
        client.wait_for_workers(2, timeout=60)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}


def test_packages_of_the_scheduler_that_are_imported_already_are_reported(
    run_cluster: Run, base_environment: Environment, tmp_path: Path
) -> None:
    """What the scheduler runs already is skipped with the reason, or refused if so chosen; the layer is shared."""
    wanted = environment_with(base_environment, {"toolz": "0.12.1", "six": "1.17.0"})
    with run_cluster(cache=tmp_path / "own") as cluster, cluster.client(workers=1) as client:
        with pytest.raises(pkgsync.SyncError, match=r"toolz 0\.12\.1"):
            pkgsync.sync(client, wanted, scheduler="refuse", progress=False)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}
        report = pkgsync.sync(client, wanted, scheduler="warn", progress=False)
        (scheduler,) = (node for node in report.nodes if node.role == "scheduler")
        assert any("toolz" in line and "imported" in line for line in scheduler.skipped)
        assert len(list((cluster.cache / "layers").iterdir())) == 1
        client.wait_for_workers(1, timeout=60)
        found = next(iter(on_workers(client, versions_here, ["toolz", "six"]).values()))
        assert found == {"toolz": "0.12.1", "six": "1.17.0"}


def test_a_dask_newer_than_ours_in_the_base_is_refused_by_the_node(
    run_cluster: Run, venvs: Venvs, base_environment: Environment
) -> None:
    """A worker that was there before the gate and differs in a critical package leaves the cluster, with the table."""
    from clusters import CRITICAL_PINS

    odd = venvs.make(*[pin for pin in CRITICAL_PINS if not pin.startswith("cloudpickle")], "cloudpickle==3.0.0")
    with run_cluster() as cluster:
        cluster.add_worker(name="odd", venv=odd)
        with cluster.client(workers=2) as client:
            with pytest.raises(pkgsync.SyncError, match="cloudpickle") as caught:
                pkgsync.sync(client, base_environment, progress=False)
            assert len(caught.value.failures) == 1
            assert len(client.scheduler_info(n_workers=-1)["workers"]) == 1


def test_a_local_cluster_is_left_alone_whatever_is_asked(base_environment: Environment, tmp_path: Path) -> None:
    """In the person's own environment nothing is installed, also if the target asks for something else."""
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0", local_directory=str(tmp_path)
        ) as cluster,
        Client(cluster) as client,
    ):
        report = pkgsync.sync(client, environment_with(pkgsync.scan(), {"six": "1.15.0"}), progress=False)
        assert {node.outcome for node in report.nodes} == {"left alone"}
        pids = client.run(os.getpid)
        client.restart()
        assert client.run(os.getpid) != pids
        assert client.submit(sum, [1, 2]).result() == 3
