"""Looking at running clusters, stock ones included, without changing anything."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from clusters import OLDEST, OLDEST_PINS, imported_version, on_workers, other_python
from distributed import Client, LocalCluster

import dask_pkgsync as pkgsync
from dask_pkgsync.cli.group import pkgsync as command

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from clusters import Cluster, Venvs

    from dask_pkgsync import Environment

    Run = Callable[..., AbstractContextManager[Cluster]]

pytestmark = pytest.mark.cluster


def state_of(client: Client) -> dict[str, Any]:
    """Return what of a cluster a look could change: plugins, extensions, handlers, clients, and modules of ours."""

    def here(dask_scheduler: Any) -> dict[str, Any]:
        import sys

        return {
            "plugins": sorted(dask_scheduler.plugins),
            "extensions": sorted(dask_scheduler.extensions),
            "handlers": sorted(dask_scheduler.handlers),
            "clients": sorted(dask_scheduler.clients),
            "nannies": sorted(dask_scheduler.nanny_plugins),
            "metadata": sorted(map(str, dask_scheduler.task_metadata)),
            "modules": sorted(name for name in sys.modules if "pkgsync" in name),
            "path": list(sys.path),
        }

    return client.run_on_scheduler(here)


@pytest.mark.filterwarnings("ignore::distributed.versions.VersionMismatchWarning")
def test_a_stock_cluster_is_compared_and_stays_as_it_was(run_cluster: Run, target: Environment) -> None:
    """Every node is compared with an environment, by a client, an address and a file, and nothing stays of it."""
    with run_cluster(workers=2) as cluster, cluster.client(workers=2) as client:
        before = state_of(client), cluster.warnings_of_us("scheduler")
        for name in (client, cluster.address, cluster.scheduler_file):
            comparison = pkgsync.compare(name, target)
            assert [group.label for group in comparison.groups] == ["scheduler, 2 workers"]
            assert {row.name: (row.here, *row.found) for row in comparison} == {
                "six": ("1.17.0", "1.15.0"),
                "inflection": ("0.5.0", "0.5.1"),
                "jaraco-classes": ("3.4.0", "not there"),
                "tabulate": ("0.9.0", "not there"),
            }
            assert sorted({node.role for node in comparison.nodes}) == ["nanny", "scheduler", "worker"]
        on_workers(client, imported_version, "six")
        planned = pkgsync.sync(client, target, dry_run=True)
        assert {one.name: one.action for one in planned.nodes[0].changes} == {
            "six": "replace",
            "inflection": "replace",
            "jaraco-classes": "install",
            "tabulate": "install",
        }
        assert planned.nodes[0].effects[0] == "restarted: 2 workers, which have imported six"
        status = pkgsync.status(client)
        assert {node.state for node in status.nodes} == {"base"}
        assert status.comparison
        assert (state_of(client), cluster.warnings_of_us("scheduler")) == before
        found = pkgsync.sync(cluster.scheduler_file, target, progress=False)  # with a client of its own, now closed
        assert {node.outcome for node in found.nodes} <= {"restarted", "live", "matched"}
        assert pkgsync.status(cluster.address).matches
        assert not [row for row in pkgsync.compare(cluster.address, target) if row.name in ("six", "tabulate")]
        assert pkgsync.release(cluster.scheduler_file).nodes


def test_a_cluster_of_another_python_and_dask_is_compared(run_cluster: Run, venvs: Venvs) -> None:
    """A cluster that would refuse this client, or not understand it, is compared all the same; the command exits 1."""
    venv = venvs.make(*OLDEST_PINS, "six==1.15.0", python=other_python())
    with run_cluster(venv=venv, nanny=False, env={"DASK_DISTRIBUTED__WORKER__BLOCKED_HANDLERS": '["run"]'}) as cluster:
        cluster.wait_for(lambda: "Register worker" in cluster.log("scheduler"), "a worker")
        comparison = pkgsync.compare(cluster.address, pkgsync.scan(modules=False))
        critical = {row.name: row.found for row in comparison.critical}
        assert set(critical["distributed"]) == {OLDEST["distributed"]}
        assert "python" in critical
        problems = {node.role: node.problem for node in comparison.nodes}
        assert problems["scheduler"] == ""
        assert "only Python and the packages that Dask needs could be compared" in problems["worker"]
        done = CliRunner().invoke(command, ["compare", cluster.address, "--json"])
        assert done.exit_code == 1
        assert json.loads(done.stdout)["differences"][0]["level"] == "critical"
        dry = CliRunner().invoke(command, ["sync", cluster.address, "--dry-run", "--no-modules"])
        assert (dry.exit_code, "A sync would fail:" in dry.stdout) == (1, True)


def test_ones_own_local_cluster_does_not_differ() -> None:
    """The cluster object of a `LocalCluster` is enough, and its nodes are alike this environment."""
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0", processes=False) as cluster:
        comparison = pkgsync.compare(cluster)
        assert not comparison, str(comparison)
        assert not pkgsync.sync(cluster, dry_run=True)
