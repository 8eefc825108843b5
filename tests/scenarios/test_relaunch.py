"""A running cluster of another Python and the oldest Dask is executed anew in the client's environment."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from clusters import (
    CRITICAL_PINS,
    OLDEST,
    OLDEST_PINS,
    SOURCE,
    Cluster,
    Person,
    Venv,
    Venvs,
    other_python,
    running,
    surroundings,
)
from distributed.security import Security

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.cluster

PACKAGES = (*CRITICAL_PINS, "six==1.17.0", str(SOURCE))
"""What the person has: the newest Dask, and one package that no node has."""

SEEN = """
import sys
from importlib.metadata import version
answer = [".".join(map(str, sys.version_info[:2])), version("distributed"), version("six")]
"""
"""What a task sees."""

LOOK = f"""
client.wait_for_workers(WORKERS, timeout=60)
print(json.dumps(everywhere(call, {SEEN!r})))
"""

SYNC = """
import json, sys
import dask_pkgsync as pkgsync
try:
    report = pkgsync.sync(sys.argv[1], relaunch=sys.argv[2] or None, modules=False, progress=False)
    print(json.dumps({"outcomes": [node.outcome for node in report.nodes], "notes": [*report.nodes[0].notes]}))
except pkgsync.PkgsyncError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""

RELEASE = """
report = pkgsync.release(client)
print(json.dumps({"outcomes": [node.outcome for node in report.nodes], "status": client.status}))
"""

VERSION = """
import sys
from dask.distributed import Client
with Client(sys.argv[1]) as client:
    client.wait_for_workers(1, 60)
    print(client.get_versions()["scheduler"]["packages"]["distributed"])
"""

PUBLISH = """
import sys
from dask.distributed import Client
with Client(sys.argv[1]) as client:
    if "prices" in client.list_datasets():
        client.unpublish_dataset("prices")
    else:
        client.publish_dataset(prices=client.submit(sum, [1, 2]))
"""


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Person:
    """Return somebody with the newest Dask."""
    return Person(tmp_path_factory.mktemp("person"), *PACKAGES)


@pytest.fixture(scope="module")
def image(venvs: Venvs) -> Venv:
    """Return the environment of a cluster of another Python, with the oldest Dask."""
    return venvs.make(*OLDEST_PINS, python=other_python())


def sync_at(person: Person, cluster: Cluster, relaunch: str = "", **env: str) -> dict[str, Any]:
    """Sync by the address of the scheduler, in a process of the person's."""
    settings = {"DASK_PKGSYNC__CACHE_DIRECTORY": str(person.home / "cache"), "HOME": str(person.home), **env}
    done = subprocess.run(
        [person.venv.python, "-c", SYNC, cluster.address, relaunch],
        capture_output=True,
        text=True,
        check=False,
        env=surroundings(**settings),
        cwd=person.home,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr + cluster.logs()
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def seen(person: Person, cluster: Cluster, workers: int) -> list[list[str]]:
    """Return what tasks on each worker see."""
    found: list[list[str]] = person.run(cluster, f"WORKERS = {workers}\n{LOOK}")
    return found


def wanted(workers: int) -> list[list[str]]:
    """Return what tasks see in the person's environment."""
    pins = dict(pin.split("==") for pin in CRITICAL_PINS)
    return [[".".join(map(str, sys.version_info[:2])), pins["distributed"], "1.17.0"]] * workers


@pytest.fixture
def cluster(tmp_path: Path, image: Venv, person: Person) -> Iterator[Cluster]:
    """Run a scheduler of the image."""
    cluster = Cluster(tmp_path, image, tmp_path / "cache")
    try:
        cluster.start_scheduler()
        yield cluster
    except BaseException:
        sys.stderr.write(cluster.logs())
        raise
    finally:
        cluster.stop()


def has_workers(image: Venv, cluster: Cluster, count: int) -> None:
    """Wait until so many workers have registered."""
    code = "import sys; from dask.distributed import Client\nwith Client(sys.argv[1]) as c: c.wait_for_workers(%d, 60)"
    image.run(code % count, cluster.address)


def test_a_cluster_of_another_python_and_dask_becomes_the_clients(
    person: Person, image: Venv, cluster: Cluster
) -> None:
    """The same processes, at the same address, run the person's Python and Dask, and so does who joins later.

    Before, the person reads the commands that would help, and somebody's dataset keeps the cluster as it is. A release
    gives the image back.
    """
    cluster.add_worker("--nworkers", "2", name="several")
    cluster.add_worker(name="single", nanny=False)
    has_workers(image, cluster, 3)
    address, pids = cluster.address, {name: process.pid for name, process in cluster.processes.items()}

    refused = sync_at(person, cluster)
    assert refused["error"] == "EnvironmentMismatchError"
    assert f"dask pkgsync sync {address} --relaunch idle" in refused["text"]
    assert f"dask pkgsync run --environment {address} -- python" in refused["text"]

    image.run(PUBLISH, address)
    busy = sync_at(person, cluster, "idle")
    assert busy["error"] == "RelaunchRefusedError"
    assert "published dataset prices" in busy["text"]
    image.run(PUBLISH, address)

    done = sync_at(person, cluster, "idle")
    assert done["outcomes"] == ["relaunched"] * 4
    assert done["notes"][0].startswith("the interpreter is CPython")
    assert cluster.address == address
    assert {name: process.poll() for name, process in cluster.processes.items()} == dict.fromkeys(pids)
    (whole,) = {psutil.Process(pid).environ()["VIRTUAL_ENV"] for pid in pids.values()}
    assert whole.startswith(str(cluster.cache))
    assert seen(person, cluster, 3) == wanted(3)

    late = cluster.add_worker(name="late", venv=image)
    assert seen(person, cluster, 4) == wanted(4)
    assert late.poll() is None

    released = person.run(cluster, RELEASE)
    assert sorted(released["outcomes"]) == ["relaunched"] * 5
    assert released["status"] == "closed"
    has_workers(image, cluster, 4)
    assert image.run(VERSION, address).stdout.split() == [OLDEST["distributed"]]
    assert {process.poll() for process in cluster.processes.values()} == {None}


PRELOAD_THAT_FAILS = """
import sys
guard = sys.modules.get("_dask_pkgsync_relaunch")
if guard is not None and guard.relaunched.run == "new":
    raise RuntimeError("this preload does not like the new environment")
"""


@pytest.mark.slow
def test_what_ran_before_runs_again_where_the_new_command_fails(
    person: Person, image: Venv, cluster: Cluster, tmp_path: Path
) -> None:
    """A node whose preload fails only in the new process is named with its last words; the others go on."""
    preload = tmp_path / "preload_that_fails.py"
    preload.write_text(PRELOAD_THAT_FAILS)
    cluster.add_worker(name="good")
    cluster.add_worker("--preload-nanny", str(preload), name="bad")
    has_workers(image, cluster, 2)
    failed = sync_at(person, cluster, "now")
    assert failed["error"] == "SyncError"
    assert "this preload does not like the new environment" in failed["text"]
    assert seen(person, cluster, 1) == wanted(1)


@pytest.mark.slow
def test_the_old_scheduler_runs_again_where_the_new_one_fails(
    person: Person, image: Venv, cluster: Cluster, tmp_path: Path
) -> None:
    """The scheduler's new command fails: everybody is back in the image, and the person reads why."""
    preload = tmp_path / "preload_that_fails.py"
    preload.write_text(PRELOAD_THAT_FAILS)
    cluster.stop()
    cluster.env["DASK_DISTRIBUTED__SCHEDULER__PRELOAD"] = json.dumps([str(preload)])
    cluster.scheduler_file.unlink()
    cluster.start_scheduler()
    cluster.add_worker(name="good")
    has_workers(image, cluster, 1)
    failed = sync_at(person, cluster, "now")
    assert failed["error"] == "SyncError"
    assert "this preload does not like the new environment" in failed["text"]
    assert image.run(VERSION, cluster.address).stdout.split() == [OLDEST["distributed"]]


KILLED_BEFORE_REGISTERING = """
import os, signal, sys
guard = sys.modules.get("_dask_pkgsync_relaunch")
if guard is not None and guard.relaunched.run == "new":
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_nodes_that_are_killed_are_named_and_the_others_go_on(
    person: Person, image: Venv, cluster: Cluster, tmp_path: Path
) -> None:
    """One is killed after it has prepared, another one in its new environment, before its worker registers."""
    preload = tmp_path / "killed_before_registering.py"
    preload.write_text(KILLED_BEFORE_REGISTERING)
    cluster.stop()
    cluster.env["DASK_PKGSYNC__RELAUNCH_TIMEOUT"] = "15s"
    cluster.scheduler_file.unlink()
    cluster.start_scheduler()
    cluster.add_worker(name="good")
    cluster.add_worker("--preload-nanny", str(preload), name="bad")
    has_workers(image, cluster, 2)
    failed = sync_at(person, cluster, "now")
    assert failed["error"] == "SyncError"
    assert "has not come back" in failed["text"]
    assert cluster.processes["bad"].wait(10) == -9
    assert seen(person, cluster, 1) == wanted(1)


@pytest.mark.slow
def test_a_cluster_with_tls_is_relaunched(
    person: Person, image: Venv, tmp_path: Path, certificates: dict[str, str]
) -> None:
    """The options of the commands, and the configuration of the client, have the certificates."""
    cert, key = certificates["cert"], certificates["key"]
    security = Security(tls_ca_file=cert, tls_client_cert=cert, tls_client_key=key, require_encryption=True)
    options = ("--tls-ca-file", cert, "--tls-cert", cert, "--tls-key", key)
    tls = {
        "DASK_DISTRIBUTED__COMM__TLS__CA_FILE": cert,
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT": cert,
        "DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY": key,
        "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true",
    }
    cluster = Cluster(tmp_path, image, tmp_path / "cache", options=options, security=security)
    try:
        cluster.start_scheduler()
        cluster.add_worker(name="good")
        cluster.wait_for(lambda: "Registered to" in cluster.log("good"), "the worker")
        assert sync_at(person, cluster, "idle", **tls)["outcomes"] == ["relaunched"] * 2
        assert cluster.address.startswith("tls://")
    finally:
        cluster.stop()


GOES_ON = f"""
client.wait_for_workers(1, timeout=60)
report = pkgsync.sync(client, relaunch="idle", modules=False, progress=False)
found = {{"outcomes": [node.outcome for node in report.nodes], "seen": everywhere(call, {SEEN!r})}}
found["clients"] = [one.state for one in pkgsync.status(client).clients]
print(json.dumps(found))
"""


@pytest.mark.slow
def test_a_connected_client_goes_on_after_the_relaunch(person: Person, venvs: Venvs, tmp_path: Path) -> None:
    """It does not count as somebody who would lose something, connects again by itself, and has synced then."""
    pins = [pin for pin in CRITICAL_PINS if not pin.startswith("cloudpickle")]
    image = venvs.make(*pins, "cloudpickle==3.0.0", python=other_python())
    with running(tmp_path, image, tmp_path / "cache") as cluster:
        found = person.run(cluster, GOES_ON)
    assert found == {"outcomes": ["relaunched"] * 2, "seen": wanted(1), "clients": ["synced"]}
