"""One line makes a real cluster run the client's environment."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import pytest
from clusters import (
    LIGHT,
    TARGET_PACKAGES,
    environment_with,
    imported_version,
    on_workers,
    pid_here,
    versions_here,
)

import dask_pkgsync as pkgsync

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from clusters import Cluster, Venvs

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

pytestmark = pytest.mark.cluster


@pytest.mark.smoke
def test_one_line_brings_every_kind_of_package(run_cluster: Run, base_environment: Environment, venvs: Venvs) -> None:
    """After register_plugin every worker has, seen from inside tasks, the client's version of everything."""
    wanted = environment_with(base_environment, TARGET_PACKAGES)
    base_before = venvs.base().listing()
    with run_cluster(workers=2) as cluster, cluster.client(workers=2) as client:
        with pytest.warns(pkgsync.DiscrepancyWarning, match=r"numpy \(on 1 node\)"):  # the scheduler keeps its own
            client.register_plugin(pkgsync.PackageSync(wanted))
        expected = {name: distribution.version for name, distribution in wanted.distributions.items()}
        for found in on_workers(client, versions_here, list(expected)).values():
            assert found == expected
        assert set(on_workers(client, imported_version, "numpy").values()) == {"2.2.6"}
        assert set(on_workers(client, imported_version, "six").values()) == {"1.17.0"}
        assert set(on_workers(client, run_script, "tabulate").values()) == {"-  -\na  b\n-  -"}
        assert set(on_workers(client, both_halves).values()) == {("jaraco.classes.properties", "jaraco.context")}
    assert venvs.base().listing() == base_before


def run_script(name: str) -> str:
    """Run a console script as tasks do: by its name."""
    import subprocess

    return subprocess.run([name], input="a b", capture_output=True, text=True, check=True).stdout.strip()


def both_halves() -> tuple[str, str]:
    """Import from both distributions of a namespace package."""
    import jaraco.classes.properties
    import jaraco.context

    return jaraco.classes.properties.__name__, jaraco.context.__name__


def test_a_worker_that_has_imported_nothing_of_it_keeps_its_process(run_cluster: Run, target: Environment) -> None:
    """Nobody is restarted for packages that no worker has imported yet."""
    with run_cluster(workers=2) as cluster, cluster.client(workers=2) as client:
        before = on_workers(client, pid_here)
        report = pkgsync.sync(client, target, progress=False)
        assert [node.outcome for node in report.nodes] == ["live", "live", "live"]
        assert on_workers(client, pid_here) == before
        assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}


@pytest.mark.smoke
def test_a_worker_that_has_imported_it_restarts_once(run_cluster: Run, target: Environment, tmp_path: Path) -> None:
    """Only the workers that have imported a changing package are restarted, and exactly once."""
    preload, starts = tmp_path / "note_starts.py", tmp_path / "starts"
    preload.write_text(f"def dask_setup(worker):\n    print(worker.id, file=open({str(starts)!r}, 'a'), flush=True)\n")
    with run_cluster("--preload", str(preload), workers=2) as cluster, cluster.client(workers=2) as client:
        one = min(client.scheduler_info(n_workers=-1)["workers"])
        assert client.submit(imported_version, "six", workers=[one]).result() == "1.15.0"
        before = on_workers(client, pid_here)
        report = pkgsync.sync(client, target, progress=False)
        assert sorted(node.outcome for node in report.nodes) == ["live", "live", "restarted"]
        client.wait_for_workers(2, timeout=60)
        after = on_workers(client, pid_here)
        assert len(set(after.values()) & set(before.values())) == 1
        assert set(on_workers(client, imported_version, "six").values()) == {LIGHT["six"]}
        assert len(starts.read_text().splitlines()) == 3


def test_a_cluster_that_matches_is_left_as_it_is(run_cluster: Run, base_environment: Environment) -> None:
    """Where everything is there already nobody restarts, nothing is installed, and no layer is made."""
    with run_cluster(workers=2) as cluster, cluster.client(workers=2) as client:
        before = on_workers(client, pid_here)
        layers = list((cluster.cache / "layers").glob("*"))
        report = pkgsync.sync(client, base_environment, progress=False)
        assert {node.outcome for node in report.nodes} == {"matched"}
        assert not report.changed
        assert on_workers(client, pid_here) == before
        assert list((cluster.cache / "layers").glob("*")) == layers


def test_the_second_sync_of_the_same_target_moves_nothing(run_cluster: Run, target: Environment) -> None:
    """An unchanged environment restarts nobody and asks no node anything."""
    with run_cluster(workers=2) as cluster, cluster.client(workers=2) as client:
        pkgsync.sync(client, target, progress=False)
        before = on_workers(client, pid_here)
        events = len(client.get_events("pkgsync"))
        report = pkgsync.sync(client, target, progress=False)
        assert {node.outcome for node in report.nodes} == {"matched"}
        assert on_workers(client, pid_here) == before
        assert len(client.get_events("pkgsync")) == events


def test_a_graph_with_an_object_of_a_synced_package_unpickles_on_the_scheduler(
    run_cluster: Run, target: Environment
) -> None:
    """The scheduler can unpickle what only the synced environment can import."""
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        pkgsync.sync(client, target, progress=False)
        name, where = client.run_on_scheduler(unpickle_by_name, "tabulate", "DataRow")
        assert name == "DataRow"
        assert "/layers/" in where
        assert client.submit(unpickle_by_name, "tabulate", "DataRow").result()[0] == "DataRow"


def unpickle_by_name(module: str, name: str) -> tuple[str, str]:
    """Unpickle a class that is pickled by reference."""
    import sys

    found: Any = pickle.loads(b"c" + module.encode() + b"\n" + name.encode() + b"\n.")
    return found.__name__, str(sys.modules[module].__file__)


def test_workers_of_one_host_share_one_build(run_cluster: Run, target: Environment, tmp_path: Any) -> None:
    """Four workers on one host build one layer between them; a host with a cache of its own builds its own."""
    one, two = tmp_path / "one", tmp_path / "two"
    with run_cluster("--nthreads", "1", workers=2, cache=one) as cluster:
        cluster.add_worker("--nworkers", "2", name="same-host")
        cluster.add_worker(name="other-host", DASK_PKGSYNC__CACHE_DIRECTORY=str(two))
        with cluster.client(workers=5) as client:
            report = pkgsync.sync(client, target, progress=False)
            assert [len(list((cache / "layers").iterdir())) for cache in (one, two)] == [1, 1]
            assert sum(node.fetched > 0 for node in report.nodes) == 2
            assert not list((one / "building").iterdir())


def test_release_brings_the_base_back(run_cluster: Run, target: Environment) -> None:
    """After a release the workers have their base again, and the gate is open."""
    with run_cluster(workers=2) as cluster, cluster.client(workers=2) as client:
        pkgsync.sync(client, target, progress=False)
        assert pkgsync.status(client).matches
        pkgsync.release(client)
        client.wait_for_workers(2, timeout=60)
        assert set(on_workers(client, imported_version, "six").values()) == {"1.15.0"}
        assert not pkgsync.status(client).target


def test_another_target_takes_the_place_of_the_first(run_cluster: Run, base_environment: Environment) -> None:
    """A second target replaces the first, also where the first was taken live."""
    with run_cluster(workers=1) as cluster, cluster.client(workers=1) as client:
        pkgsync.sync(client, environment_with(base_environment, {"six": "1.16.0"}), progress=False)
        assert next(iter(on_workers(client, versions_here, ["six"]).values())) == {"six": "1.16.0"}
        pkgsync.sync(client, environment_with(base_environment, {"six": "1.17.0"}), progress=False)
        assert next(iter(on_workers(client, versions_here, ["six"]).values())) == {"six": "1.17.0"}
        pkgsync.sync(client, environment_with(base_environment, {"tabulate": "0.9.0"}), progress=False)
        found = next(iter(on_workers(client, versions_here, ["six", "tabulate"]).values()))
        assert found == {"six": "1.15.0", "tabulate": "0.9.0"}


def test_strict_leaves_nothing_else_importable(run_cluster: Run, base_environment: Environment) -> None:
    """Under strict a package that only the base has cannot be imported on the workers."""
    wanted = environment_with(base_environment, {"inflection": None, "six": "1.17.0"})
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        report = pkgsync.sync(client, wanted, strict=True, progress=False)
        assert any("inflection 0.5.1" in node.hidden for node in report.nodes)
        client.wait_for_workers(1, timeout=60)
        found = next(iter(on_workers(client, versions_here, ["inflection", "six"]).values()))
        assert found == {"inflection": None, "six": "1.17.0"}
        assert client.run_on_scheduler(versions_here, ["six"]) == {"six": "1.17.0"}


def test_extra_packages_are_resolved_and_installed(run_cluster: Run, base_environment: Environment) -> None:
    """What extra names is installed with all that it needs, though the client lacks it."""
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        pkgsync.sync(client, base_environment, extra=["jaraco.classes==3.4.*"], progress=False)
        found = next(iter(on_workers(client, versions_here, ["jaraco.classes", "more-itertools"]).values()))
        assert found["jaraco.classes"] == "3.4.0"
        assert found["more-itertools"] is not None


def test_ignore_and_only_leave_packages_alone(run_cluster: Run, base_environment: Environment) -> None:
    """Ignored packages, in any spelling, stay as they are; with only, so does everything else."""
    wanted = environment_with(base_environment, {**LIGHT})
    with run_cluster() as cluster, cluster.client(workers=1) as client:
        pkgsync.sync(client, wanted, ignore=["Six", "JARACO_classes"], progress=False)
        found = next(iter(on_workers(client, versions_here, ["six", "jaraco.classes", "tabulate"]).values()))
        assert found == {"six": "1.15.0", "jaraco.classes": None, "tabulate": "0.9.0"}
        pkgsync.sync(client, wanted, only=["six"], progress=False)
        found = next(iter(on_workers(client, versions_here, ["six", "tabulate"]).values()))
        assert found == {"six": "1.17.0", "tabulate": None}
