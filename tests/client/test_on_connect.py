"""A client that its configuration makes sync: `Client(...)` returns when the cluster matches, or raises."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from clusters import Person, running

if TYPE_CHECKING:
    from pathlib import Path

PRELOAD = json.dumps(["dask_pkgsync.preload"])
SYNCING = {"DASK_DISTRIBUTED__CLIENT__PRELOAD": PRELOAD}
VERSIONS = """
client.wait_for_workers(1)
print(json.dumps(everywhere(call, 'import six, mine; answer = [six.__version__, mine.VALUE]')))
"""

pytestmark = pytest.mark.cluster


@pytest.fixture
def person(tmp_path: Path) -> Person:
    """Return somebody with another six than the cluster, and a project of their own."""
    person = Person(tmp_path / "person")
    project = person.write(
        {
            "pyproject.toml": """
                [build-system]
                requires = ["hatchling"]
                build-backend = "hatchling.build"
                [project]
                name = "mine"
                version = "1.0"
                """,
            "mine.py": "VALUE = 'first'\n",
        },
        "mine",
    )
    person.install("six==1.17.0", "-e", str(project))
    return person


def test_connecting_is_enough(person: Person, run_cluster: Any) -> None:
    """Nothing but Dask is on the cluster; the script calls nothing of ours; packages and local code are there."""
    with run_cluster(workers=1) as cluster:
        with cluster.client(1) as client:  # what anybody can write there is believed by nobody
            client.set_metadata("pkgsync", {"mode": "warn", "target": "0"})
        assert person.run(cluster, VERSIONS, **SYNCING) == [["1.17.0", "first"]]
        person.write({"mine.py": "VALUE = 'second'\n"}, "mine")
        assert person.run(cluster, VERSIONS, **SYNCING) == [["1.17.0", "second"]]
        again = person.run(cluster, VERSIONS, check=False, **SYNCING)
        assert "pkgsync:" not in again.stderr  # nothing to do, nothing to show
        person.install("six==1.16.0")
        only = "print(json.dumps([pkgsync.status(client).target[:0]]))"
        assert person.run(cluster, only, DASK_PKGSYNC__ON_CONNECT="present", **SYNCING) == [""]
        assert person.run(cluster, VERSIONS) == [["1.17.0", "second"]]


def test_a_tasks_client_finds_the_preload_on_workers_that_were_synced(person: Person, run_cluster: Any) -> None:
    """Where workers read the configuration of clients, as in a home directory that all share, and have only Dask."""
    get_client = "from distributed import get_client; answer = get_client().submit(lambda: 5).result()"
    script = f"client.wait_for_workers(1)\nprint(json.dumps(everywhere(call, {get_client!r})))\n"
    with run_cluster("--nthreads", "2", workers=1, env=SYNCING) as cluster:
        assert person.run(cluster, script, **SYNCING) == [5]


def test_what_goes_wrong_is_raised_by_client_itself(person: Person, run_cluster: Any) -> None:
    """A node that cannot be synced, and a configuration that is not right, keep `Client(...)` from returning."""
    script = """
        import dask, sys
        from dask.distributed import Client
        from dask_pkgsync import SyncError
        if __name__ == "__main__":
            with dask.config.set({"pkgsync.extra": ["no-such-package-anywhere==1.0"]}):
                try:
                    Client(sys.argv[1])
                except SyncError as error:
                    print("SyncError", "no-such-package-anywhere" in str(error))
            with Client(sys.argv[1]) as client:  # the one that failed has left nothing behind
                print(client.submit(lambda: __import__("six").__version__).result(timeout=60))
        """
    path = person.write({"job.py": textwrap.dedent(script)}, "job") / "job.py"
    with run_cluster(workers=1) as cluster:
        code = f"import runpy; runpy.run_path({str(path)!r}, run_name='__main__')"
        env = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(person.home / "cache"), "DASK_PKGSYNC__MODULES": "false", **SYNCING}
        done = person.venv.run(code, cluster.address, **env)
        assert done.stdout.split("\n")[:2] == ["SyncError True", "1.17.0"], done.stderr


def test_a_task_on_a_worker_syncs_nothing_and_a_warning_cluster_lets_in(person: Person, tmp_path: Path) -> None:
    """What a task connects with is not a person's client; where only differences are told, Client() returns."""
    get_client = "from distributed import get_client; answer = get_client().submit(lambda: 5).result()"
    script = f"client.wait_for_workers(1)\nprint(json.dumps(everywhere(call, {get_client!r})))\n"
    (tmp_path / "cluster").mkdir()
    guarded = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": PRELOAD, "DASK_PKGSYNC__STOCK_CLIENTS": "refuse"}
    env = {**guarded, **SYNCING, "DASK_PKGSYNC__MODE": "warn"}
    with running(
        tmp_path / "cluster", person.venv, tmp_path / "cache", "--nthreads", "2", workers=1, env=env
    ) as cluster:
        assert person.run(cluster, script, **SYNCING) == [5]
        assert "synced" not in cluster.log("scheduler")
